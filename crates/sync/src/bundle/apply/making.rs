//! From delivered bytes to contents.
//!
//! A content that comes as a whole is named at once, and one in parts when its last byte was written. What is rebuilt
//! waits in files of its own until its program, its frames and its members are complete; the rebuilding of several
//! goes side by side, since an encoder is slower than everything else here.

use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom, Write};

use rayon::prelude::*;
use smart_sync_store::codec::DecodeError;
use smart_sync_store::manifest::Content;
use smart_sync_store::unpack::{Program, VIEW_VERSION, rebuild};

use super::old::Old;
use super::{BundleError, ContentTaker, Delivery, NewContents, Parts, Rebuilder, Role, Slot};
use crate::bundle::head::Part;
use crate::bundle::{index, unpack_limits};

/// Bytes that are copied from a base at once.
const COPY_BYTES: u64 = 4 << 20;

/// Contents that are being made.
pub(super) struct Making<'a, N: NewContents> {
    items: &'a [Delivery],
    slots: &'a [Slot],
    new: &'a N,
    rebuilder: &'a dyn Rebuilder,
    contents: Vec<Option<Content>>,
    /// The slot in parts whose bytes come now.
    open: Option<InParts<'a, Target<N::Writer>>>,
    /// What the content at hand is rebuilt from, as far as it came.
    streams: Vec<Option<Stream>>,
    /// Contents that can be rebuilt.
    complete: Vec<usize>,
}

/// A stream that a content is rebuilt from.
enum Stream {
    Memory(Vec<u8>),
    File(File),
}

/// Where the bytes of a slot go.
enum Target<W> {
    Content(W),
    Stream(File),
}

impl<'a, N: NewContents> Making<'a, N> {
    pub(super) fn new(
        items: &'a [Delivery],
        slots: &'a [Slot],
        new: &'a N,
        rebuilder: &'a dyn Rebuilder,
    ) -> Self {
        Self {
            items,
            slots,
            new,
            rebuilder,
            contents: vec![None; items.len()],
            open: None,
            streams: (0..slots.len()).map(|_| None).collect(),
            complete: Vec::new(),
        }
    }

