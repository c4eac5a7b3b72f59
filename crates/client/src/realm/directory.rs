//! An export in a directory of this machine, such as a disk that was carried here.
//!
//! It is asked for the same paths as a server, and is trusted as little: what is there may be anything, so only
//! regular files are read, never more of them than could be right, and nothing outside of the directory.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

/// The directory of an export.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    path: PathBuf,
}

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum ReadFileError {
    /// It is not there.
    Absent,
    /// It is longer than any right one.
    TooLong,
    /// It ends before the range does.
    Short,
    /// It could not be read.
    Failed(io::Error),
}

impl Directory {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads a file of at most `limit` bytes, on a thread that may wait for the disk.
    pub(super) async fn read(&self, path: &str, limit: u64) -> Result<Bytes, ReadFileError> {
        self.with(path, move |file, length| {
            if length > limit {
                return Err(ReadFileError::TooLong);
            }
            // It may grow while it is read.
            let mut bytes = Vec::new();
            file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > limit { Err(ReadFileError::TooLong) } else { Ok(bytes.into()) }
        })
        .await
    }

    /// Reads exactly a range of a file.
    pub(super) async fn read_range(&self, path: &str, start: u64, end: u64) -> Result<Bytes, ReadFileError> {
        self.with(path, move |file, length| {
            if end > length {
                return Err(ReadFileError::Short);
            }
            let length = usize::try_from(end - start).map_err(|_| ReadFileError::TooLong)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, start)?;
            Ok(bytes.into())
        })
        .await
    }

    /// Reads what a file has from a place on, of that at most so much; nothing at its end.
    pub(super) async fn read_on(&self, path: &str, start: u64, most: u64) -> Result<Bytes, ReadFileError> {
        self.with(path, move |file, length| {
            let wanted = length.saturating_sub(start).min(most);
            let mut bytes = vec![0; usize::try_from(wanted).map_err(|_| ReadFileError::TooLong)?];
            file.read_exact_at(&mut bytes, start)?;
            Ok(bytes.into())
        })
        .await
    }

    async fn with(
        &self,
        path: &str,
        read: impl FnOnce(File, u64) -> Result<Bytes, ReadFileError> + Send + 'static,
    ) -> Result<Bytes, ReadFileError> {
        // What is asked, a file does not answer.
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let directory = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let file = open_below(&directory, &path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(ReadFileError::Absent);
            }
            read(file, metadata.len())
        });
        reading.await.map_err(|error| ReadFileError::Failed(io::Error::other(error)))?
    }
}

impl From<io::Error> for ReadFileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent,
            io::ErrorKind::UnexpectedEof => Self::Short,
            _ => Self::Failed(error),
        }
    }
}

/// Opens a file below a directory, wherever symbolic links in it lead. A pipe is not waited for.
fn open_below(directory: &Path, path: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = open(directory, flags | OFlags::DIRECTORY, Mode::empty())?;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(openat2(directory, path, flags, Mode::empty(), ResolveFlags::BENEATH)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn only_regular_files_of_the_directory_are_read() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let export = outside.path().join("export");
        fs::create_dir_all(export.join("pack")).unwrap();
        fs::write(export.join("pack/a"), "0123456789").unwrap();
        std::os::unix::fs::symlink("pack/a", export.join("within")).unwrap();
        std::os::unix::fs::symlink("../secret", export.join("out")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", export.join("absolute")).unwrap();
        rustix::fs::mknodat(
            open(&export, OFlags::RDONLY, Mode::empty()).unwrap(),
            "pipe",
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let directory = Directory::new(export);
        assert_eq!(directory.read("pack/a?size=5", 10).await.unwrap(), "0123456789");
        assert_eq!(directory.read("within", 10).await.unwrap(), "0123456789");
        assert_eq!(directory.read_range("pack/a", 2, 5).await.unwrap(), "234");
        assert!(matches!(directory.read("pack/a", 9).await, Err(ReadFileError::TooLong)));
        assert!(matches!(directory.read_range("pack/a", 8, 11).await, Err(ReadFileError::Short)));
        for absent in ["nothing", "pack", "pack/a/b", "pipe"] {
            assert!(matches!(directory.read(absent, 10).await, Err(ReadFileError::Absent)), "{absent}");
        }
        for outside in ["out", "absolute", "../secret"] {
            assert!(matches!(directory.read(outside, 10).await, Err(ReadFileError::Failed(_))), "{outside}");
        }
        let gone = Directory::new("/nothing/there".into());
        assert!(matches!(gone.read("checkpoint", 10).await, Err(ReadFileError::Absent)));
    }
}
