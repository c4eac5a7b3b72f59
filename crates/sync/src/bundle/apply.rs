//! Carrying a bundle out: contents are made batch by batch, and named by whoever takes them.
//!
//! A reader holds one batch at a time: its base, what came, and what that decodes to. What it makes is not known to be
//! right before the manifest that it leads to has been compared with the signed one, so it is handed to a place where
//! contents are found by the names that their bytes have, and by no other.

use std::borrow::Borrow;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use rayon::prelude::*;
use smart_sync_store::codec::DecodeError;
use smart_sync_store::manifest::{Content, Edit, Entry};

use super::codec::{Method, decompress, unzstd};
use super::frames::FrameReader;
use super::head::{BaseRange, Batch, Head, Part};
use super::resolve::{Bounds, Delivery, OldFile, ResolveError, Resolved, bases_of, batch_lengths, index};

/// Bytes that are copied from a base at once.
const COPY_BYTES: u64 = 4 << 20;
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
    type Error: Send;
    /// Takes a content that comes in pieces.
    type Writer: ContentTaker<Error = Self::Error>;

    /// Takes a content as a whole, and names it.
    fn put(&self, item: &Delivery, bytes: &[u8]) -> Result<Content, Self::Error>;

    /// Begins a content that comes in pieces.
    fn begin(&self, item: &Delivery) -> Result<Self::Writer, Self::Error>;
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

    /// The files of the old tree that bytes are taken from, some of them more than once.
    pub fn bases(&self) -> impl Iterator<Item = &OldFile> {
        self.resolved.items.iter().filter_map(|item| item.base.as_ref())
    }

    /// Makes all contents; returns the edits that lead to the new manifest.
    pub fn carry_out<N: NewContents<Error: fmt::Display>>(
        mut self,
        old: &dyn OldFiles,
        new: &N,
        mut progress: impl FnMut(u64),
    ) -> Result<(Resolved, Vec<Content>), BundleError<N::Error>> {
        let items = &self.resolved.items;
        let mut contents: Vec<Option<Content>> = vec![None; items.len()];
        let mut open: Option<InParts<'_, N::Writer>> = None;
        for batch in &self.resolved.batches {
            let (length, _) = batch_lengths(batch, items);
            let (method, stored) = read_batch(&mut self.frames, length).map_err(BundleError::Stream)?;
            let base = read_base(batch, items, old)?;
            let length = usize::try_from(length).expect("a batch fits in memory");
            let bytes = decompress(method, &base, stored, length).map_err(BundleError::Stream)?;
            drop(base);
            progress(bytes.len() as u64);
            match batch {
                Batch::Whole(whole) => {
                    let slices = split(whole, items, &bytes);
                    let named = slices
                        .into_par_iter()
                        .map(|(item, bytes)| Ok((item, new.put(&items[item], bytes)?)))
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(BundleError::Sink)?;
                    for (item, content) in named {
                        contents[item] = Some(content);
                    }
                }
                Batch::Section { item, .. } => {
                    let number = index(*item);
                    let mut at_hand = match open.take() {
                        Some(open) if open.item == number => open,
                        Some(_) => {
                            return Err(DecodeError::invalid("two contents come at the same time").into());
                        }
                        None => InParts::begin(number, &items[number], new)?,
                    };
                    at_hand.take(&bytes, old)?;
                    open = at_hand.finish_if_complete(&mut contents)?;
                }
            }
        }
        // What is made of its base alone is in no batch.
        for (number, item) in items.iter().enumerate() {
            if item.parts.is_some() && contents[number].is_none() {
                let mut copied = InParts::begin(number, item, new)?;
                copied.take(&[], old)?;
                copied.finish_if_complete(&mut contents)?;
            }
        }
        if !self.frames.is_at_end().map_err(BundleError::Stream)? {
            return Err(DecodeError::invalid("bytes follow the last batch").into());
        }
        let contents = contents.into_iter().collect::<Option<Vec<_>>>();
        let contents = contents.ok_or_else(|| DecodeError::invalid("a content is not complete"))?;
        Ok((self.resolved, contents))
    }
}

impl Resolved {
    /// The edits that lead to the new manifest, as an answer of [`Bundle::carry_out`] has them.
    pub fn into_edits(self, contents: &[Content]) -> Vec<Edit> {
        self.edits(contents)
    }
}

