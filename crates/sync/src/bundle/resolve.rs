//! The head of a bundle, with what it says of the old manifest looked up.
//!
//! The old entries are walked once, in their order, and only as far as anything is said of them. Every length is
//! checked here against the sizes that the old manifest gives and the bounds that the publication signs, so that
//! whoever carries the bundle out reads and writes within them.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};

use smart_sync_store::codec::{DecodeError, Reader};
use smart_sync_store::manifest::{
    Attributes, Content, Edit, Entry, Fidelity, FileTime, Node, TreePath, put_path, read_path,
};

use super::head::{Batch, Head, HeadChange, Item, Part, Plain, Rebuilt, Reference, Shape};
use super::{BATCH_BYTES_MAX, index, plain_max};

/// A file of the old tree that bytes are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldFile {
    /// Where it is.
    pub path: TreePath,
    /// What it holds.
    pub content: Content,
}

/// A content that is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its number of bytes.
    pub size: u64,
    /// Whether a file that has it has holes.
    pub is_sparse: bool,
    /// The first of its slots: the only one, or those of program, frames and members.
    pub(super) slot: usize,
    /// The version of the division into frames and members, where it is rebuilt.
    pub view: Option<u8>,
    /// How long that takes on one processor, roughly, in milliseconds, as whoever made the bundle says.
    pub work: u64,
}

/// What batches deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The content that it is of.
    pub(super) item: usize,
    /// What it is of it.
    pub(super) role: Role,
    /// Its number of bytes.
    pub(super) size: u64,
    /// The old file that bytes of it are taken from.
    pub(super) base: Option<Box<OldFile>>,
    /// What is delivered, and what is copied; without it, all of it is delivered in one batch.
    pub(super) parts: Option<Box<[Part]>>,
}

/// What a slot is of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Role {
    /// The content itself.
    Content,
    /// What rebuilds it.
    Program,
    /// The frames that it is rebuilt from.
    Frames,
    /// The members that it is rebuilt from.
    Members,
}

/// A bundle whose contents are still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The fidelity of the new manifest.
    pub fidelity: Fidelity,
    edits: Vec<Resolution>,
    /// The contents that are delivered.
    pub items: Vec<Delivery>,
    /// What is delivered of them.
    pub slots: Vec<Slot>,
    /// How it is delivered.
    pub batches: Vec<Batch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Resolution {
    Remove(TreePath),
    /// With the number of the item that names its content, unless that is known.
    Put(Entry, Option<usize>),
}

/// What a bundle may do.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The bytes of all contents of the new tree.
    pub content_bytes: u64,
    /// The bytes of all paths that are added.
    pub path_bytes: u64,
}

/// Why a head was not resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError<E> {
    /// It does not fit the old manifest, or its bounds.
    #[error("the bundle does not go with what is here")]
    Refused(#[from] DecodeError),
    /// The old manifest could not be read.
    #[error("reading the manifest of what is here")]
    Old(#[source] E),
}

/// Writes the names of removed entries, which the names of new ones are compressed against.
pub(super) fn encode_names<'a>(paths: impl IntoIterator<Item = &'a TreePath>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut previous: &[u8] = &[];
    for path in paths {
        put_path(&mut out, previous, path.as_bytes());
        previous = path.as_bytes();
    }
    out
}

fn decode_names(
    bytes: &[u8],
    count: usize,
    fidelity: Fidelity,
    bytes_max: u64,
) -> Result<Vec<TreePath>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut names: Vec<TreePath> = Vec::with_capacity(count.min(bytes.len()));
    let mut total = 0;
    for _ in 0..count {
        let path = read_path(&mut reader, names.last(), fidelity == Fidelity::System)?;
        total += path.as_bytes().len() as u64;
        if total > bytes_max {
            let field = "length of all paths";
            return Err(DecodeError::OverLimit { field, value: total, limit: bytes_max });
        }
        names.push(path);
    }
    reader.finish()?;
    Ok(names)
}

