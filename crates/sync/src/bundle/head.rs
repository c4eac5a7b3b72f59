//! The head of a bundle: what changes in the manifest, what is delivered, and in which batches.
//!
//! Entries of the old manifest are named by their number in its order, so that a changed file costs two bytes and not
//! its path. Names of new entries stand apart from the rest, compressed against the names of the removed ones: a
//! directory whose name carries a version costs little more than the version.

use smart_sync_store::codec::{DecodeError, Reader, put_number, unzigzag, zigzag};
use smart_sync_store::id::{BlobId, ContentId};
use smart_sync_store::manifest::{Content, Entry, Fidelity, TreePath, put_fields_with, read_fields_with};

use smart_sync_store::unpack::PROGRAM_LEN_MAX;

use super::BATCH_BYTES_MAX;

const MAGIC: &[u8] = b"ssbh\x02";

const REMOVE: u8 = 0;
const CONTENT: u8 = 1;
const TOUCH: u8 = 2;
const REPLACE: u8 = 3;
const ADD: u8 = 4;

const WHOLE: u8 = 0;
const SECTION: u8 = 1;

const NO_BASE: u64 = 0;
const OWN_BASE: u64 = 1;
const OTHER_BASE: u64 = 2;
const BASE_MASK: u64 = 3;
const IN_PARTS: u64 = 4;
const REBUILT: u64 = 8;
const ITEM_CODE_MAX: u64 = 15;

/// What a bundle does, with nothing looked up in the old manifest yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The fidelity of the new manifest. Where the old one has another, it counts as empty.
    pub fidelity: Fidelity,
    /// Changes in the order of the entries.
    pub edits: Vec<HeadEdit>,
    /// The contents that are delivered, in the order in which edits use them first.
    pub items: Vec<Item>,
    /// How they are delivered.
    pub batches: Vec<Batch>,
}

/// A change before or at an entry of the old manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadEdit {
    /// The number of the old entry.
    pub at: u64,
    /// What happens.
    pub change: HeadChange,
}

/// What happens at an old entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadChange {
    /// This entry and those after it go, so many in all.
    Remove {
        /// How many, at least one.
        count: u64,
    },
    /// It gets another content.
    Content(Reference),
    /// It gets another content and another time (`system` only).
    Touch {
        /// What is added to the seconds of the old time.
        seconds: i64,
        /// The nanoseconds of the new time.
        nanoseconds: u32,
        /// The content.
        content: Reference,
    },
    /// Another entry takes its place under the same path.
    Replace(Shape),
    /// A new entry comes before it. The path is in the list of names.
    Add(Shape),
}

/// An entry without its path and without what its content is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The entry, whose path stands for nothing and whose content, if it has one, has no names.
    pub entry: Entry,
    /// Where its content comes from, if it has one.
    pub content: Option<Reference>,
}

/// Where the content of an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference {
    /// It has no bytes.
    Empty,
    /// It is that of the old entry at this place.
    Same,
    /// It is delivered: the number of the item. The first use of each comes in the order of the items.
    Delivered(u64),
    /// It is that of another old entry.
    Old(u64),
}

/// A content that is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// As it is.
    Plain(Plain),
    /// As what it is rebuilt from.
    Rebuilt(Rebuilt),
}

/// A content that is delivered as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// Its size: that of its base and this, or this alone where there is no base.
    pub growth: i64,
    /// The old entry whose file it is compressed against.
    pub base: Option<u64>,
    /// What is taken of the base as it is, and what is delivered; without it, all of the content is delivered in one
    /// batch.
    pub parts: Option<Vec<Part>>,
}

/// A compressed content that is delivered decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Its size.
    pub size: u64,
    /// The old entry whose file is taken apart in the same way, for what is delivered to be compressed against.
    pub base: Option<u64>,
    /// The version of the division into frames and members.
    pub view: u8,
    /// How long a rebuild takes on one processor, roughly, in milliseconds: a hint.
    pub work: u64,
    /// The number of bytes of the program, which is delivered whole.
    pub program: u64,
    /// The frames: what is delivered, and what is taken of those of the base.
    pub frames: Vec<Part>,
    /// The members, likewise.
    pub members: Vec<Part>,
}

