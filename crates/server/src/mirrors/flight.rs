//! A file on its way from upstream, and those who wait for it.
//!
//! What comes is written to a file without a name that anything else would read, and everybody who asked reads from
//! there at a pace of their own: one who is slow or goes away holds up nobody. The last bytes are not given to anybody
//! before the whole is known to be what it has to be, so that nobody ever has all of something else.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use smart_sync_sync::kinds::pull::Expected;
use tokio::sync::watch;

/// How many bytes at the end wait for the verdict. A file that is not longer waits as a whole.
const HELD_BACK: u64 = 64 << 10;
/// How much is read at once for whoever waits.
const READ_LEN: u64 = 256 << 10;

/// Why a file did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No upstream has it.
    Absent,
    /// All upstreams are left alone for so many seconds.
    Away(u64),
    /// More is asked for at once than may be.
    Busy,
    /// None gave it as it has to be.
    Upstream,
    /// It could not be kept here.
    Local {
        /// What happened.
        reason: String,
        /// Whether the disk is full.
        is_full: bool,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => formatter.write_str("no upstream has it"),
            Self::Away(seconds) => write!(formatter, "all upstreams are left alone for {seconds} seconds"),
            Self::Busy => formatter.write_str("too many files are on their way"),
            Self::Upstream => formatter.write_str("no upstream gave it as it has to be"),
            Self::Local { reason, .. } => write!(formatter, "it cannot be kept here: {reason}"),
        }
    }
}

impl Failure {
    /// A failure on this side.
    pub(super) fn local(error: &anyhow::Error) -> Self {
        let is_full = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
        Self::Local { reason: format!("{error:#}"), is_full }
    }
}

/// How far a file has come.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// So much of it may be given to those who wait.
    released: u64,
    outcome: Option<Result<(), Failure>>,
    /// Whether nothing more is done for it.
    has_landed: bool,
}

/// A file on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Its name.
    pub(crate) name: String,
    /// What it has to be.
    pub(crate) expected: Expected,
    /// When it was first asked for, in seconds since 1970.
    pub(crate) time: u64,
    file: File,
    progress: watch::Sender<Progress>,
}

impl Flight {
    /// A file of which nothing has come; `file` is empty, and open for reading and writing.
    pub(super) fn new(name: String, expected: Expected, time: u64, file: File) -> Self {
        Self { name, expected, time, file, progress: watch::Sender::default() }
    }

    /// Writes what has come. On a thread that may block.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// So much is there now, of which those who wait are given what is not held back.
    pub(super) fn came(&self, written: u64) {
        let released = written.min(self.expected.size.saturating_sub(HELD_BACK));
        self.progress.send_if_modified(|progress| {
            let is_more = released > progress.released;
            progress.released = progress.released.max(released);
            is_more
        });
    }

    /// Whether anybody may have been given a part of it.
    pub(super) fn has_released(&self) -> bool {
        self.progress.borrow().released > 0
    }

    /// It is what it has to be: the rest is given to those who wait.
    pub(super) fn release(&self) {
        let size = self.expected.size;
        self.progress.send_modify(|progress| (progress.released, progress.outcome) = (size, Some(Ok(()))));
    }

    /// It does not come. Whoever has a part of it is cut off. Has no effect on one that was released.
    pub(super) fn fail(&self, failure: Failure) {
        self.progress.send_if_modified(|progress| {
            let is_over = progress.outcome.is_some();
            if !is_over {
                progress.outcome = Some(Err(failure));
            }
            !is_over
        });
    }

    /// Nothing more is done for it: it is kept, or lost.
    pub(super) fn land(&self) {
        self.progress.send_modify(|progress| progress.has_landed = true);
    }

    /// Waits until nothing more is done for it, and says whether all of it came.
    pub(super) async fn landed(&self) -> Result<(), Failure> {
        let mut progress = self.progress.subscribe();
        let landed = progress.wait_for(|progress| progress.has_landed).await;
        match landed.map(|progress| progress.outcome.clone()) {
            Ok(Some(outcome)) => outcome,
            // This flight holds the other end.
            Ok(None) | Err(_) => Err(Failure::Upstream),
        }
    }

