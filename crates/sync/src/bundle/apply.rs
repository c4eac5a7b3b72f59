//! Carrying a bundle out: contents are made batch by batch, and named by whoever takes them.
//!
//! A reader holds one batch at a time: its base, what came, and what that decodes to; and the next one, as far as that
//! can be decoded already. What it makes is not known to be right before the manifest that it leads to has been compared with the signed one, so it is handed to a place where
//! contents are found by the names that their bytes have, and by no other.

mod ahead;
mod making;
mod old;

use std::borrow::Borrow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::thread;

use smart_sync_store::codec::DecodeError;
use smart_sync_store::manifest::{Content, Edit, Entry};

use self::ahead::{Ahead, Came};
use self::making::Making;
use self::old::Old;
use super::codec::{Method, decompress, unzstd};
use super::frames::FrameReader;
use super::head::{Batch, Head};
use super::index;
use super::resolve::{Bounds, Delivery, OldFile, ResolveError, Resolved, Role, Slot, batch_lengths};

/// How much longer than what it decodes to a batch may be.
const OVERHEAD_BYTES: u64 = 1 << 16;

/// The files of the tree that is here.
pub trait OldFiles: Sync {
    /// The bytes of a range of a file, or an error where it is not what the manifest says, as far as that is known.
    fn read(&self, file: &OldFile, range: Range<u64>) -> io::Result<Vec<u8>>;
}

/// Takes contents that are made.
pub trait NewContents: Sync {
    /// Why one was not taken.
    type Error: fmt::Display + Send;
    /// Takes a content that comes in pieces.
    type Writer: ContentTaker<Error = Self::Error>;

    /// Takes a content as a whole, and names it.
    fn put(&self, item: &Delivery, bytes: &[u8]) -> Result<Content, Self::Error>;

    /// Begins a content that comes in pieces.
    fn begin(&self, item: &Delivery) -> Result<Self::Writer, Self::Error>;

    /// A new file that is nowhere else, and is gone when it is closed, for what contents are made of.
    fn scratch(&self) -> io::Result<File>;
}

/// Takes a content in pieces.
pub trait ContentTaker {
    /// Why it was not taken.
    type Error;

    /// Takes the next bytes; all of them together have the size that was announced.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Names the content.
    fn finish(self) -> Result<Content, Self::Error>;
}

/// Rebuilds contents whose programs may not run in this process.
///
/// A program that corrects predicted streams can make the library for that run without an end, or take all memory, and
/// nobody believes it before it has run. Whoever implements this sees to it that the work can be ended.
pub trait Rebuilder: Sync {
    /// Writes what the parts make, at most as many bytes as the content has. They are not known to be right.
    fn rebuild(&self, parts: Parts, out: &mut dyn Write) -> io::Result<()>;
}

/// What a content is rebuilt from, in one file.
#[derive(Debug)]
pub struct Parts {
    /// The file.
    pub file: File,
    /// Where the program is in it.
    pub program: Range<u64>,
    /// Where the frames are.
    pub frames: Range<u64>,
    /// Where the members are.
    pub members: Range<u64>,
    /// The size of the content.
    pub size: u64,
}

/// Where there is no other process: such contents fail.
#[derive(Debug, Clone, Copy)]
pub struct NoRebuilder;

