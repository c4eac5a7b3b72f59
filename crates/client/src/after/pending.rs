//! What is remembered of versions that were not found healthy yet, and of those that were found not to be.
//!
//! A version is noted before readers are switched to it, and the note goes when it is confirmed. So one that is met
//! while nobody works on its target is one whose run did not get that far: it was killed, or the machine went down. What
//! was noted as failed is known by its manifest, and not tried again by itself.

use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smart_sync_store::id::ManifestId;

use crate::failure::{Exit, Failure};
use crate::realm::trust_store::write;

const PENDING: &str = "pending";
const FAILED: &str = "failed";
/// Failed versions that are remembered.
const FAILED_MAX: usize = 50;

/// A version that was not confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Pending {
    /// Its manifest.
    pub(crate) manifest: String,
    /// The name of the version that is gone back to, where there is one.
    pub(crate) previous: Option<String>,
    /// When readers were about to be switched to it, in seconds since 1970.
    pub(crate) since: u64,
}

/// A version that was not healthy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Failed {
    /// Its manifest.
    pub(crate) manifest: String,
    /// Why.
    pub(crate) reason: String,
    /// When that was found, in seconds since 1970.
    pub(crate) since: u64,
}

impl Pending {
    pub(crate) fn read(state: &Path) -> Result<Option<Self>, Failure> {
        read(&state.join(PENDING))
    }

    pub(crate) fn write(&self, state: &Path) -> Result<(), Failure> {
        write_json(&state.join(PENDING), self)
    }

    pub(crate) fn remove(state: &Path) -> Result<(), Failure> {
        match fs::remove_file(state.join(PENDING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Failed {
    /// What is known of a manifest, if it failed here.
    pub(crate) fn find(state: &Path, manifest: ManifestId) -> Result<Option<Self>, Failure> {
        let all: Vec<Self> = read(&state.join(FAILED))?.unwrap_or_default();
        Ok(all.into_iter().find(|failed| failed.manifest == manifest.to_string()))
    }

    /// Remembers it.
    pub(crate) fn note(self, state: &Path) -> Result<(), Failure> {
        let path = state.join(FAILED);
        let mut all: Vec<Self> = read(&path)?.unwrap_or_default();
        all.retain(|failed| failed.manifest != self.manifest);
        all.push(self);
        all.drain(..all.len().saturating_sub(FAILED_MAX));
        write_json(&path, &all)
    }

    /// Forgets what was known of a manifest: it is healthy now.
    pub(crate) fn forget(state: &Path, manifest: &str) -> Result<(), Failure> {
        let path = state.join(FAILED);
        let Some(mut all) = read::<Vec<Self>>(&path)? else { return Ok(()) };
        let before = all.len();
        all.retain(|failed| failed.manifest != manifest);
        if all.len() < before { write_json(&path, &all) } else { Ok(()) }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::from(error).context(format!("reading {}", path.display()))),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::new(Exit::General, error).context(format!("reading {}", path.display())).hint(
                "it is damaged, or of a newer smart-sync; remove it when you know what the target holds",
            )
        }),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    write(path, &serde_json::to_vec(value).expect("texts and numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_known_until_it_is_healthy() {
        let state = tempfile::tempdir().unwrap();
        let manifest = |byte: u8| ManifestId::from_bytes([byte; 32]);
        let failed = |byte: u8| Failed {
            manifest: manifest(byte).to_string(),
            reason: format!("reason {byte}"),
            since: 1,
        };
        for byte in 0..=u8::try_from(FAILED_MAX).unwrap() {
            failed(byte).note(state.path()).unwrap();
        }
        assert_eq!(Failed::find(state.path(), manifest(0)).unwrap(), None);
        assert_eq!(Failed::find(state.path(), manifest(1)).unwrap(), Some(failed(1)));
        Failed::forget(state.path(), &manifest(1).to_string()).unwrap();
        assert_eq!(Failed::find(state.path(), manifest(1)).unwrap(), None);
        assert_eq!(Failed::find(state.path(), manifest(2)).unwrap(), Some(failed(2)));
    }
}