    /// Waits until there is something to give, and so a status to answer with.
    pub(crate) async fn begun(&self) -> Result<(), Failure> {
        let mut progress = self.progress.subscribe();
        let begun = progress.wait_for(|progress| progress.released > 0 || progress.outcome.is_some()).await;
        match begun.map(|progress| progress.clone()) {
            Ok(Progress { outcome: Some(Err(failure)), .. }) => Err(failure),
            Ok(_) => Ok(()),
            // This flight holds the other end.
            Err(_) => Err(Failure::Upstream),
        }
    }

    /// The bytes of a range, as they come.
    pub(crate) fn read(self: Arc<Self>, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let progress = self.progress.subscribe();
        stream::try_unfold((self, progress, range), |(flight, mut progress, range)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            let enough = |progress: &Progress| progress.released > range.start || progress.outcome.is_some();
            let released = match progress.wait_for(enough).await {
                Ok(now) if now.released > range.start && !matches!(now.outcome, Some(Err(_))) => now.released,
                _ => return Err(io::Error::other("the file does not come from upstream as it has to be")),
            };
            let end = released.min(range.end).min(range.start + READ_LEN);
            let reading = Arc::clone(&flight);
            let piece = tokio::task::spawn_blocking(move || reading.read_at(range.start..end));
            let piece = piece.await.map_err(io::Error::other)??;
            Ok(Some((piece, (flight, progress, end..range.end))))
        })
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Bytes> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut piece = vec![0; length];
        self.file.read_exact_at(&mut piece, range.start)?;
        Ok(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};

    use super::*;

    fn flight(size: u64) -> Arc<Flight> {
        let expected = Expected { size, blake2b: [0; 64], sha512: [0; 64] };
        Arc::new(Flight::new("a".to_owned(), expected, 1, tempfile::tempfile().unwrap()))
    }

    fn add(flight: &Flight, bytes: &[u8], at: u64) {
        flight.write(bytes, at).unwrap();
        flight.came(at + bytes.len() as u64);
    }

    #[tokio::test]
    async fn what_has_come_is_given_but_for_the_end() {
        let size = HELD_BACK + 10;
        let flight = flight(size);
        let mut reading = Box::pin(Arc::clone(&flight).read(0..size));
        assert!(flight.begun().now_or_never().is_none() && reading.next().now_or_never().is_none());
        add(&flight, b"beginning", 0);
        assert_eq!(flight.begun().await, Ok(()));
        assert_eq!(reading.next().await.unwrap().unwrap(), "beginning");
        add(&flight, &vec![b'x'; usize::try_from(HELD_BACK).unwrap()], 9);
        add(&flight, b"e", size - 1);
        assert_eq!(reading.next().await.unwrap().unwrap(), "x");
        assert!(reading.next().now_or_never().is_none(), "all has come, and is not known to be right");
        flight.release();
        let rest: Vec<Bytes> = reading.try_collect().await.unwrap();
        assert_eq!(rest.concat().len() as u64, HELD_BACK);
        let part: Vec<Bytes> = flight.read(size - 2..size).try_collect().await.unwrap();
        assert_eq!(part.concat(), b"xe");
    }

    #[tokio::test]
    async fn whoever_has_a_part_of_what_is_wrong_is_cut_off() {
        let size = HELD_BACK + 10;
        let flight = flight(size);
        add(&flight, b"beginning", 0);
        let mut reading = Box::pin(Arc::clone(&flight).read(0..size));
        assert_eq!(reading.next().await.unwrap().unwrap(), "beginning");
        flight.fail(Failure::Upstream);
        assert!(reading.next().await.unwrap().is_err());
        assert_eq!(flight.begun().await, Err(Failure::Upstream));
        flight.release();
        flight.fail(Failure::Absent);
        assert_eq!(flight.begun().await, Ok(()), "what is right stays so");
    }

    #[tokio::test]
    async fn a_file_without_a_byte_comes_too() {
        let flight = flight(0);
        flight.release();
        assert_eq!(flight.begun().await, Ok(()));
        assert_eq!(flight.read(0..0).try_collect::<Vec<_>>().await.unwrap(), [] as [Bytes; 0]);
    }
}
