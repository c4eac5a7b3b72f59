//! Writing a bundle: contents are read, arranged in batches, compressed, and put into frames.
//!
//! The head is written before anything is compressed, so a reader can begin while later batches are still being made.
//! Batches are compressed side by side, and as many are in memory as there are threads to do so.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

use rayon::prelude::*;
use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::codec::put_number;
use smart_sync_store::manifest::Content;
use smart_sync_store::unpack::{Dissector, VIEW_VERSION};

use super::apart::{Apart, Ready, Scratch, apart};
pub use super::codec::Effort;
use super::codec::{self, Kind, Method, compress, zstd};
use super::frames::FrameWriter;
use super::head::{Batch, Head, Item, Part, Plain, Rebuilt};
use super::plan::{Draft, DraftItem};
use super::resolve::encode_names;
use super::{BATCH_BYTES_MAX, WINDOW_LOG_MAX, index, parts};

/// Where contents are read while a bundle is made.
pub trait ContentSource: Sync {
    /// The bytes of a range of a content.
    fn read(&self, content: &Content, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// The chunks of a content in order.
    fn chunks(&self, content: &Content) -> io::Result<Vec<ChunkRef>>;

    /// A new file that is nowhere else, and is gone when it is closed.
    fn scratch(&self) -> io::Result<File>;

    /// What takes artifacts apart with corrections too. Without it they are taken apart without them, in this process.
    fn dissector(&self) -> Option<&dyn Dissector> {
        None
    }
}

/// The bytes of contents after which a batch is complete, and of bases.
const BATCH_BYTES: u64 = 32 << 20;
/// The bytes of a batch that is compressed against nothing, with all the time in the world: its memory is all for itself.
const FIRST_BATCH_BYTES: u64 = 64 << 20;
/// A content of fewer bytes is not looked at for what it has in common with its base.
const PARTS_SIZE_MIN: u64 = 1 << 20;
/// A content of this many bytes is delivered in sections whatever it has in common with its base.
const SECTIONS_SIZE_MIN: u64 = 48 << 20;
/// Code is delivered as a whole up to this size: a difference is best when it sees all of a file.
const CODE_SIZE_MAX: u64 = 64 << 20;

/// The bytes of memory that compressing one batch takes at most, of contents and former selves that have so many bytes
/// together.
pub fn batch_memory(new_bytes: u64, base_bytes: u64, effort: Effort) -> u64 {
    codec::memory(new_bytes, base_bytes, effort)
}

/// A bundle that is about to be written.
pub struct Arranged {
    head: Head,
    added_names: Vec<u8>,
    removed_names: Vec<u8>,
    items: Vec<DraftItem>,
    /// For each slot, its item and what it is.
    slots: Vec<(usize, Kind)>,
    /// For each batch, where it is compressed already, where that is.
    ready: Vec<Option<Ready>>,
    scratch: Scratch,
}

/// Decides how contents are delivered. With all the time in the world, compressed ones are taken apart for that.
pub fn arrange(draft: Draft, source: &dyn ContentSource, effort: Effort) -> io::Result<Arranged> {
    let Draft { fidelity, edits, added, removed, items } = draft;
    let scratch = Scratch::new(source.scratch()?);
    let looked_at = items
        .par_iter()
        .map(|item| look_at(item, source, effort, &scratch))
        .collect::<io::Result<Vec<LookedAt>>>()?;
    let mut arranging = Arranging { first_bytes_max: first_batch_bytes(effort), ..Arranging::default() };
    let mut head_items = Vec::with_capacity(items.len());
    let mut slots = Vec::with_capacity(items.len());
    for (number, (item, looked_at)) in items.iter().zip(looked_at).enumerate() {
        let (base_size, base) = item.base.map_or((0, None), |(at, content)| (content.size, Some(at)));
        let slot = slots.len() as u64;
        match looked_at {
            LookedAt::Plain(kind, parts) => {
                match &parts {
                    Some(parts) => arranging.parts(slot, parts, item.content.size, base_size),
                    None => arranging.whole(slot, item, kind),
                }
                let growth = item.content.size.wrapping_sub(base_size).cast_signed();
                head_items.push(Item::Plain(Plain { growth, base, parts }));
                slots.push((number, kind));
            }
            LookedAt::Apart(apart) => {
                let Apart { work, program, frames, members, batches } = *apart;
                arranging.ready(slot, batches);
                let (size, view) = (item.content.size, VIEW_VERSION);
                head_items.push(Item::Rebuilt(Rebuilt { size, base, view, work, program, frames, members }));
                slots.extend([(number, Kind::Other); 3]);
            }
        }
    }
    let (batches, ready) = arranging.finish().into_iter().unzip();
    let head = Head { fidelity, edits, items: head_items, batches };
    let (added_names, removed_names) = (encode_names(&added), encode_names(&removed));
    Ok(Arranged { head, added_names, removed_names, items, slots, ready, scratch })
}

/// The bytes after which a batch that is compressed against nothing is complete. Who waits for a quick one has better use
/// for the memory of a large one: the next batch, which is decoded meanwhile.
const fn first_batch_bytes(effort: Effort) -> u64 {
    match effort {
        Effort::Quick => BATCH_BYTES,
        Effort::Best => FIRST_BATCH_BYTES,
    }
}

/// How a content is delivered.
enum LookedAt {
    Plain(Kind, Option<Vec<Part>>),
    Apart(Box<Apart>),
}

fn look_at(
    item: &DraftItem,
    source: &dyn ContentSource,
    effort: Effort,
    scratch: &Scratch,
) -> io::Result<LookedAt> {
    let content = &item.content;
    let Some((_, base)) = &item.base else {
        let whole = Part { delivered: content.size, copied: 0, offset: 0 };
        let parts = (content.size > first_batch_bytes(effort)).then(|| vec![whole]);
        return Ok(LookedAt::Plain(Kind::Other, parts));
    };
    if effort == Effort::Best
        && let Some(apart) = apart(content, base, source, scratch)?
    {
        return Ok(LookedAt::Apart(Box::new(apart)));
    }
    let kind = kind_of(&source.read(content, 0..content.size.min(4))?);
    let whole_max = if kind == Kind::Code { CODE_SIZE_MAX } else { SECTIONS_SIZE_MIN };
    let is_large = content.size > whole_max || base.size > whole_max;
    if content.size < PARTS_SIZE_MIN && !is_large {
        return Ok(LookedAt::Plain(kind, None));
    }
    let parts = parts::parts(&source.chunks(base)?, &source.chunks(content)?);
    let is_alike = parts::copied(&parts) >= content.size / 2;
    Ok(LookedAt::Plain(kind, (is_alike || is_large).then_some(parts)))
}

/// What the first bytes say of a file.
pub(super) fn kind_of(head: &[u8]) -> Kind {
    match head {
        [0x7f, b'E', b'L', b'F'] | [b'M', b'Z', ..] | [0xcf, 0xfa, 0xed, 0xfe] => Kind::Code,
        _ => Kind::Other,
    }
}

/// Contents that are put together into batches, apart by their kinds.
#[derive(Default)]
struct Arranging {
    /// The bytes of a batch that is compressed against nothing.
    first_bytes_max: u64,
    batches: Vec<(Batch, Option<Ready>)>,
    open: [Open; 2],
}

#[derive(Default)]
struct Open {
    slots: Vec<u64>,
    bytes: u64,
    base_bytes: u64,
}

impl Arranging {
    fn whole(&mut self, slot: u64, item: &DraftItem, kind: Kind) {
        let open = &mut self.open[usize::from(kind == Kind::Code)];
        let base = item.base.map_or(0, |(_, content)| content.size);
        let bytes = open.bytes + item.content.size;
        let base_bytes = open.base_bytes + base;
        let bytes_max = if base_bytes == 0 { self.first_bytes_max } else { BATCH_BYTES };
        if !open.slots.is_empty() && (bytes > bytes_max || base_bytes > BATCH_BYTES) {
            self.batches.push((Batch::Whole(std::mem::take(open).slots), None));
        }
        let open = &mut self.open[usize::from(kind == Kind::Code)];
        open.slots.push(slot);
        open.bytes += item.content.size;
        open.base_bytes += base;
    }