impl Head {
    /// Looks up what the head says of the old manifest. `names` decodes the names of new entries, given what they are
    /// compressed against.
    pub fn resolve<O: Borrow<Entry>, E>(
        self,
        old: impl Iterator<Item = Result<O, E>>,
        bounds: Bounds,
        names: impl FnOnce(&[u8]) -> Result<Vec<u8>, DecodeError>,
    ) -> Result<Resolved, ResolveError<E>> {
        let found = Found::look_up(&self, old)?;
        let names = names(&encode_names(&found.removed))?;
        let names = decode_names(&names, self.added(), self.fidelity, bounds.path_bytes)?;
        let (mut items, slots) = resolve_items(&self.items, &found, bounds)?;
        check_batches(&self.batches, &slots)?;
        let edits = resolve_edits(self.edits, &found, names)?;
        for edit in &edits {
            if let Resolution::Put(entry, Some(item)) = edit {
                items[*item].is_sparse |= is_sparse(entry);
            }
        }
        Ok(Resolved { fidelity: self.fidelity, edits, items, slots, batches: self.batches })
    }
}

/// What was looked up.
struct Found {
    /// Old entries that are changed or named, by their numbers.
    entries: HashMap<u64, Entry>,
    /// The paths of removed entries, in their order.
    removed: Vec<TreePath>,
}

impl Found {
    fn look_up<O: Borrow<Entry>, E>(
        head: &Head,
        old: impl Iterator<Item = Result<O, E>>,
    ) -> Result<Self, ResolveError<E>> {
        let mut wanted = BTreeSet::new();
        let mut removed_runs = Vec::new();
        let mut want = |at: u64| _ = wanted.insert(at);
        for edit in &head.edits {
            let reference = match &edit.change {
                HeadChange::Remove { count } => {
                    removed_runs.push(edit.at..edit.at + count);
                    None
                }
                HeadChange::Content(reference) | HeadChange::Touch { content: reference, .. } => {
                    want(edit.at);
                    Some(*reference)
                }
                HeadChange::Replace(shape) => {
                    want(edit.at);
                    shape.content
                }
                HeadChange::Add(shape) => shape.content,
            };
            if let Some(Reference::Old(at)) = reference {
                want(at);
            }
        }
        head.items.iter().filter_map(Item::base).for_each(&mut want);
        let mut found = Self { entries: HashMap::new(), removed: Vec::new() };
        let mut wanted = wanted.into_iter().peekable();
        let mut removed_runs = removed_runs.into_iter().peekable();
        let mut old = old.zip(0u64..);
        while wanted.peek().is_some() || removed_runs.peek().is_some() {
            let Some((entry, at)) = old.next() else {
                return Err(DecodeError::invalid("it speaks of more entries than are here").into());
            };
            let entry = entry.map_err(ResolveError::Old)?;
            let entry = entry.borrow();
            if wanted.next_if_eq(&at).is_some() {
                found.entries.insert(at, entry.clone());
            }
            while removed_runs.next_if(|run| run.end <= at).is_some() {}
            if removed_runs.peek().is_some_and(|run| run.contains(&at)) {
                found.removed.push(entry.path.clone());
                removed_runs.next_if(|run| run.end == at + 1);
            }
        }
        Ok(found)
    }

    fn entry(&self, at: u64) -> &Entry {
        self.entries.get(&at).expect("every entry that is named was looked up")
    }

    fn file(&self, at: u64) -> Result<OldFile, DecodeError> {
        let entry = self.entry(at);
        match &entry.node {
            Node::File(content) => Ok(OldFile { path: entry.path.clone(), content: *content }),
            _ => Err(DecodeError::invalid(format!("bytes are taken of {}, which is no file", entry.path))),
        }
    }
}

