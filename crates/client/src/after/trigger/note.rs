//! What a trigger remembers of a host between its stages: where links led, one in each file.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::shown;
use crate::realm::trust_store;
use crate::state_dir::make_private;

/// The longest path that is read.
const PATH_BYTES_MAX: u64 = 4096;
/// Notes of one directory that are kept.
const REMEMBERED_MAX: usize = 50;

/// Notes durably what a link leads to, through as many links as there are.
pub(super) fn write(link: &Path, file: &Path) -> Result<(), String> {
    let leads_to = link
        .canonicalize()
        .map_err(|error| format!("what {} leads to cannot be found out: {error}", shown(link)))?;
    let written =
        file.parent().map_or(Ok(()), make_private).map_err(|error| error.to_string()).and_then(|()| {
            let written = trust_store::write(file, leads_to.as_os_str().as_bytes());
            written.map_err(|failure| failure.in_one_line())
        });
    written.map_err(|reason| format!("{} cannot be noted: {reason}", shown(&leads_to)))
}

/// What was noted, if anything was.
pub(super) fn read(file: &Path) -> Option<PathBuf> {
    let bytes = fs::read(file).ok().filter(|bytes| bytes.len() as u64 <= PATH_BYTES_MAX)?;
    // It is run later on: anything but a path from the root would be looked for elsewhere.
    Some(PathBuf::from(OsStr::from_bytes(&bytes))).filter(|path| path.is_absolute())
}

/// Notes durably what a link leads to as a file of a directory of such notes, of which the newest stay.
pub(super) fn remember(link: &Path, directory: &Path, name: &str) -> Result<(), String> {
    write(link, &directory.join(name))?;
    let found = fs::read_dir(directory).into_iter().flatten().map_while(Result::ok);
    let mut notes: Vec<_> =
        found.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    notes.sort_unstable();
    for (_, note) in &notes[..notes.len().saturating_sub(REMEMBERED_MAX)] {
        // One that stays is only a little room.
        let _ = fs::remove_file(note);
    }
    Ok(())
}

/// Removes notes, so that none is there after a crash either.
pub(super) fn remove(files: &[PathBuf]) -> Result<(), String> {
    let failed = |file: &Path, error: io::Error| format!("{} cannot be removed: {error}", shown(file));
    for file in files {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(file, error)),
            _ => {}
        }
    }
    let directory = files.first().and_then(|file| file.parent()).filter(|directory| directory.is_dir());
    directory.map_or(Ok(()), |directory| {
        File::open(directory).and_then(|opened| opened.sync_all()).map_err(|error| failed(directory, error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_leads_to_is_known_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("system-1")).unwrap();
        std::os::unix::fs::symlink("system-1", root.join("profile")).unwrap();
        std::os::unix::fs::symlink("profile", root.join("current")).unwrap();
        let file = root.join("notes/system");
        assert_eq!(read(&file), None);
        write(&root.join("current"), &file).unwrap();
        assert_eq!(read(&file), Some(root.join("system-1")));
        fs::write(&file, "system-1").unwrap();
        assert_eq!(read(&file), None, "only a path from the root");
        remove(std::slice::from_ref(&file)).unwrap();
        remove(std::slice::from_ref(&file)).unwrap();
        assert!(!file.exists());
        for number in 0..REMEMBERED_MAX + 3 {
            remember(&root.join("current"), &root.join("all"), &number.to_string()).unwrap();
        }
        assert_eq!(fs::read_dir(root.join("all")).unwrap().count(), REMEMBERED_MAX);
        let missing = write(&root.join("none"), &file).unwrap_err();
        assert!(missing.contains("none leads to cannot be found out"), "{missing}");
    }
}