    fn parts(&mut self, slot: u64, parts: &[Part], size: u64, base_size: u64) {
        self.batches
            .extend(parts::sections(slot, parts, size, base_size).into_iter().map(|batch| (batch, None)));
    }

    /// Takes batches that are ready, whose slots are told from this one.
    fn ready(&mut self, first: u64, batches: Vec<(Batch, Ready)>) {
        for (batch, ready) in batches {
            let batch = match batch {
                Batch::Whole(slots) => Batch::Whole(slots.iter().map(|slot| first + slot).collect()),
                Batch::Section { slot, length, base } => Batch::Section { slot: first + slot, length, base },
            };
            self.batches.push((batch, Some(ready)));
        }
    }

    fn finish(mut self) -> Vec<(Batch, Option<Ready>)> {
        let open = self.open.into_iter().filter(|open| !open.slots.is_empty());
        self.batches.extend(open.map(|open| (Batch::Whole(open.slots), None)));
        self.batches
    }
}

impl Arranged {
    /// What the bundle says.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Writes the bundle; returns its number of bytes. Whoever wants to stop it lets `out` fail.
    pub fn write(self, source: &dyn ContentSource, effort: Effort, out: &mut dyn Write) -> io::Result<u64> {
        let mut out = FrameWriter::new(out)?;
        put_block(&mut out, &[], &self.head.encode())?;
        put_block(&mut out, &self.removed_names, &self.added_names)?;
        let starts = section_starts(&self.head);
        let batches: Vec<_> = self.head.batches.iter().zip(&self.ready).zip(&starts).collect();
        if !batches.is_empty() && effort == Effort::Quick {
            // Whoever waits can look up what is here meanwhile.
            out.end_frame()?;
        }
        for group in batches.chunks(rayon::current_num_threads().max(1)) {
            let packed = group
                .par_iter()
                .map(|((batch, ready), start)| {
                    if let Some(ready) = ready {
                        return Ok((ready.method, self.scratch.read(ready.region)?));
                    }
                    let (base, new, kind) = self.read(batch, **start, source)?;
                    compress(&base, &new, kind, effort)
                })
                .collect::<io::Result<Vec<_>>>()?;
            for (method, bytes) in packed {
                put_batch(&mut out, method, &bytes)?;
            }
        }
        out.finish()
    }