/// What batches deliver: a content as it is, or one of the three streams that another is rebuilt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot<'a> {
    /// Its parts; without them it is delivered in one batch.
    pub(super) parts: Option<&'a [Part]>,
    /// Whether it is compressed against anything.
    pub(super) has_base: bool,
}

/// What batches deliver, numbered: a plain item is one, a rebuilt one is three.
pub(super) fn slots(items: &[Item]) -> Vec<Slot<'_>> {
    let mut slots = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Item::Plain(Plain { base, parts, .. }) => {
                slots.push(Slot { parts: parts.as_deref(), has_base: base.is_some() });
            }
            Item::Rebuilt(Rebuilt { base, frames, members, .. }) => {
                slots.push(Slot { parts: None, has_base: false });
                let has_base = base.is_some();
                slots.extend([frames, members].map(|parts| Slot { parts: Some(parts), has_base }));
            }
        }
    }
    slots
}

/// Bytes that are delivered, and then bytes of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The number of bytes that are delivered.
    pub delivered: u64,
    /// The number of bytes of the base that follow.
    pub copied: u64,
    /// Where they begin in it.
    pub offset: u64,
}

/// Bytes that are compressed together. What they are of is told by the numbers of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Slots as a whole, in order. They are compressed against their bases, each once.
    Whole(Vec<u64>),
    /// The next bytes of those that are delivered of a slot in parts.
    Section {
        /// The slot.
        slot: u64,
        /// How many bytes.
        length: u64,
        /// The range of the base that they are compressed against.
        base: BaseRange,
    },
}

/// A range of a base; empty where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseRange {
    /// Its first byte.
    pub offset: u64,
    /// Its number of bytes.
    pub length: u64,
}

/// A content of which only the place is known.
pub(super) const fn nameless() -> Content {
    Content { size: 0, blob: BlobId::from_bytes([0; 20]), id: ContentId::from_bytes([0; 32]) }
}

impl Head {
    /// Writes the head but for the names of new entries.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(match self.fidelity {
            Fidelity::Git => 0,
            Fidelity::System => 1,
        });
        let mut writer = Writer::default();
        put_number(&mut out, self.edits.len() as u64);
        for edit in &self.edits {
            writer.put_edit(&mut out, edit);
        }
        put_number(&mut out, self.items.len() as u64);
        let mut previous_base = 0;
        for (item, own) in self.items.iter().zip(&writer.own_entries) {
            put_item(&mut out, item, *own, &mut previous_base);
        }
        put_number(&mut out, self.batches.len() as u64);
        let mut previous = 0;
        for batch in &self.batches {
            put_batch(&mut out, batch, &mut previous);
        }
        out
    }

    /// Reads a head.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic("the head of a bundle", MAGIC)?;
        let fidelity = match reader.byte("the fidelity")? {
            0 => Fidelity::Git,
            1 => Fidelity::System,
            other => return Err(DecodeError::invalid(format!("{other} is not a fidelity"))),
        };
        let mut state = EditReader { fidelity, at: 0, items: 0, old: 0, own_entries: Vec::new() };
        let count = reader.count("the number of edits", reader.rest().len() / 2)?;
        let mut edits = Vec::with_capacity(count.min(1 << 16));
        for _ in 0..count {
            edits.push(state.edit(&mut reader)?);
        }
        let count = reader.count("the number of contents", reader.rest().len() / 2)?;
        if count as u64 != state.items {
            return Err(DecodeError::invalid("contents are delivered that no entry has, or the reverse"));
        }
        let mut items = Vec::with_capacity(count);
        let mut previous_base = 0;
        for own in &state.own_entries {
            items.push(read_item(&mut reader, *own, &mut previous_base)?);
        }
        let count = reader.count("the number of batches", reader.rest().len() / 2)?;
        let mut batches = Vec::with_capacity(count.min(1 << 16));
        let mut previous = 0;
        let slots = slots(&items);
        for _ in 0..count {
            batches.push(read_batch(&mut reader, slots.len() as u64, &mut previous)?);
        }
        reader.finish()?;
        check_delivery(&slots, &batches)?;
        drop(slots);
        Ok(Self { fidelity, edits, items, batches })
    }

    /// The number of entries that are added, whose names are in the list of names.
    pub fn added(&self) -> usize {
        self.edits.iter().filter(|edit| matches!(edit.change, HeadChange::Add(_))).count()
    }
}

