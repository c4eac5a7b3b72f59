//! Files of profiles that were read before, by the trees that they are in.
//!
//! A profile changes seldom and is read in every pull: what is here is not asked for again. Each was verified when it
//! came, and nobody else can write here. It may all be deleted at any time.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use smart_sync_store::id::ManifestId;

use super::document::BYTES_MAX;
use crate::failure::Failure;
use crate::realm::trust_store::write;
use crate::state_dir::make_private;

const DIRECTORY: &str = "profile-files";
/// How many are kept that the last pull did not need.
const UNUSED_MAX: usize = 64;

/// The file of a profile's tree, if it was read before.
pub(super) fn find(state_dir: &Path, manifest: ManifestId) -> Option<Vec<u8>> {
    let bytes = fs::read(path_of(state_dir, manifest)).ok()?;
    (bytes.len() as u64 <= BYTES_MAX).then_some(bytes)
}

/// Keeps the file of a profile's tree.
pub(super) fn keep(state_dir: &Path, manifest: ManifestId, bytes: &[u8]) -> Result<(), Failure> {
    let directory = state_dir.join(DIRECTORY);
    make_private(&directory)
        .map_err(|error| Failure::from(error).context(format!("making {}", directory.display())))?;
    write(&path_of(state_dir, manifest), bytes)
}

/// Forgets files that are not used any more, once there are many.
pub(super) fn prune(state_dir: &Path, used: &HashSet<ManifestId>) {
    let used: HashSet<PathBuf> = used.iter().map(|manifest| path_of(state_dir, *manifest)).collect();
    let Ok(entries) = fs::read_dir(state_dir.join(DIRECTORY)) else { return };
    let unused = entries.flatten().map(|entry| entry.path()).filter(|path| !used.contains(path));
    let unused: Vec<PathBuf> = unused.collect();
    if unused.len() > UNUSED_MAX {
        for path in unused {
            // One that stays is in nobody's way.
            let _ = fs::remove_file(path);
        }
    }
}

fn path_of(state_dir: &Path, manifest: ManifestId) -> PathBuf {
    state_dir.join(DIRECTORY).join(manifest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays() {
        let state = tempfile::tempdir().unwrap();
        let manifest = |byte: u8| ManifestId::from_bytes([byte; 32]);
        for byte in 0..65 {
            keep(state.path(), manifest(byte), &[byte]).unwrap();
        }
        let used = HashSet::from([manifest(3)]);
        prune(state.path(), &used);
        assert_eq!(find(state.path(), manifest(64)), Some(vec![64]), "there are not many");
        keep(state.path(), manifest(65), b"x").unwrap();
        prune(state.path(), &used);
        assert_eq!(
            (find(state.path(), manifest(3)), find(state.path(), manifest(64))),
            (Some(vec![3]), None)
        );
    }
}