/// A content that comes in parts.
struct InParts<'a, W> {
    item: usize,
    delivery: &'a Delivery,
    writer: W,
    /// The part at hand, and how much of its delivered bytes came.
    part: usize,
    came: u64,
}

impl<'a, W: ContentTaker> InParts<'a, W> {
    fn begin<N>(item: usize, delivery: &'a Delivery, new: &N) -> Result<Self, BundleError<N::Error>>
    where
        N: NewContents<Writer = W, Error: fmt::Display>,
    {
        let writer = new.begin(delivery).map_err(BundleError::Sink)?;
        Ok(Self { item, delivery, writer, part: 0, came: 0 })
    }

    fn parts(&self) -> &'a [Part] {
        self.delivery.parts.as_deref().unwrap_or_default()
    }

    /// Takes delivered bytes, and copies what stands between them and after them.
    fn take(&mut self, mut bytes: &[u8], old: &dyn OldFiles) -> Result<(), BundleError<W::Error>>
    where
        W::Error: fmt::Display,
    {
        while let Some(part) = self.parts().get(self.part) {
            let left = part.delivered - self.came;
            let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.writer.write(&bytes[..taken]).map_err(BundleError::Sink)?;
            self.came += taken as u64;
            bytes = &bytes[taken..];
            if self.came < part.delivered {
                return Ok(());
            }
            self.copy(part, old)?;
            self.part += 1;
            self.came = 0;
        }
        Ok(())
    }

    fn copy(&mut self, part: &Part, old: &dyn OldFiles) -> Result<(), BundleError<W::Error>>
    where
        W::Error: fmt::Display,
    {
        let (mut at, end) = (part.offset, part.offset + part.copied);
        while at < end {
            let next = end.min(at + COPY_BYTES);
            // A part that copies has a base, and lies within it: both were checked when the head was resolved.
            let Some(base) = &self.delivery.base else { return Ok(()) };
            let bytes = read_old(base, at..next, old)?;
            self.writer.write(&bytes).map_err(BundleError::Sink)?;
            at = next;
        }
        Ok(())
    }

    fn finish_if_complete(
        self,
        contents: &mut [Option<Content>],
    ) -> Result<Option<Self>, BundleError<W::Error>>
    where
        W::Error: fmt::Display,
    {
        if self.part < self.parts().len() {
            return Ok(Some(self));
        }
        contents[self.item] = Some(self.writer.finish().map_err(BundleError::Sink)?);
        Ok(None)
    }
}

/// The bytes of the contents of a batch.
fn split<'a>(whole: &[u64], items: &[Delivery], mut bytes: &'a [u8]) -> Vec<(usize, &'a [u8])> {
    let mut slices = Vec::with_capacity(whole.len());
    for item in whole {
        let size = usize::try_from(items[index(*item)].size).expect("a batch fits in memory");
        let (content, rest) = bytes.split_at(size);
        slices.push((index(*item), content));
        bytes = rest;
    }
    slices
}

/// What a batch is compressed against.
fn read_base<N: fmt::Display + Send>(
    batch: &Batch,
    items: &[Delivery],
    old: &dyn OldFiles,
) -> Result<Vec<u8>, BundleError<N>> {
    match batch {
        Batch::Whole(whole) => {
            let bases: Vec<_> = bases_of(whole, items).collect();
            let pieces = bases
                .par_iter()
                .map(|base| read_old(base, 0..base.content.size, old))
                .collect::<Result<Vec<_>, _>>()?;
            let mut bytes = Vec::with_capacity(pieces.iter().map(Vec::len).sum());
            pieces.into_iter().for_each(|piece| bytes.extend_from_slice(&piece));
            Ok(bytes)
        }
        Batch::Section { item, base: BaseRange { offset, length }, .. } => match &items[index(*item)].base {
            Some(base) if *length > 0 => read_old(base, *offset..offset + length, old),
            _ => Ok(Vec::new()),
        },
    }
}

fn read_old<N: fmt::Display>(
    file: &OldFile,
    range: Range<u64>,
    old: &dyn OldFiles,
) -> Result<Vec<u8>, BundleError<N>> {
    let length = range.end - range.start;
    let failed = |source| BundleError::OldFile { path: file.path.clone(), source };
    let bytes = old.read(file, range).map_err(failed)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(failed(io::ErrorKind::UnexpectedEof.into())) }
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
    const ROOM: u64 = 1 << 20;
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(ROOM)).expect("it is a mebibyte"));
    source.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