    /// Takes the slots of a batch that brings them whole.
    pub(super) fn take_whole(&mut self, whole: &[u64], bytes: &[u8]) -> Result<(), BundleError<N::Error>> {
        let mut rest = bytes;
        let mut contents = Vec::with_capacity(whole.len());
        for number in whole {
            let slot = &self.slots[index(*number)];
            let (part, after) = rest.split_at(usize::try_from(slot.size).expect("a batch fits in memory"));
            rest = after;
            if slot.role == Role::Content {
                contents.push((slot.item, part));
            } else {
                self.streams[index(*number)] = Some(Stream::Memory(part.to_vec()));
                self.complete_if_all_came(slot.item)?;
            }
        }
        let (items, new) = (self.items, self.new);
        let named = contents
            .into_par_iter()
            .map(|(item, bytes)| Ok((item, new.put(&items[item], bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(BundleError::Sink)?;
        for (item, content) in named {
            self.contents[item] = Some(content);
        }
        Ok(())
    }

    /// Takes the next bytes of a slot in parts.
    pub(super) fn take_section<F: Fn() -> io::Result<File>>(
        &mut self,
        number: usize,
        bytes: &[u8],
        old: &mut Old<'_, F>,
    ) -> Result<(), BundleError<N::Error>> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(number)?,
        };
        open.take(bytes, old)?;
        if open.is_complete() {
            return self.close(open);
        }
        self.open = Some(open);
        Ok(())
    }

    /// Makes what nothing came for, since it is in the old tree alone, and rebuilds what is left.
    pub(super) fn finish<F: Fn() -> io::Result<File>>(
        mut self,
        old: &mut Old<'_, F>,
    ) -> Result<Vec<Content>, BundleError<N::Error>> {
        for (number, slot) in self.slots.iter().enumerate() {
            let is_made = match slot.role {
                Role::Content => self.contents[slot.item].is_some(),
                // What was rebuilt already is taken out of its place.
                _ => {
                    self.streams[number].is_some()
                        || self.contents[slot.item].is_some()
                        || self.complete.contains(&slot.item)
                }
            };
            if slot.parts.is_some() && !is_made {
                self.take_section(number, &[], old)?;
            }
        }
        self.rebuild()?;
        let contents = self.contents.into_iter().collect::<Option<Vec<_>>>();
        contents.ok_or_else(|| DecodeError::invalid("a content is not complete").into())
    }

    fn begin(&self, number: usize) -> Result<InParts<'a, Target<N::Writer>>, BundleError<N::Error>> {
        let slot = &self.slots[number];
        let target = match slot.role {
            Role::Content => {
                Target::Content(self.new.begin(&self.items[slot.item]).map_err(BundleError::Sink)?)
            }
            _ => Target::Stream(self.new.scratch().map_err(BundleError::Scratch)?),
        };
        Ok(InParts { number, slot, target, part: 0, came: 0 })
    }

    fn close(&mut self, open: InParts<'a, Target<N::Writer>>) -> Result<(), BundleError<N::Error>> {
        match open.target {
            Target::Content(writer) => {
                self.contents[open.slot.item] = Some(writer.finish().map_err(BundleError::Sink)?);
                Ok(())
            }
            Target::Stream(file) => {
                self.streams[open.number] = Some(Stream::File(file));
                self.complete_if_all_came(open.slot.item)
            }
        }
    }

    fn complete_if_all_came(&mut self, item: usize) -> Result<(), BundleError<N::Error>> {
        let first = self.items[item].slot;
        if self.streams[first..first + 3].iter().any(Option::is_none) {
            return Ok(());
        }
        self.complete.push(item);
        if self.complete.len() >= rayon::current_num_threads() { self.rebuild() } else { Ok(()) }
    }

    /// Rebuilds what is complete.
    fn rebuild(&mut self) -> Result<(), BundleError<N::Error>> {
        let mut work = Vec::new();
        for item in std::mem::take(&mut self.complete) {
            let first = self.items[item].slot;
            let mut take = |number: usize| self.streams[number].take();
            if let (Some(program), Some(frames), Some(members)) =
                (take(first), take(first + 1), take(first + 2))
            {
                work.push((item, [program, frames, members]));
            }
        }
        let (items, new, rebuilder) = (self.items, self.new, self.rebuilder);
        let rebuilt = work
            .into_par_iter()
            .map(|(item, streams)| Ok((item, rebuild_item(&items[item], streams, new, rebuilder)?)))
            .collect::<Result<Vec<_>, BundleError<N::Error>>>()?;
        for (item, content) in rebuilt {
            self.contents[item] = Some(content);
        }
        Ok(())
    }
}

fn rebuild_item<N: NewContents>(
    item: &Delivery,
    [program, frames, members]: [Stream; 3],
    new: &N,
    rebuilder: &dyn Rebuilder,
) -> Result<Content, BundleError<N::Error>> {
    if item.view != Some(VIEW_VERSION) {
        return Err(DecodeError::invalid("a content is divided in a way that is not known here").into());
    }
    let Stream::Memory(bytes) = program else {
        return Err(DecodeError::invalid("a program did not come whole").into());
    };
    let program = Program::decode(&bytes)?;
    let mut writer = Rebuilding { writer: new.begin(item).map_err(BundleError::Sink)?, failure: None };
    let made = if program.has_corrections() {
        drop(program);
        let parts = gather(&bytes, frames, members, item.size, || new.scratch());
        let parts = parts.map_err(BundleError::Scratch)?;
        rebuilder.rebuild(parts, &mut writer).map_err(BundleError::Process)
    } else {
        drop(bytes);
        let mut frames = frames.reader().map_err(BundleError::Scratch)?;
        let mut members = members.reader().map_err(BundleError::Scratch)?;
        rebuild(&program, &mut frames, &mut members, item.size, &unpack_limits(), &mut writer)
            .map_err(BundleError::Rebuild)
    };
    match (writer.failure, made) {
        (Some(failure), _) => Err(BundleError::Sink(failure)),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => writer.writer.finish().map_err(BundleError::Sink),
    }
}

/// Puts what a content is rebuilt from into one file. The members lie in one already, as a rule, and are most of it.
fn gather(
    program: &[u8],
    frames: Stream,
    members: Stream,
    size: u64,
    scratch: impl Fn() -> io::Result<File>,
) -> io::Result<Parts> {
    let mut file = match members {
        Stream::File(file) => file,
        Stream::Memory(bytes) => {
            let mut file = scratch()?;
            file.write_all(&bytes)?;
            file
        }
    };
    let members = 0..file.seek(SeekFrom::End(0))?;
    let length = match frames {
        Stream::Memory(bytes) => {
            file.write_all(&bytes)?;
            bytes.len() as u64
        }
        Stream::File(mut frames) => {
            frames.rewind()?;
            io::copy(&mut frames, &mut file)?
        }
    };
    let frames = members.end..members.end + length;
    file.write_all(program)?;
    let program = frames.end..frames.end + program.len() as u64;
    Ok(Parts { file, program, frames, members, size })
}

impl Stream {
    fn reader(self) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(io::Cursor::new(bytes)),
            Self::File(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                Box::new(BufReader::with_capacity(1 << 18, file))
            }
        })
    }
}

/// What is rebuilt goes to whoever takes contents.
struct Rebuilding<W: ContentTaker> {
    writer: W,
    failure: Option<W::Error>,
}

impl<W: ContentTaker> Write for Rebuilding<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.writer.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failure = Some(error);
                Err(io::Error::other("the content was not taken"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A slot that comes in parts.
struct InParts<'a, T> {
    number: usize,
    slot: &'a Slot,
    target: T,
    /// The part at hand, and how much of its delivered bytes came.
    part: usize,
    came: u64,
}

impl<'a, W: ContentTaker<Error: std::fmt::Display>> InParts<'a, Target<W>> {
    fn parts(&self) -> &'a [Part] {
        self.slot.parts.as_deref().unwrap_or_default()
    }

    fn is_complete(&self) -> bool {
        self.part == self.parts().len()
    }

    /// Takes delivered bytes, and copies what stands between them and after them.
    fn take<F: Fn() -> io::Result<File>>(
        &mut self,
        mut bytes: &[u8],
        old: &mut Old<'_, F>,
    ) -> Result<(), BundleError<W::Error>> {
        while let Some(part) = self.parts().get(self.part) {
            let left = part.delivered - self.came;
            let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.write(&bytes[..taken])?;
            self.came += taken as u64;
            bytes = &bytes[taken..];
            if self.came < part.delivered {
                return Ok(());
            }
            let (mut at, end) = (part.offset, part.offset + part.copied);
            while at < end {
                let next = end.min(at + COPY_BYTES);
                let copied = old.range_of(self.slot, at..next)?;
                self.write(&copied)?;
                at = next;
            }
            self.part += 1;
            self.came = 0;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BundleError<W::Error>> {
        match &mut self.target {
            Target::Content(writer) => writer.write(bytes).map_err(BundleError::Sink),
            Target::Stream(file) => file.write_all(bytes).map_err(BundleError::Scratch),
        }
    }
}
