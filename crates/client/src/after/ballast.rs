//! Room for going back, set aside before readers are switched.
//!
//! What an update starts may fill the disk, and going back has to write a little all the same: a journal, and what the
//! files look like. So as much is taken beforehand, where an update can still be refused, and given free when it is
//! needed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::failure::Failure;

const FILE: &str = "ballast";
/// What the notes and the journal take, with much to spare.
const BYTES: u64 = 256 << 10;
/// What grows with a tree, as far as it has to be written anew: the beginning of the names of such files.
const GROWS: &str = "stat-cache";
/// More than that is not set aside for any tree.
const BYTES_MAX: u64 = 64 << 20;
const PIECE: usize = 4 << 10;

/// Sets the room aside in a directory of state, for the targets whose state is in `targets`.
pub(super) fn reserve(state: &Path, targets: &[&Path]) -> Result<(), Failure> {
    let path = state.join(FILE);
    let reserved = needed(targets).and_then(|bytes| take(&File::create(&path)?, bytes));
    reserved.map_err(|error| {
        release(state);
        Failure::from(error).context("setting room aside for going back")
    })
}

/// Gives it free.
pub(crate) fn release(state: &Path) {
    // One that stays is taken over by the next update.
    let _ = fs::remove_file(state.join(FILE));
}

fn needed(targets: &[&Path]) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for state in targets {
        bytes = bytes.saturating_add(BYTES);
        for entry in fs::read_dir(state)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(GROWS.as_bytes()) {
                bytes = bytes.saturating_add(entry.metadata()?.len());
            }
        }
    }
    Ok(bytes.min(BYTES_MAX))
}

fn take(mut file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP) => {}
        taken => return taken.map_err(Into::into),
    }
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let piece = left.min(PIECE);
        file.write_all(&[0; PIECE][..piece])?;
        left -= piece;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_grows_with_the_tree_up_to_a_bound() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        let reserved = || {
            reserve(state, &[state]).unwrap();
            state.join(FILE).metadata().unwrap().len()
        };
        assert_eq!(reserved(), BYTES);
        fs::write(state.join("stat-cache"), [0; 1000]).unwrap();
        fs::write(state.join("other"), [0; 1000]).unwrap();
        assert_eq!(reserved(), BYTES + 1000);
        // Targets that go back together take as much room as all of them do.
        assert_eq!(needed(&[state, state]).unwrap(), 2 * (BYTES + 1000));
        File::create(state.join("stat-cache.1")).unwrap().set_len(BYTES_MAX).unwrap();
        assert_eq!(needed(&[state]).unwrap(), BYTES_MAX);
        release(state);
        assert!(!state.join(FILE).exists());
    }
}
