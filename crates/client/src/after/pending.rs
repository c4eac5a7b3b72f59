//! What is remembered of versions that were not found healthy yet, and of those that were found not to be.
//!
//! A version is noted before readers are switched to it, and the note goes when it is confirmed. So one that is met
//! while nobody works on its target is one whose run did not get that far: it was killed, or the machine went down. What
//! was noted as failed is known by its manifest, and not tried again by itself.
//!
//! What `smart-sync rebuild` does to a machine is noted in the same way. The tree is none that is gone back from then.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smart_sync_store::id::ManifestId;

use super::moment::Moment;
use super::trigger::nixos::Override;
use super::trigger::{After, Changed};
use crate::failure::{Exit, Failure};
use crate::realm::trust_store::write;

const PENDING: &str = "pending";
/// The paths that the version has changed, each with a NUL behind it.
const CHANGED: &str = "pending-changed";
/// Of a list of changes that is longer, nothing is remembered: then every command is one that it needs.
const CHANGED_BYTES_MAX: u64 = 64 << 20;
const FAILED: &str = "failed";
/// Failed versions that are remembered.
const FAILED_MAX: usize = 50;

/// A version that was not confirmed yet, or the versions of all targets of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Pending {
    /// Its manifest; of a set, what that is known by.
    pub(crate) manifest: String,
    /// The name of the version, or the number of the set, that is gone back to, where there is one.
    pub(crate) previous: Option<String>,
    /// When readers were about to be switched to it, in seconds since 1970.
    pub(crate) since: u64,
    /// Which start of the machine that was, and what is noted of the time since then counts from.
    #[serde(default)]
    pub(crate) boot: String,
    /// What it waits for.
    #[serde(default)]
    pub(crate) phase: Phase,
    /// Which run it is on trial for.
    #[serde(default)]
    pub(crate) run: Run,
    /// What the command line of that run said of NixOS systems: it says what has to be taken back.
    #[serde(default)]
    pub(crate) said: Override,
}

/// A run that puts a version on trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Run {
    /// It has switched readers to it.
    #[default]
    Update,
    /// It has run what is configured for it once more.
    Rebuild,
}

/// What a version that is not confirmed waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// The commands and checks of a run that is at work, or has died.
    #[default]
    Proving,
    /// Somebody who confirms it.
    Waiting(Window),
    /// The machine to be started again.
    Rebooting,
    /// The commands for going back: readers were switched back already.
    Returning(Return),
}

/// A target that is on its way back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Return {
    /// Why it goes back.
    pub(crate) reason: String,
    /// How often the commands were begun.
    pub(crate) attempts: u32,
    /// Who goes back.
    #[serde(default)]
    pub(crate) by: By,
}

/// Who goes back to a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// The target itself, because the one after it is not healthy.
    #[default]
    Itself,
    /// Somebody who has chosen it.
    Somebody,
}

/// How long a version waits for somebody who confirms it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Window {
    /// How long the machine has been up at its end.
    pub(crate) until: Duration,
    /// How long it is.
    pub(crate) within: Duration,
    /// The connection over which the version was applied, if it was one of ssh.
    pub(crate) connection: Option<String>,
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

    /// What is run and looked at for it, on a target where this is configured.
    pub(crate) fn of_run(&self, configured: &After) -> After {
        configured.with_nixos(&self.said)
    }

    /// Whether something can be gone back to: a version, or what triggers know themselves.
    pub(crate) fn can_go_back(&self, after: &After) -> bool {
        self.previous.is_some() || after.takes_back()
    }

    /// The same version, which waits for something else from now on.
    pub(crate) fn in_phase(self, phase: Phase, now: &Moment) -> Self {
        Self { phase, boot: now.boot.clone(), ..self }
    }

    pub(crate) fn remove(state: &Path) -> Result<(), Failure> {
        // Without its note, a list means nothing; the next one is written over it.
        remove(&state.join(PENDING))?;
        Self::forget_changed(state)
    }

    /// Forgets what the version has changed.
    pub(crate) fn forget_changed(state: &Path) -> Result<(), Failure> {
        remove(&state.join(CHANGED))
    }

    /// Remembers what the version has changed, for commands that wait for its confirmation.
    pub(crate) fn keep_changed(state: &Path, changed: Changed<'_>) -> Result<(), Failure> {
        let path = state.join(CHANGED);
        match changed {
            Changed::Paths(paths) => {
                let list: Vec<&[u8]> = paths.iter().flat_map(|path| [&**path, b"\0"]).collect();
                write(&path, &list.concat())
            }
            Changed::Unknown => remove(&path),
        }
    }

    /// What the version has changed, if that is remembered.
    pub(crate) fn changed(state: &Path) -> Result<Option<Vec<Box<[u8]>>>, Failure> {
        let path = state.join(CHANGED);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut list = Vec::new();
        if file.take(CHANGED_BYTES_MAX + 1).read_to_end(&mut list)? as u64 > CHANGED_BYTES_MAX {
            return Ok(None);
        }
        let paths = list.split_inclusive(|byte| *byte == 0);
        // What has no end is not whole.
        Ok(paths.map(|path| path.strip_suffix(b"\0").map(Into::into)).collect())
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

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
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

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    write(path, &serde_json::to_vec(value).expect("texts and numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_has_changed_is_remembered_as_it_was() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        assert_eq!(Pending::changed(state).unwrap(), None);
        let paths: Vec<Box<[u8]>> = vec![b"etc/fstab"[..].into(), b"with\nnewline"[..].into()];
        for expected in [Some(paths), Some(Vec::new()), None] {
            let changed = expected.as_deref().map_or(Changed::Unknown, Changed::Paths);
            Pending::keep_changed(state, changed).unwrap();
            assert_eq!(Pending::changed(state).unwrap(), expected);
        }
        fs::write(state.join(CHANGED), b"one\0tw").unwrap();
        assert_eq!(Pending::changed(state).unwrap(), None);
        Pending::remove(state).unwrap();
    }

    /// Notes of versions that knew no more than that a run had not ended.
    #[test]
    fn an_older_note_is_that_of_a_run_that_has_died() {
        let note = br#"{"manifest":"m","previous":"smart-sync-1","since":1}"#;
        let pending: Pending = serde_json::from_slice(note).unwrap();
        assert_eq!((pending.phase, &*pending.boot), (Phase::Proving, ""));
    }

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