/// What the writing of edits remembers.
#[derive(Default)]
struct Writer {
    at: u64,
    /// How many items have been used.
    items: u64,
    /// One more than the old entry that was named last.
    old: u64,
    /// For each item, the old entry at its first use, if one is there.
    own_entries: Vec<Option<u64>>,
}

impl Writer {
    fn put_edit(&mut self, out: &mut Vec<u8>, edit: &HeadEdit) {
        put_number(out, edit.at - self.at);
        self.at = edit.at;
        match &edit.change {
            HeadChange::Remove { count } => {
                out.push(REMOVE);
                put_number(out, *count);
                self.at += count;
            }
            HeadChange::Content(content) => {
                out.push(CONTENT);
                self.put_reference(out, *content, Some(edit.at));
                self.at += 1;
            }
            HeadChange::Touch { seconds, nanoseconds, content } => {
                out.push(TOUCH);
                put_number(out, zigzag(*seconds));
                put_number(out, u64::from(*nanoseconds));
                self.put_reference(out, *content, Some(edit.at));
                self.at += 1;
            }
            HeadChange::Replace(shape) => {
                out.push(REPLACE);
                self.put_shape(out, shape, Some(edit.at));
                self.at += 1;
            }
            HeadChange::Add(shape) => {
                out.push(ADD);
                self.put_shape(out, shape, None);
            }
        }
    }

    fn put_shape(&mut self, out: &mut Vec<u8>, shape: &Shape, own: Option<u64>) {
        let content = shape.content.unwrap_or(Reference::Empty);
        put_fields_with(out, &shape.entry, &mut |out, _| self.put_reference(out, content, own));
    }

    fn put_reference(&mut self, out: &mut Vec<u8>, reference: Reference, own: Option<u64>) {
        match reference {
            Reference::Empty => put_number(out, 0),
            Reference::Same => put_number(out, 1),
            Reference::Delivered(item) if item == self.items => {
                put_number(out, 2);
                self.items += 1;
                self.own_entries.push(own);
            }
            Reference::Old(entry) => {
                put_number(out, 3);
                put_number(out, zigzag(entry.wrapping_sub(self.old).cast_signed()));
                self.old = entry + 1;
            }
            Reference::Delivered(item) => put_number(out, 3 + (self.items - item)),
        }
    }
}

struct EditReader {
    fidelity: Fidelity,
    at: u64,
    items: u64,
    old: u64,
    own_entries: Vec<Option<u64>>,
}