fn resolve_items(
    items: &[Item],
    found: &Found,
    bounds: Bounds,
) -> Result<(Vec<Delivery>, Vec<Slot>), DecodeError> {
    let (mut deliveries, mut slots) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    let mut total = 0u64;
    for (number, item) in items.iter().enumerate() {
        let base = item.base().map(|at| found.file(at).map(Box::new)).transpose()?;
        let base_size = base.as_ref().map_or(0, |base| base.content.size);
        let size = match item {
            Item::Plain(plain) => base_size.checked_add_signed(plain.growth),
            Item::Rebuilt(rebuilt) => Some(rebuilt.size),
        };
        let size = size.filter(|size| *size > 0);
        let size = size.ok_or_else(|| DecodeError::invalid("a content has no possible size"))?;
        total = total.saturating_add(size);
        if total > bounds.content_bytes {
            let field = "the size of all new contents";
            return Err(DecodeError::OverLimit { field, value: total, limit: bounds.content_bytes });
        }
        let (view, work) = match item {
            Item::Plain(_) => (None, 0),
            Item::Rebuilt(rebuilt) => (Some(rebuilt.view), rebuilt.work),
        };
        deliveries.push(Delivery { size, is_sparse: false, slot: slots.len(), view, work });
        let slot = |role, size, base, parts| Slot { item: number, role, size, base, parts };
        match item {
            Item::Plain(Plain { parts, .. }) => {
                if let Some(parts) = parts {
                    let is_within = |part: &Part| part.copied == 0 || part.offset + part.copied <= base_size;
                    if length(parts) != size || !parts.iter().all(is_within) {
                        return Err(DecodeError::invalid("the parts of a content do not make it"));
                    }
                }
                slots.push(slot(Role::Content, size, base, parts.as_deref().map(Into::into)));
            }
            Item::Rebuilt(Rebuilt { program, frames, members, .. }) => {
                // How long the streams of the base are is not known before it is taken apart.
                let (plain, limit) = (length(frames).saturating_add(length(members)), plain_max(size));
                if plain > limit {
                    let field = "what a content is rebuilt from";
                    return Err(DecodeError::OverLimit { field, value: plain, limit });
                }
                slots.push(slot(Role::Program, *program, None, None));
                slots.push(slot(Role::Frames, length(frames), base.clone(), Some(frames.as_slice().into())));
                slots.push(slot(Role::Members, length(members), base, Some(members.as_slice().into())));
            }
        }
    }
    Ok((deliveries, slots))
}

fn length(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.delivered + part.copied).sum()
}

impl Item {
    /// The old entry whose file it is compressed against.
    pub const fn base(&self) -> Option<u64> {
        match self {
            Self::Plain(plain) => plain.base,
            Self::Rebuilt(rebuilt) => rebuilt.base,
        }
    }
}

/// Whether each batch and what it is compressed against fit their bounds.
fn check_batches(batches: &[Batch], slots: &[Slot]) -> Result<(), DecodeError> {
    for batch in batches {
        let (length, base) = batch_lengths(batch, slots);
        if length > BATCH_BYTES_MAX || base.is_none_or(|base| base > BATCH_BYTES_MAX) {
            return Err(DecodeError::invalid("a batch has more bytes than a reader makes room for"));
        }
    }
    Ok(())
}

/// The bytes that a batch delivers, and those that it is compressed against; none if that is beyond a base.
pub(super) fn batch_lengths(batch: &Batch, slots: &[Slot]) -> (u64, Option<u64>) {
    match batch {
        Batch::Whole(whole) => {
            let length = whole.iter().map(|slot| slots[index(*slot)].size).fold(0, u64::saturating_add);
            let bases = bases_of(whole, slots).map(|base| base.content.size).fold(0, u64::saturating_add);
            (length, Some(bases))
        }
        Batch::Section { slot, length, base } => {
            let slot = &slots[index(*slot)];
            let end = base.offset.saturating_add(base.length);
            let is_within = match (&slot.base, slot.role) {
                _ if base.length == 0 => true,
                (Some(base), Role::Content) => end <= base.content.size,
                (base, _) => base.is_some(),
            };
            (*length, is_within.then_some(base.length))
        }
    }
}

/// The bases of contents that are delivered together, each once, in the order of their first use.
pub(super) fn bases_of<'a>(whole: &[u64], slots: &'a [Slot]) -> impl Iterator<Item = &'a OldFile> {
    let mut seen = std::collections::HashSet::new();
    whole
        .iter()
        .filter_map(|slot| slots[index(*slot)].base.as_deref())
        .filter(move |base| seen.insert(&base.path))
}

