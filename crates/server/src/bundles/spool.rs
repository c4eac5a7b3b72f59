//! A bundle while it is computed: a file that one thread writes and that any number of clients follow.
//!
//! The file has no name, so a process that is killed leaves nothing behind, and what was read of it is never read from
//! memory: however large a bundle is and however many follow it, it costs the pieces that are on their way.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::sync::watch;

/// How far a computation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that can be read.
    pub(crate) written: u64,
    /// Whether there will be more.
    pub(crate) state: State,
}

/// What is known of the end of a computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It goes on.
    Growing,
    /// It is done, and what was written is all.
    Whole,
    /// It failed or was stopped: what was written is good for nothing.
    Broken,
}

/// The end at which a bundle is written. One that is dropped before it was finished leaves it broken.
pub(super) struct SpoolWriter {
    file: File,
    progress: watch::Sender<Progress>,
    is_cancelled: Arc<AtomicBool>,
    length_max: u64,
}

/// The end at which it is read.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    pub(super) file: Arc<File>,
    progress: watch::Receiver<Progress>,
}

/// A bundle broke off while it was followed.
#[derive(Debug, thiserror::Error)]
#[error("the computation of the bundle did not come to its end")]
pub(crate) struct BrokenOff;

/// Opens a spool in a directory. Writing fails once `is_cancelled` is set, or when more than `length_max` bytes come.
pub(super) fn spool(
    directory: &Path,
    is_cancelled: Arc<AtomicBool>,
    length_max: u64,
) -> anyhow::Result<(SpoolWriter, Spool)> {
    let opening = || format!("making a spool in {}", directory.display());
    std::fs::create_dir_all(directory).with_context(opening)?;
    let file = tempfile::tempfile_in(directory).with_context(opening)?;
    let reading = Arc::new(file.try_clone().with_context(opening)?);
    let (progress, receiver) = watch::channel(Progress { written: 0, state: State::Growing });
    let writer = SpoolWriter { file, progress, is_cancelled, length_max };
    Ok((writer, Spool { file: reading, progress: receiver }))
}

impl SpoolWriter {
    /// Says that what was written is the whole bundle; returns its length.
    pub(super) fn finish(self) -> u64 {
        self.progress.send_modify(|progress| progress.state = State::Whole);
        self.progress.borrow().written
    }
}

impl Write for SpoolWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was stopped"));
        }
        let written = self.progress.borrow().written;
        if written + bytes.len() as u64 > self.length_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has become too large to be kept"));
        }
        self.file.write_all(bytes)?;
        self.progress.send_modify(|progress| progress.written += bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.progress.send_if_modified(|progress| {
            let is_broken = progress.state == State::Growing;
            if is_broken {
                progress.state = State::Broken;
            }
            is_broken
        });
    }
}

impl Spool {
    /// How far it has come.
    pub(crate) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Waits until there is more than `read` bytes, or no more to come.
    pub(crate) async fn beyond(&self, read: u64) -> Result<Progress, BrokenOff> {
        let mut progress = self.progress.clone();
        let is_news = |progress: &Progress| progress.written > read || progress.state != State::Growing;
        let progress = *progress.wait_for(is_news).await.map_err(|_| BrokenOff)?;
        if progress.state == State::Broken { Err(BrokenOff) } else { Ok(progress) }
    }

    /// Waits until the bundle is whole; returns its length.
    pub(crate) async fn whole(&self) -> Result<u64, BrokenOff> {
        self.beyond(u64::MAX).await.map(|progress| progress.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(length_max: u64) -> (tempfile::TempDir, Arc<AtomicBool>, SpoolWriter, Spool) {
        let directory = tempfile::tempdir().unwrap();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let (writer, spool) =
            spool(&directory.path().join("new"), Arc::clone(&is_cancelled), length_max).unwrap();
        (directory, is_cancelled, writer, spool)
    }

    #[tokio::test]
    async fn what_is_written_is_told_and_has_no_name() {
        let (directory, _, mut writer, spool) = open(100);
        assert_eq!(std::fs::read_dir(directory.path().join("new")).unwrap().count(), 0);
        writer.write_all(b"some").unwrap();
        assert_eq!(spool.beyond(3).await.unwrap(), Progress { written: 4, state: State::Growing });
        let waiting = tokio::spawn({
            let spool = spool.clone();
            async move { spool.beyond(4).await }
        });
        writer.write_all(b"thing").unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().written, 9);
        assert_eq!(writer.finish(), 9);
        assert_eq!(spool.whole().await.unwrap(), 9);
        assert_eq!(spool.beyond(9).await.unwrap().state, State::Whole);
    }

    #[tokio::test]
    async fn what_is_not_finished_is_broken() {
        let (_directory, is_cancelled, mut writer, spool) = open(5);
        writer.write_all(b"some").unwrap();
        assert!(writer.write_all(b"thing").is_err(), "too long");
        writer.write_all(b"t").unwrap();
        is_cancelled.store(true, Ordering::Relaxed);
        assert!(writer.write_all(b"h").is_err(), "stopped");
        drop(writer);
        assert!(spool.beyond(0).await.is_err() && spool.whole().await.is_err());
        assert_eq!(spool.progress().state, State::Broken);
    }
}