impl EditReader {
    fn edit(&mut self, reader: &mut Reader<'_>) -> Result<HeadEdit, DecodeError> {
        // No old manifest has as many entries as half of this, so sums of two do not overflow.
        const AT_MAX: u64 = u64::MAX >> 2;
        let at = self.at + reader.number("the old entries before an edit", AT_MAX)?;
        if at > AT_MAX {
            return Err(DecodeError::invalid("an edit is beyond any manifest"));
        }
        self.at = at;
        let change = match reader.byte("the kind of an edit")? {
            REMOVE => {
                let count = reader.number("the number of removed entries", AT_MAX - at)?;
                if count == 0 {
                    return Err(DecodeError::invalid("an edit removes nothing"));
                }
                self.at += count;
                HeadChange::Remove { count }
            }
            CONTENT => {
                self.at += 1;
                HeadChange::Content(self.reference(reader, Some(at))?)
            }
            TOUCH => {
                if self.fidelity != Fidelity::System {
                    return Err(DecodeError::invalid("git keeps no times"));
                }
                self.at += 1;
                let seconds = unzigzag(reader.number("the seconds of a time", u64::MAX)?);
                let nanoseconds = reader.number("the nanoseconds of a time", 999_999_999)?;
                let nanoseconds = u32::try_from(nanoseconds).expect("the limit fits 32 bits");
                HeadChange::Touch { seconds, nanoseconds, content: self.reference(reader, Some(at))? }
            }
            REPLACE => {
                self.at += 1;
                HeadChange::Replace(self.shape(reader, Some(at))?)
            }
            ADD => HeadChange::Add(self.shape(reader, None)?),
            other => return Err(DecodeError::invalid(format!("{other} is not the kind of an edit"))),
        };
        Ok(HeadEdit { at, change })
    }

    fn shape(&mut self, reader: &mut Reader<'_>, own: Option<u64>) -> Result<Shape, DecodeError> {
        let mut content = None;
        let fidelity = self.fidelity;
        // The root of a tree is an entry of its own only when it is replaced, and then its path is known.
        let entry = read_fields_with(reader, placeholder(), fidelity, &mut |reader| {
            content = Some(self.reference(reader, own)?);
            Ok(nameless())
        })?;
        Ok(Shape { entry, content })
    }

    fn reference(&mut self, reader: &mut Reader<'_>, own: Option<u64>) -> Result<Reference, DecodeError> {
        let invalid = |text: &str| Err(DecodeError::invalid(text));
        match reader.number("the source of a content", self.items.saturating_add(3))? {
            0 => Ok(Reference::Empty),
            1 if own.is_some() => Ok(Reference::Same),
            1 => invalid("a new entry has the content of none"),
            2 => {
                self.items += 1;
                self.own_entries.push(own);
                Ok(Reference::Delivered(self.items - 1))
            }
            3 => {
                let step = unzigzag(reader.number("an old entry", u64::MAX)?);
                let Some(entry) = self.old.checked_add_signed(step).filter(|entry| *entry < u64::MAX >> 2)
                else {
                    return invalid("an old entry is beyond any manifest");
                };
                self.old = entry + 1;
                Ok(Reference::Old(entry))
            }
            back => Ok(Reference::Delivered(self.items - (back - 3))),
        }
    }
}

/// The path that shapes have until theirs is known. Hard links name something before it.
pub(super) fn placeholder() -> TreePath {
    TreePath::new(&[0xff; 16][..]).expect("the path keeps the rules")
}

fn put_item(out: &mut Vec<u8>, item: &Item, own: Option<u64>, previous_base: &mut u64) {
    let (base, flags) = match item {
        Item::Plain(plain) => (plain.base, if plain.parts.is_some() { IN_PARTS } else { 0 }),
        Item::Rebuilt(rebuilt) => (rebuilt.base, REBUILT),
    };
    let kind = match base {
        None => NO_BASE,
        base if base == own => OWN_BASE,
        Some(_) => OTHER_BASE,
    };
    put_number(out, kind | flags);
    if let Some(entry) = base {
        if kind == OTHER_BASE {
            put_number(out, zigzag(entry.wrapping_sub(*previous_base).cast_signed()));
        }
        *previous_base = entry + 1;
    }
    match item {
        Item::Plain(plain) => {
            put_number(out, zigzag(plain.growth));
            if let Some(parts) = &plain.parts {
                put_parts(out, parts);
            }
        }
        Item::Rebuilt(rebuilt) => {
            put_number(out, rebuilt.size);
            out.push(rebuilt.view);
            put_number(out, rebuilt.work);
            put_number(out, rebuilt.program);
            put_parts(out, &rebuilt.frames);
            put_parts(out, &rebuilt.members);
        }
    }
}

