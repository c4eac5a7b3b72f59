//! Working ahead: while a batch is made into contents, the next one is decoded, and the one after that comes.

use std::io::{self, Read};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::read_batch;
use crate::bundle::codec::{Method, decompress_into};
use crate::bundle::frames::FrameReader;
use crate::bundle::head::Batch;
use crate::bundle::resolve::{Slot, batch_lengths};

/// The bytes up to which a batch is decoded while there is another one in memory.
const DECODED_BYTES_MAX: u64 = 32 << 20;

/// A batch that has come.
pub(super) enum Came {
    /// It is decoded.
    Decoded(Vec<u8>),
    /// What it is compressed against may have to wait for the batches before it, or two of its size are too much.
    Stored(Method, Vec<u8>),
}

/// Two threads, of which one reads batches and the other one decodes them. Each is at most one ahead of who takes what
/// it has.
pub(super) struct Ahead<'scope> {
    came: Receiver<io::Result<Came>>,
    used: SyncSender<Vec<u8>>,
    decoding: ScopedJoinHandle<'scope, ()>,
    reading: ScopedJoinHandle<'scope, io::Result<bool>>,
}

impl<'scope> Ahead<'scope> {
    /// Begins to read.
    pub(super) fn begin<'env, R: Read + Send + 'scope>(
        scope: &'scope Scope<'scope, 'env>,
        frames: FrameReader<R>,
        batches: &'env [Batch],
        slots: &'env [Slot],
    ) -> io::Result<Self> {
        let (to_decode, stored) = sync_channel(0);
        let (to_take, came) = sync_channel(0);
        let (used, spare) = sync_channel(1);
        let lengths = batches.iter().map(|batch| batch_lengths(batch, slots));
        let decoded = lengths.clone();
        let thread = |name: &str| Builder::new().name(format!("bundle-{name}"));
        let reading = thread("read").spawn_scoped(scope, move || read(frames, lengths, &to_decode))?;
        let decoding =
            thread("decode").spawn_scoped(scope, move || decode(decoded, &stored, &to_take, &spare))?;
        Ok(Self { came, used, decoding, reading })
    }

    /// The next batch.
    pub(super) fn next(&self) -> io::Result<Came> {
        // Who reads says why it ends; without a word it has panicked, and the scope of the threads tells of that.
        self.came.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Gives back the bytes of a batch, whose place a later one takes: memory that is new is slow.
    pub(super) fn give_back(&self, bytes: Vec<u8>) {
        // Whoever decodes takes one at a time, and none for what is compared against a former content.
        let _ = self.used.try_send(bytes);
    }

    /// Waits for the end; whether nothing follows the last batch.
    pub(super) fn end(self) -> io::Result<bool> {
        drop(self.came);
        self.decoding.join().unwrap_or_else(|panic| resume_unwind(panic));
        self.reading.join().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// What a batch decodes to, and what it is compressed against, in bytes.
type Lengths = (u64, Option<u64>);

fn read(
    mut frames: FrameReader<impl Read>,
    lengths: impl Iterator<Item = Lengths>,
    read: &SyncSender<io::Result<(Method, Vec<u8>)>>,
) -> io::Result<bool> {
    for (length, _) in lengths {
        let next = read_batch(&mut frames, length);
        let is_error = next.is_err();
        if read.send(next).is_err() || is_error {
            return Ok(false);
        }
    }
    frames.is_at_end()
}

fn decode(
    lengths: impl Iterator<Item = Lengths>,
    stored: &Receiver<io::Result<(Method, Vec<u8>)>>,
    came: &SyncSender<io::Result<Came>>,
    spare: &Receiver<Vec<u8>>,
) {
    for ((length, base), stored) in lengths.zip(stored) {
        let next = stored.and_then(|(method, stored)| {
            if base != Some(0) || length > DECODED_BYTES_MAX {
                return Ok(Came::Stored(method, stored));
            }
            let length = usize::try_from(length).expect("a batch fits in memory");
            let spare = spare.try_recv().unwrap_or_default();
            decompress_into(spare, method, &[], stored, length).map(Came::Decoded)
        });
        if came.send(next).is_err() {
            return;
        }
    }
}