impl Rebuilder for NoRebuilder {
    fn rebuild(&self, _: Parts, _: &mut dyn Write) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Why a bundle was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum BundleError<N: fmt::Display> {
    /// The bundle could not be read, or breaks its format.
    #[error("the bundle cannot be read")]
    Stream(#[source] io::Error),
    /// It breaks a rule.
    #[error("the bundle is malformed")]
    Malformed(#[from] DecodeError),
    /// The manifest of what is here could not be read.
    #[error("the manifest of what is here cannot be read")]
    Manifest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file of what is here could not be read.
    #[error("{} cannot be read as it was", .path)]
    OldFile {
        /// Which.
        path: smart_sync_store::manifest::TreePath,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// A content could not be rebuilt: the encoder that made it is not this one, or what was delivered is wrong.
    #[error("a content cannot be rebuilt here")]
    Rebuild(#[from] smart_sync_store::unpack::RebuildError),
    /// A content could not be rebuilt where its program may run.
    #[error("a content cannot be rebuilt in a process of its own")]
    Process(#[source] io::Error),
    /// What a content is made of could not be kept meanwhile.
    #[error("keeping what a content is made of")]
    Scratch(#[source] io::Error),
    /// A content was not taken.
    #[error("a content was not kept: {0}")]
    Sink(N),
}

/// A bundle whose head was read.
pub struct Bundle<R> {
    frames: FrameReader<R>,
    resolved: Resolved,
}

/// What a bundle may make its reader hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The bytes of its head when decoded, and of the names.
    pub head_bytes: u64,
    /// The bytes of all contents of the new tree.
    pub content_bytes: u64,
}

impl<R: Read> Bundle<R> {
    /// Reads the head of a bundle, and looks up what it says of the old manifest.
    pub fn open<B: Borrow<Entry>, O: std::error::Error + Send + Sync + 'static, N: fmt::Display>(
        source: R,
        old: impl Iterator<Item = Result<B, O>>,
        limits: Limits,
    ) -> Result<Self, BundleError<N>> {
        let mut frames = FrameReader::new(source);
        let head = read_block(&mut frames, &[], limits.head_bytes).map_err(BundleError::Stream)?;
        let head = Head::decode(&head)?;
        let bounds = Bounds { content_bytes: limits.content_bytes, path_bytes: limits.head_bytes };
        let mut failure = None;
        let resolved = head.resolve(old, bounds, |prefix| {
            read_block(&mut frames, prefix, limits.head_bytes).map_err(|error| {
                failure = Some(error);
                DecodeError::invalid("the names cannot be read")
            })
        });
        match (resolved, failure) {
            (_, Some(error)) => Err(BundleError::Stream(error)),
            (Err(ResolveError::Refused(error)), None) => Err(error.into()),
            (Err(ResolveError::Old(error)), None) => Err(BundleError::Manifest(Box::new(error))),
            (Ok(resolved), None) => Ok(Self { frames, resolved }),
        }
    }

    /// The contents that are delivered.
    pub fn items(&self) -> &[Delivery] {
        &self.resolved.items
    }

    /// The bytes that batches bring: those of contents, and of what some of them are rebuilt from.
    pub fn delivered(&self) -> u64 {
        let Resolved { batches, slots, .. } = &self.resolved;
        batches.iter().map(|batch| batch_lengths(batch, slots).0).fold(0, u64::saturating_add)
    }

    /// The files of the old tree that bytes are taken from, some of them more than once.
    pub fn bases(&self) -> impl Iterator<Item = &OldFile> {
        self.resolved.slots.iter().filter_map(|slot| slot.base.as_deref())
    }

    /// Makes all contents; returns what they are called, and what leads to the new manifest once that is known.
    pub fn carry_out<N: NewContents>(
        self,
        old: &dyn OldFiles,
        new: &N,
        rebuilder: &dyn Rebuilder,
        mut progress: impl FnMut(u64),
    ) -> Result<(Resolved, Vec<Content>), BundleError<N::Error>>
    where
        R: Send,
    {
        let Self { frames, resolved } = self;
        let Resolved { items, slots, batches, .. } = &resolved;
        let mut old = Old::new(old, || new.scratch());
        let mut making = Making::new(items, slots, new, rebuilder);
        let contents = thread::scope(|scope| {
            let ahead = Ahead::begin(scope, frames, batches, slots).map_err(BundleError::Stream)?;
            for batch in batches {
                let bytes = match ahead.next().map_err(BundleError::Stream)? {
                    Came::Decoded(bytes) => bytes,
                    Came::Stored(method, stored) => {
                        let (length, _) = batch_lengths(batch, slots);
                        let length = usize::try_from(length).expect("a batch fits in memory");
                        let base = old.base_of(batch, slots)?;
                        decompress(method, &base, stored, length).map_err(BundleError::Stream)?
                    }
                };
                progress(bytes.len() as u64);
                match batch {
                    Batch::Whole(whole) => making.take_whole(whole, &bytes)?,
                    Batch::Section { slot, .. } => making.take_section(index(*slot), &bytes, &mut old)?,
                }
                ahead.give_back(bytes);
            }
            let contents = making.finish(&mut old)?;
            if ahead.end().map_err(BundleError::Stream)? {
                Ok(contents)
            } else {
                Err(BundleError::from(DecodeError::invalid("bytes follow the last batch")))
            }
        })?;
        Ok((resolved, contents))
    }
}

impl Resolved {
    /// The edits that lead to the new manifest, given what the contents that were made are called.
    pub fn into_edits(self, contents: &[Content]) -> Vec<Edit> {
        self.edits(contents)
    }
}

fn read_block(source: &mut impl Read, prefix: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    let method = read_method(source)?;
    let length = read_number(source, limit)?;
    let room = usize::try_from(length).map_err(io::Error::other)?;
    match method {
        Method::Raw => read_bytes(source, length),
        Method::Zstd => {
            let stored = read_number(source, limit)?;
            let stored = read_bytes(source, stored)?;
            let reach = usize::try_from(super::BATCH_BYTES_MAX).expect("a batch fits in memory");
            unzstd(&prefix[..prefix.len().min(reach)], &stored, room)
        }
        Method::Difference => Err(invalid("a part of the head is a difference")),
    }
}

fn read_batch(source: &mut impl Read, length: u64) -> io::Result<(Method, Vec<u8>)> {
    let method = read_method(source)?;
    let stored = read_number(source, length + OVERHEAD_BYTES)?;
    Ok((method, read_bytes(source, stored)?))
}

fn read_method(source: &mut impl Read) -> io::Result<Method> {
    let mut code = [0];
    source.read_exact(&mut code)?;
    Method::from_code(code[0]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn read_number(source: &mut impl Read, limit: u64) -> io::Result<u64> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let mut byte = [0];
        source.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            let is_minimal = byte[0] != 0 || shift == 0;
            return if is_minimal && value <= limit {
                Ok(value)
            } else {
                Err(invalid("a length of the bundle is over its limit"))
            };
        }
    }
    Err(invalid("a length of the bundle is over its limit"))
}

/// Reads as many bytes as were announced. Room is made as they come: a limit is what a large tree may need.
fn read_bytes(source: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    const ROOM: usize = 1 << 20;
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        // As much again as is there, and never more than is to come.
        let room = bytes.len().max(ROOM).min(length - bytes.len());
        bytes.reserve_exact(room);
        let taken = source.by_ref().take(room as u64).read_to_end(&mut bytes)?;
        if taken < room {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes)
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