fn put_parts(out: &mut Vec<u8>, parts: &[Part]) {
    put_number(out, parts.len() as u64);
    let mut end = 0;
    for part in parts {
        put_number(out, part.delivered);
        put_number(out, part.copied);
        if part.copied > 0 {
            put_number(out, zigzag(part.offset.wrapping_sub(end).cast_signed()));
            end = part.offset + part.copied;
        }
    }
}

fn read_item(
    reader: &mut Reader<'_>,
    own: Option<u64>,
    previous_base: &mut u64,
) -> Result<Item, DecodeError> {
    let code = reader.number("how a content is delivered", ITEM_CODE_MAX)?;
    let base = match code & BASE_MASK {
        NO_BASE => None,
        OWN_BASE => Some(own.ok_or_else(|| DecodeError::invalid("a new entry has no former version"))?),
        OTHER_BASE => {
            let step = unzigzag(reader.number("the base of a content", u64::MAX)?);
            let entry = previous_base.checked_add_signed(step).filter(|entry| *entry < u64::MAX >> 2);
            let entry = entry.ok_or_else(|| DecodeError::invalid("a base is beyond any manifest"))?;
            if Some(entry) == own {
                return Err(DecodeError::invalid("a base that is the entry's own is named"));
            }
            Some(entry)
        }
        _ => return Err(DecodeError::invalid("a content has an unknown kind of base")),
    };
    if let Some(entry) = base {
        *previous_base = entry + 1;
    }
    match code & !BASE_MASK {
        REBUILT => Ok(Item::Rebuilt(Rebuilt {
            size: reader.number("the size of a content", u64::MAX >> 2)?,
            base,
            view: reader.byte("the version of a division")?,
            work: reader.number("how long a rebuild takes", u64::MAX)?,
            program: reader.number("the length of a program", PROGRAM_LEN_MAX as u64)?,
            frames: read_parts(reader, base.is_some())?,
            members: read_parts(reader, base.is_some())?,
        })),
        flags @ (0 | IN_PARTS) => {
            let growth = unzigzag(reader.number("the size of a content", u64::MAX)?);
            let parts = (flags == IN_PARTS).then(|| read_parts(reader, base.is_some())).transpose()?;
            Ok(Item::Plain(Plain { growth, base, parts }))
        }
        _ => Err(DecodeError::invalid("a content is delivered in an unknown way")),
    }
}

fn read_parts(reader: &mut Reader<'_>, has_base: bool) -> Result<Vec<Part>, DecodeError> {
    const BYTES_MAX: u64 = u64::MAX >> 2;
    let count = reader.count("the number of parts", reader.rest().len() / 2)?;
    let mut parts = Vec::with_capacity(count);
    let (mut end, mut size) = (0u64, 0u64);
    for _ in 0..count {
        let delivered = reader.number("delivered bytes", BYTES_MAX)?;
        let copied = reader.number("copied bytes", BYTES_MAX)?;
        let mut offset = 0;
        if copied > 0 {
            let step = unzigzag(reader.number("the place of copied bytes", u64::MAX)?);
            let found = end.checked_add_signed(step).filter(|offset| *offset < BYTES_MAX);
            offset = found.ok_or_else(|| DecodeError::invalid("bytes are copied from beyond any file"))?;
            end = offset + copied;
        }
        if delivered == 0 && copied == 0 || copied > 0 && !has_base {
            return Err(DecodeError::invalid("a part of a content is nothing, or of no file"));
        }
        let sum = size.checked_add(delivered).and_then(|sum| sum.checked_add(copied));
        size = sum.filter(|sum| *sum < BYTES_MAX).ok_or_else(|| DecodeError::invalid("parts have no sum"))?;
        parts.push(Part { delivered, copied, offset });
    }
    Ok(parts)
}