    /// What a batch delivers, what that is compressed against, and what it is.
    fn read(
        &self,
        batch: &Batch,
        start: u64,
        source: &dyn ContentSource,
    ) -> io::Result<(Vec<u8>, Vec<u8>, Kind)> {
        let (mut base, mut new) = (Vec::new(), Vec::new());
        match batch {
            Batch::Whole(whole) => {
                let mut seen = std::collections::HashSet::new();
                let mut kind = Kind::Other;
                for slot in whole {
                    let (item, kind_of_slot) = self.slots[index(*slot)];
                    let DraftItem { content, base: item_base } = &self.items[item];
                    new.append(&mut source.read(content, 0..content.size)?);
                    if let Some((at, content)) = item_base
                        && seen.insert(at)
                    {
                        base.append(&mut source.read(content, 0..content.size)?);
                    }
                    kind = kind_of_slot;
                }
                Ok((base, new, kind))
            }
            Batch::Section { slot, length, base: range } => {
                let (item, kind) = self.slots[index(*slot)];
                let parts = match &self.head.items[item] {
                    Item::Plain(Plain { parts: Some(parts), .. }) => parts.as_slice(),
                    _ => &[],
                };
                for range in parts::delivered(parts, start, *length) {
                    new.append(&mut source.read(&self.items[item].content, range)?);
                }
                if let Some((_, content)) = &self.items[item].base
                    && range.length > 0
                {
                    base = source.read(content, range.offset..range.offset + range.length)?;
                }
                Ok((base, new, kind))
            }
        }
    }
}

/// For each batch, where it begins among the delivered bytes of its slot.
fn section_starts(head: &Head) -> Vec<u64> {
    let mut delivered = std::collections::HashMap::new();
    let starts = head.batches.iter().map(|batch| match batch {
        Batch::Whole(_) => 0,
        Batch::Section { slot, length, .. } => {
            let start = delivered.entry(*slot).or_insert(0);
            *start += length;
            *start - length
        }
    });
    starts.collect()
}

/// Writes a part of the head, compressed against what its reader knows.
fn put_block(out: &mut impl Write, prefix: &[u8], bytes: &[u8]) -> io::Result<()> {
    // A block is far smaller than a batch but for trees of millions of files, whose names are not all looked at.
    let reach = usize::try_from(BATCH_BYTES_MAX).expect("a batch fits in memory");
    let prefix = &prefix[..prefix.len().min(reach)];
    let packed = zstd(prefix, bytes, Effort::Best, WINDOW_LOG_MAX)?;
    let mut header = Vec::new();
    let is_smaller = packed.len() < bytes.len();
    header.push(if is_smaller { Method::Zstd } else { Method::Raw }.code());
    put_number(&mut header, bytes.len() as u64);
    if is_smaller {
        put_number(&mut header, packed.len() as u64);
    }
    out.write_all(&header)?;
    out.write_all(if is_smaller { &packed } else { bytes })
}

fn put_batch(out: &mut impl Write, method: Method, bytes: &[u8]) -> io::Result<()> {
    let mut header = vec![method.code()];
    put_number(&mut header, bytes.len() as u64);
    out.write_all(&header)?;
    out.write_all(bytes)
}
