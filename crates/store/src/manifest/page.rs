//! Pages: the pieces a manifest is stored and sent in.
//!
//! Where a page ends is decided by the paths in it and by nothing else. The decoder therefore refuses a page that
//! goes on past its end, and tells its reader whether it may be followed by another: of all ways to cut a tree
//! into pages, only one is ever accepted.

use super::entry::{Content, Entry, Fidelity};
use super::fields::{check_entry, put_fields, read_fields};
use super::order::OrderChecker;
use super::path::TreePath;
use super::shorten::{put_path, read_path};
use crate::codec::{DecodeError, Reader, put_number};
use crate::gc::Reference;
use crate::id::ObjectId;

const MAGIC: &[u8] = b"ssmp\x01";
/// The highest level of a page.
pub const LEVEL_MAX: u8 = 15;
/// The most bytes of a page.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// The most items of a page.
const ITEMS_MAX: usize = 256;
/// A page ends when its items have this many bytes.
const ITEM_BYTES_TARGET: usize = 65_536;

/// A page as it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    fidelity: Fidelity,
    level: u8,
    items: Items,
    entries: u64,
    bytes: u64,
    is_closed: bool,
}

/// What a page lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Items {
    /// Level 0: entries.
    Entries(Vec<Entry>),
    /// Higher levels: pages of one level less.
    Pages(Vec<PageItem>),
}

/// What a page of pages says of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageItem {
    /// The path of the last entry below it.
    pub last_path: TreePath,
    /// Its id.
    pub page: ObjectId,
    /// Its number of bytes.
    pub length: u64,
    /// The number of entries below it.
    pub entries: u64,
    /// The sum of the sizes of the contents below it.
    pub bytes: u64,
}

impl Page {
    /// Decodes a page, strictly.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > PAGE_BYTES_MAX {
            return Err(DecodeError::OverLimit {
                field: "length of a manifest page",
                value: bytes.len() as u64,
                limit: PAGE_BYTES_MAX as u64,
            });
        }
        let mut reader = Reader::new(bytes);
        reader.magic("a manifest page", MAGIC)?;
        let level = reader.byte("level")?;
        if level > LEVEL_MAX {
            return Err(DecodeError::OverLimit {
                field: "level",
                value: u64::from(level),
                limit: u64::from(LEVEL_MAX),
            });
        }
        let fidelity = match reader.byte("fidelity")? {
            0 => Fidelity::Git,
            1 => Fidelity::System,
            other => return Err(DecodeError::invalid(format!("unknown fidelity {other}"))),
        };
        let count = reader.count("number of items", ITEMS_MAX)?;
        let mut decoder = Decoder { reader, count, cut: Cut::new(level), entries: 0, bytes: 0 };
        let items = if level == 0 {
            Items::Entries(decoder.entries(fidelity)?)
        } else {
            Items::Pages(decoder.pages()?)
        };
        let Decoder { reader, cut, entries, bytes, .. } = decoder;
        reader.finish()?;
        Ok(Self { fidelity, level, items, entries, bytes, is_closed: cut.is_closed })
    }

    /// The fidelity of the manifest.
    pub const fn fidelity(&self) -> Fidelity {
        self.fidelity
    }

    /// 0 for a page of entries, and one more than that of its items for a page of pages.
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// What it lists.
    pub const fn items(&self) -> &Items {
        &self.items
    }

    /// The number of entries below it, by its own account.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// The sum of the sizes of the contents below it, by its own account.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether its last item ends it; if not, it is the last page of its level.
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The pages it refers to.
    pub fn pages(&self) -> impl Iterator<Item = &PageItem> {
        match &self.items {
            Items::Entries(_) => [].iter(),
            Items::Pages(pages) => pages.iter(),
        }
    }

    /// The contents it refers to, with repetitions.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        match &self.items {
            Items::Entries(entries) => entries.iter(),
            Items::Pages(_) => [].iter(),
        }
        .filter_map(Entry::content)
    }

    pub(super) fn len(&self) -> usize {
        match &self.items {
            Items::Entries(entries) => entries.len(),
            Items::Pages(pages) => pages.len(),
        }
    }

    /// The path of an item: for a page, that of the last entry below it.
    pub(super) fn path(&self, index: usize) -> Option<&TreePath> {
        match &self.items {
            Items::Entries(entries) => entries.get(index).map(|entry| &entry.path),
            Items::Pages(pages) => pages.get(index).map(|item| &item.last_path),
        }
    }

    pub(super) fn last_path(&self) -> Option<&TreePath> {
        self.len().checked_sub(1).and_then(|last| self.path(last))
    }
}

/// What the bytes of a page refer to, for those who follow references without reading entries.
pub fn references(page: &[u8]) -> Result<Vec<Reference>, DecodeError> {
    let page = Page::decode(page)?;
    let pages = page.pages().map(|item| Reference::Page(item.page));
    Ok(pages.chain(page.contents().map(|content| Reference::Content(*content))).collect())
}

/// Where a page ends, for the writer and the reader alike.
#[derive(Debug)]
struct Cut {
    level: u8,
    count: usize,
    is_closed: bool,
}

impl Cut {
    const fn new(level: u8) -> Self {
        Self { level, count: 0, is_closed: false }
    }

    /// Takes account of an item; `item_bytes` are the bytes of all items so far.
    fn push(&mut self, path: &TreePath, item_bytes: usize) {
        self.count += 1;
        let at_least = if self.level == 0 { 1 } else { 2 };
        self.is_closed = self.count >= ITEMS_MAX
            || item_bytes >= ITEM_BYTES_TARGET
            || self.count >= at_least
                && blake3::hash(path.as_bytes()).as_bytes()[usize::from(self.level)].trailing_zeros() >= 6;
    }
}

