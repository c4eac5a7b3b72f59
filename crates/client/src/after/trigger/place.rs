//! Files of a host that triggers write: each whole and on the disk, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::shown;

/// What a file is called until it is whole.
const BESIDE: &str = ".smart-sync.new";

/// Puts a file of this mode in its place.
pub(super) fn place(directory: &Path, name: &str, mode: u32, mut from: impl Read) -> Result<(), String> {
    let beside = directory.join(BESIDE);
    let mut put = || -> io::Result<()> {
        // One that a run left which was killed may be of another mode.
        remove_if_there(&beside)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        io::copy(&mut from, &mut file)?;
        file.sync_all()?;
        fs::rename(&beside, directory.join(name))?;
        File::open(directory)?.sync_all()
    };
    put().map_err(|error| format!("{} cannot be written: {error}", shown(&directory.join(name))))
}

/// Removes files, durably. What is not there is gone already.
pub(super) fn remove(directory: &Path, names: &[String]) -> Result<(), String> {
    for name in names {
        let path = directory.join(name);
        remove_if_there(&path).map_err(|error| format!("{} cannot be removed: {error}", shown(&path)))?;
    }
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", shown(directory)))
        }
        _ => Ok(()),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(())
        }
        removed => removed,
    }
}
