//! Writing a bundle: contents are read, arranged in batches, compressed, and put into frames.
//!
//! The head is written before anything is compressed, so a reader can begin while later batches are still being made.
//! Batches are compressed side by side, and as many are in memory as there are threads to do so.

use std::io::{self, Write};
use std::ops::Range;

use rayon::prelude::*;
use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::codec::put_number;
use smart_sync_store::manifest::Content;

pub use super::codec::Effort;
use super::codec::{Kind, Method, compress, zstd};
use super::frames::FrameWriter;
use super::head::{Batch, Head, Item};
use super::parts;
use super::plan::{Draft, DraftItem};
use super::resolve::encode_names;
use super::{BATCH_BYTES_MAX, WINDOW_LOG_MAX};

/// Where contents are read while a bundle is made.
pub trait ContentSource: Sync {
    /// The bytes of a range of a content.
    fn read(&self, content: &Content, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// The chunks of a content in order.
    fn chunks(&self, content: &Content) -> io::Result<Vec<ChunkRef>>;
}

/// The bytes of contents after which a batch is complete, and of bases.
const BATCH_BYTES: u64 = 32 << 20;
/// The bytes of a batch that is compressed against nothing: its memory is all for itself.
const FIRST_BATCH_BYTES: u64 = 64 << 20;
/// A content of fewer bytes is not looked at for what it has in common with its base.
const PARTS_SIZE_MIN: u64 = 1 << 20;
/// A content of this many bytes is delivered in sections whatever it has in common with its base.
const SECTIONS_SIZE_MIN: u64 = 48 << 20;
/// Code is delivered as a whole up to this size: a difference is best when it sees all of a file.
const CODE_SIZE_MAX: u64 = 64 << 20;

/// A bundle that is about to be written.
pub struct Arranged {
    head: Head,
    added_names: Vec<u8>,
    removed_names: Vec<u8>,
    items: Vec<DraftItem>,
    kinds: Vec<Kind>,
}

/// Decides how contents are delivered.
pub fn arrange(draft: Draft, source: &dyn ContentSource) -> io::Result<Arranged> {
    let Draft { fidelity, edits, added, removed, items } = draft;
    let looked_at =
        items.par_iter().map(|item| look_at(item, source)).collect::<io::Result<Vec<LookedAt>>>()?;
    let mut arranging = Arranging::default();
    let mut head_items = Vec::with_capacity(items.len());
    let mut kinds = Vec::with_capacity(items.len());
    for (number, (item, LookedAt { kind, parts })) in items.iter().zip(looked_at).enumerate() {
        let base_size = item.base.map_or(0, |(_, content)| content.size);
        let growth = item.content.size.wrapping_sub(base_size).cast_signed();
        match &parts {
            Some(parts) => {
                let sections = parts::sections(number as u64, parts, item.content.size, base_size);
                arranging.batches.extend(sections);
            }
            None => arranging.whole(number as u64, item, kind),
        }
        head_items.push(Item { growth, base: item.base.map(|(at, _)| at), parts });
        kinds.push(kind);
    }
    let head = Head { fidelity, edits, items: head_items, batches: arranging.finish() };
    let (added_names, removed_names) = (encode_names(&added), encode_names(&removed));
    Ok(Arranged { head, added_names, removed_names, items, kinds })
}

struct LookedAt {
    kind: Kind,
    parts: Option<Vec<super::head::Part>>,
}

fn look_at(item: &DraftItem, source: &dyn ContentSource) -> io::Result<LookedAt> {
    let content = &item.content;
    let Some((_, base)) = &item.base else {
        let parts = (content.size > FIRST_BATCH_BYTES)
            .then(|| vec![super::head::Part { delivered: content.size, copied: 0, offset: 0 }]);
        return Ok(LookedAt { kind: Kind::Other, parts });
    };
    let kind = kind_of(&source.read(content, 0..content.size.min(4))?);
    let whole_max = if kind == Kind::Code { CODE_SIZE_MAX } else { SECTIONS_SIZE_MIN };
    let is_large = content.size > whole_max || base.size > whole_max;
    if content.size < PARTS_SIZE_MIN && !is_large {
        return Ok(LookedAt { kind, parts: None });
    }
    let parts = parts::parts(&source.chunks(base)?, &source.chunks(content)?);
    let is_alike = parts::copied(&parts) >= content.size / 2;
    Ok(LookedAt { kind, parts: (is_alike || is_large).then_some(parts) })
}

/// What the first bytes say of a file.
fn kind_of(head: &[u8]) -> Kind {
    match head {
        [0x7f, b'E', b'L', b'F'] | [b'M', b'Z', ..] | [0xcf, 0xfa, 0xed, 0xfe] => Kind::Code,
        _ => Kind::Other,
    }
}

/// Contents that are put together into batches, apart by their kinds.
#[derive(Default)]
struct Arranging {
    batches: Vec<Batch>,
    open: [Open; 2],
}

#[derive(Default)]
struct Open {
    items: Vec<u64>,
    bytes: u64,
    base_bytes: u64,
}

impl Arranging {
    fn whole(&mut self, number: u64, item: &DraftItem, kind: Kind) {
        let open = &mut self.open[usize::from(kind == Kind::Code)];
        let base = item.base.map_or(0, |(_, content)| content.size);
        let bytes = open.bytes + item.content.size;
        let base_bytes = open.base_bytes + base;
        let bytes_max = if base_bytes == 0 { FIRST_BATCH_BYTES } else { BATCH_BYTES };
        if !open.items.is_empty() && (bytes > bytes_max || base_bytes > BATCH_BYTES) {
            let items = std::mem::take(open).items;
            self.batches.push(Batch::Whole(items));
        }
        let open = &mut self.open[usize::from(kind == Kind::Code)];
        open.items.push(number);
        open.bytes += item.content.size;
        open.base_bytes += base;
    }