fn resolve_edits(
    edits: Vec<super::head::HeadEdit>,
    found: &Found,
    names: Vec<TreePath>,
) -> Result<Vec<Resolution>, DecodeError> {
    let mut names = names.into_iter();
    let mut removed = found.removed.iter();
    let mut resolved = Vec::with_capacity(edits.len());
    for edit in edits {
        let put = match edit.change {
            HeadChange::Remove { count } => {
                let count = usize::try_from(count).expect("all of them were looked up");
                resolved.extend(removed.by_ref().take(count).cloned().map(Resolution::Remove));
                continue;
            }
            HeadChange::Content(reference) => {
                let old = found.entry(edit.at);
                with_content(old.clone(), reference, Some(old), found)?
            }
            HeadChange::Touch { seconds, nanoseconds, content } => {
                let old = found.entry(edit.at);
                let mut entry = old.clone();
                let Attributes::System(Some(metadata)) = &mut entry.attributes else {
                    return Err(DecodeError::invalid("an entry without a time gets another one"));
                };
                let moved = metadata.modified.seconds.checked_add(seconds);
                let moved = moved.ok_or_else(|| DecodeError::invalid("a time is beyond all times"))?;
                metadata.modified = FileTime { seconds: moved, nanoseconds };
                with_content(entry, content, Some(old), found)?
            }
            HeadChange::Replace(shape) => {
                let old = found.entry(edit.at);
                shaped(shape, old.path.clone(), Some(old), found)?
            }
            HeadChange::Add(shape) => {
                let path = names.next().expect("there are as many names as entries that are added");
                shaped(shape, path, None, found)?
            }
        };
        resolved.push(put);
    }
    Ok(resolved)
}

fn is_sparse(entry: &Entry) -> bool {
    matches!(&entry.attributes, Attributes::System(Some(metadata)) if metadata.is_sparse)
}

fn shaped(
    shape: Shape,
    path: TreePath,
    old: Option<&Entry>,
    found: &Found,
) -> Result<Resolution, DecodeError> {
    let entry = Entry { path, ..shape.entry };
    match shape.content {
        Some(reference) => with_content(entry, reference, old, found),
        None => Ok(Resolution::Put(entry, None)),
    }
}

fn with_content(
    mut entry: Entry,
    reference: Reference,
    old: Option<&Entry>,
    found: &Found,
) -> Result<Resolution, DecodeError> {
    let known = |entry: &Entry| {
        let content = entry.content().copied();
        content.ok_or_else(|| DecodeError::invalid("an entry without a content is named"))
    };
    if entry.content().is_none() {
        return Err(DecodeError::invalid("an entry that has no content gets one"));
    }
    let content = match reference {
        Reference::Empty => smart_sync_store::content::name_content(b""),
        Reference::Delivered(item) => return Ok(Resolution::Put(entry, Some(index(item)))),
        Reference::Same => known(old.ok_or_else(|| DecodeError::invalid("a new entry keeps a content"))?)?,
        Reference::Old(at) => known(found.entry(at))?,
    };
    set_content(&mut entry, content);
    Ok(Resolution::Put(entry, None))
}

fn set_content(entry: &mut Entry, content: Content) {
    if let Node::File(named) | Node::Symlink(named) = &mut entry.node {
        *named = content;
    }
}

impl Resolved {
    /// The edits to the old manifest, once it is known what the delivered contents are called.
    pub fn edits(self, contents: &[Content]) -> Vec<Edit> {
        assert_eq!(contents.len(), self.items.len(), "each delivered content is named");
        let finish = |resolution| match resolution {
            Resolution::Remove(path) => Edit::Remove(path),
            Resolution::Put(mut entry, item) => {
                if let Some(item) = item {
                    set_content(&mut entry, contents[item]);
                }
                Edit::Put(entry)
            }
        };
        self.edits.into_iter().map(finish).collect()
    }
}
