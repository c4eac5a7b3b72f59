//! Files that are there after a power cut: temporary, fsync, rename, fsync of the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context;

/// Replaces a file that others may read.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o644)
}

/// Replaces a file that only its owner may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let directory = path.parent().context("a file needs a directory")?;
    let name = path.file_name().context("a file needs a name")?.to_string_lossy();
    let temporary = directory.join(format!(".{name}.tmp"));
    let written = open_alone(&temporary, mode).and_then(|mut file| {
        let written = (|| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        })();
        if written.is_err() {
            // The error of the write is the one to report. The file is still this writer's alone.
            let _ = fs::remove_file(&temporary);
        }
        written
    });
    let written = written.and_then(|()| File::open(directory)?.sync_all());
    written.with_context(|| format!("writing {}", path.display()))
}

/// Opens a temporary file, empty, that no other writer has.
///
/// Its name is always the same, so that what a killed writer left is written over; its lock keeps two writers apart.
/// The one who waited for the lock may find that the file has been renamed to its place meanwhile: then it is no
/// longer the temporary file, and must not be touched.
fn open_alone(temporary: &Path, mode: u32) -> io::Result<File> {
    loop {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(mode).open(temporary)?;
        file.lock()?;
        let inode = file.metadata()?.ino();
        if fs::symlink_metadata(temporary).is_ok_and(|found| found.ino() == inode) {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_writer_left_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".file.tmp"), "longer than what comes").unwrap();
        write(&directory.path().join("file"), b"new").unwrap();
        assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_many_writers_at_once_each_writes_a_whole_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::thread::scope(|scope| {
            for writer in 0..8u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write(path, &vec![writer; 10_000]).unwrap();
                        let found = fs::read(path).unwrap();
                        assert!(found.len() == 10_000 && found.iter().all(|byte| *byte == found[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