    fn finish(mut self) -> Vec<Batch> {
        let open = self.open.into_iter().filter(|open| !open.items.is_empty());
        self.batches.extend(open.map(|open| Batch::Whole(open.items)));
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
        let cursors = Sections::of(&self.head);
        let batches: Vec<_> = self.head.batches.iter().zip(&cursors.starts).collect();
        if !batches.is_empty() && effort == Effort::Quick {
            // Whoever waits can look up what is here meanwhile.
            out.end_frame()?;
        }
        for group in batches.chunks(rayon::current_num_threads().max(1)) {
            let packed = group
                .par_iter()
                .map(|(batch, start)| {
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
                for item in whole {
                    let index = super::resolve::index(*item);
                    let DraftItem { content, base: item_base } = &self.items[index];
                    new.append(&mut source.read(content, 0..content.size)?);
                    if let Some((at, content)) = item_base
                        && seen.insert(at)
                    {
                        base.append(&mut source.read(content, 0..content.size)?);
                    }
                    kind = self.kinds[index];
                }
                Ok((base, new, kind))
            }
            Batch::Section { item, length, base: range } => {
                let index = super::resolve::index(*item);
                let parts = self.head.items[index].parts.as_deref().unwrap_or_default();
                for range in super::parts::delivered(parts, start, *length) {
                    new.append(&mut source.read(&self.items[index].content, range)?);
                }
                if let Some((_, content)) = &self.items[index].base
                    && range.length > 0
                {
                    base = source.read(content, range.offset..range.offset + range.length)?;
                }
                Ok((base, new, self.kinds[index]))
            }
        }
    }
}

/// Where the sections of contents begin among the bytes that are delivered of each.
struct Sections {
    starts: Vec<u64>,
}

impl Sections {
    fn of(head: &Head) -> Self {
        let mut delivered = std::collections::HashMap::new();
        let starts = head.batches.iter().map(|batch| match batch {
            Batch::Whole(_) => 0,
            Batch::Section { item, length, .. } => {
                let start = delivered.entry(*item).or_insert(0);
                *start += length;
                *start - length
            }
        });
        Self { starts: starts.collect() }
    }
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