fn put_batch(out: &mut Vec<u8>, batch: &Batch, previous: &mut u64) {
    match batch {
        Batch::Whole(slots) => {
            out.push(WHOLE);
            let runs = runs(slots);
            put_number(out, runs.len() as u64);
            for (first, count) in runs {
                put_number(out, zigzag(first.wrapping_sub(*previous).cast_signed()));
                put_number(out, count);
                *previous = first + count;
            }
        }
        Batch::Section { slot, length, base } => {
            out.push(SECTION);
            put_number(out, zigzag(slot.wrapping_sub(*previous).cast_signed()));
            *previous = *slot;
            put_number(out, *length);
            put_number(out, base.length);
            if base.length > 0 {
                put_number(out, base.offset);
            }
        }
    }
}

/// Consecutive numbers as the first of them and their count.
fn runs(slots: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for slot in slots {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == *slot => *count += 1,
            _ => runs.push((*slot, 1)),
        }
    }
    runs
}

fn read_batch(reader: &mut Reader<'_>, slots: u64, previous: &mut u64) -> Result<Batch, DecodeError> {
    let kind = reader.byte("the kind of a batch")?;
    let step = |reader: &mut Reader<'_>, previous: u64| {
        let step = unzigzag(reader.number("a content of a batch", u64::MAX)?);
        previous
            .checked_add_signed(step)
            .filter(|slot| *slot < slots)
            .ok_or_else(|| DecodeError::invalid("a batch delivers what is no content"))
    };
    match kind {
        WHOLE => {
            let count = reader.count("the runs of a batch", reader.rest().len() / 2)?;
            let mut whole = Vec::new();
            for _ in 0..count {
                let first = step(reader, *previous)?;
                let count = reader.number("the contents of a run", slots - first)?;
                if count == 0 || whole.last().is_some_and(|last| last + 1 == first) {
                    return Err(DecodeError::invalid("a run of contents is empty, or goes on"));
                }
                if whole.len() as u64 + count > slots {
                    return Err(DecodeError::invalid("a batch delivers a content twice"));
                }
                whole.extend(first..first + count);
                *previous = first + count;
            }
            Ok(Batch::Whole(whole))
        }
        SECTION => {
            let slot = step(reader, *previous)?;
            *previous = slot;
            let length = reader.number("the length of a section", BATCH_BYTES_MAX)?;
            let base_length = reader.number("the length of a base", BATCH_BYTES_MAX)?;
            let offset =
                if base_length > 0 { reader.number("the offset of a base", u64::MAX >> 2)? } else { 0 };
            Ok(Batch::Section { slot, length, base: BaseRange { offset, length: base_length } })
        }
        other => Err(DecodeError::invalid(format!("{other} is not the kind of a batch"))),
    }
}

/// Every slot is delivered once, and of one in parts what has to be, by one batch after the other.
fn check_delivery(slots: &[Slot<'_>], batches: &[Batch]) -> Result<(), DecodeError> {
    let mut left: Vec<Option<u64>> = slots
        .iter()
        .map(|slot| slot.parts.map(|parts| parts.iter().map(|part| part.delivered).sum()))
        .collect();
    let mut is_whole = vec![false; slots.len()];
    // The slot of which a part came, and more has to come before anything else does.
    let mut open = None;
    for batch in batches {
        let is_right = match batch {
            Batch::Whole(whole) => whole.iter().all(|slot| {
                let index = super::index(*slot);
                left[index].is_none() && !std::mem::replace(&mut is_whole[index], true)
            }),
            Batch::Section { slot, length, base } => {
                let index = super::index(*slot);
                let is_next = open.is_none_or(|open| open == index);
                match &mut left[index] {
                    Some(left) if is_next && *left >= *length && *length > 0 => {
                        *left -= length;
                        open = (*left > 0).then_some(index);
                        base.length == 0 || slots[index].has_base
                    }
                    _ => false,
                }
            }
        };
        if !is_right {
            return Err(DecodeError::invalid("a batch delivers a content twice, or what it is not made of"));
        }
    }
    let is_missing = |index: usize| left[index].map_or(!is_whole[index], |left| left > 0);
    if (0..slots.len()).any(is_missing) {
        return Err(DecodeError::invalid("a content is not delivered"));
    }
    Ok(())
}