struct Decoder<'a> {
    reader: Reader<'a>,
    count: usize,
    cut: Cut,
    entries: u64,
    bytes: u64,
}

impl Decoder<'_> {
    fn entries(&mut self, fidelity: Fidelity) -> Result<Vec<Entry>, DecodeError> {
        let start = self.reader.rest().len();
        let mut entries: Vec<Entry> = Vec::with_capacity(self.count);
        let mut order = OrderChecker::part(fidelity);
        for _ in 0..self.count {
            let path = self.path(entries.last().map(|entry| &entry.path), fidelity == Fidelity::System)?;
            let entry = read_fields(&mut self.reader, path, fidelity)?;
            order.push(&entry).map_err(|error| DecodeError::invalid(error.to_string()))?;
            self.add(1, entry.content().map_or(0, |content| content.size))?;
            self.cut.push(&entry.path, start - self.reader.rest().len());
            entries.push(entry);
        }
        Ok(entries)
    }

    fn pages(&mut self) -> Result<Vec<PageItem>, DecodeError> {
        let start = self.reader.rest().len();
        let mut pages: Vec<PageItem> = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let last_path = self.path(pages.last().map(|item| &item.last_path), false)?;
            let item = PageItem {
                last_path,
                page: ObjectId::from_bytes(self.reader.array("page id")?),
                length: self.reader.number("length of a page", PAGE_BYTES_MAX as u64)?,
                entries: self.reader.number("number of entries", u64::MAX)?,
                bytes: self.reader.number("number of bytes", u64::MAX)?,
            };
            self.add(item.entries, item.bytes)?;
            self.cut.push(&item.last_path, start - self.reader.rest().len());
            pages.push(item);
        }
        if pages.is_empty() {
            return Err(DecodeError::invalid("a page of pages is empty"));
        }
        Ok(pages)
    }

    /// Reads a path that is shortened against the previous one and greater than it.
    fn path(&mut self, previous: Option<&TreePath>, root_is_allowed: bool) -> Result<TreePath, DecodeError> {
        if self.cut.is_closed {
            return Err(DecodeError::invalid("a page goes on past the item that ends it"));
        }
        read_path(&mut self.reader, previous, root_is_allowed)
    }

    fn add(&mut self, entries: u64, bytes: u64) -> Result<(), DecodeError> {
        let overflow = || DecodeError::invalid("the sums of a page do not fit 64 bits");
        self.entries = self.entries.checked_add(entries).ok_or_else(overflow)?;
        self.bytes = self.bytes.checked_add(bytes).ok_or_else(overflow)?;
        Ok(())
    }
}

/// Writes the pages of one level, one after the other.
#[derive(Debug)]
pub(super) struct PageWriter {
    fidelity: Fidelity,
    cut: Cut,
    items: Vec<u8>,
    last_path: TreePath,
    entries: u64,
    bytes: u64,
}

/// Why an item could not be added to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PushError {
    /// The entry breaks this rule.
    Entry(&'static str),
    /// The sums do not fit 64 bits.
    Overflow,
}

impl PageWriter {
    pub(super) fn new(fidelity: Fidelity, level: u8) -> Self {
        Self {
            fidelity,
            cut: Cut::new(level),
            items: Vec::new(),
            last_path: TreePath::root(),
            entries: 0,
            bytes: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.cut.count == 0
    }

    /// Whether the last item ends the page.
    pub(super) const fn is_closed(&self) -> bool {
        self.cut.is_closed
    }

    pub(super) fn push_entry(&mut self, entry: &Entry) -> Result<(), PushError> {
        check_entry(entry, self.fidelity).map_err(PushError::Entry)?;
        self.add(1, entry.content().map_or(0, |content| content.size))?;
        put_path(&mut self.items, self.last_path.as_bytes(), entry.path.as_bytes());
        put_fields(&mut self.items, entry);
        self.cut.push(&entry.path, self.items.len());
        self.last_path = entry.path.clone();
        Ok(())
    }

    pub(super) fn push_page(&mut self, item: PageItem) -> Result<(), PushError> {
        self.add(item.entries, item.bytes)?;
        put_path(&mut self.items, self.last_path.as_bytes(), item.last_path.as_bytes());
        self.items.extend_from_slice(item.page.as_bytes());
        put_number(&mut self.items, item.length);
        put_number(&mut self.items, item.entries);
        put_number(&mut self.items, item.bytes);
        self.cut.push(&item.last_path, self.items.len());
        self.last_path = item.last_path;
        Ok(())
    }

    /// Ends the page and starts the next one.
    pub(super) fn finish(&mut self) -> (PageItem, Vec<u8>) {
        let next = Self::new(self.fidelity, self.cut.level);
        let done = std::mem::replace(self, next);
        let mut page = Vec::with_capacity(MAGIC.len() + 4 + done.items.len());
        page.extend_from_slice(MAGIC);
        page.push(done.cut.level);
        page.push(match done.fidelity {
            Fidelity::Git => 0,
            Fidelity::System => 1,
        });
        put_number(&mut page, done.cut.count as u64);
        page.extend_from_slice(&done.items);
        let item = PageItem {
            last_path: done.last_path,
            page: ObjectId::of(&page),
            length: page.len() as u64,
            entries: done.entries,
            bytes: done.bytes,
        };
        (item, page)
    }

    fn add(&mut self, entries: u64, bytes: u64) -> Result<(), PushError> {
        let sums = self.entries.checked_add(entries).zip(self.bytes.checked_add(bytes));
        (self.entries, self.bytes) = sums.ok_or(PushError::Overflow)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
