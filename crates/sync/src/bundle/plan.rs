//! What a bundle has to say and to deliver, from two manifests.
//!
//! Pure: no content is read. One merge of the two lists of entries finds what changed; a content that any old entry
//! has is named, every other one is delivered once, against the file that it most likely comes from.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashMap;

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::{Attributes, Content, Entry, Fidelity, Node, TreePath};

use super::head::{HeadChange, HeadEdit, Reference, Shape, nameless, placeholder};
use super::pairing::{Candidate, Pairing};

/// What a bundle does, before it is decided how contents are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The fidelity of the new manifest.
    pub fidelity: Fidelity,
    /// The changes in the order of the entries.
    pub edits: Vec<HeadEdit>,
    /// The paths of the entries that are added, in their order.
    pub added: Vec<TreePath>,
    /// The paths of the entries that go, in their order.
    pub removed: Vec<TreePath>,
    /// The contents that are delivered, in the order in which edits use them first.
    pub items: Vec<DraftItem>,
}

/// A content that is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftItem {
    /// The content.
    pub content: Content,
    /// The old file that it is likely to share bytes with, and the number of its entry.
    pub base: Option<(u64, Content)>,
}

impl Draft {
    /// The bytes that have to be read to make the bundle: of new contents, and of their bases.
    pub fn bytes(&self) -> (u64, u64) {
        let new = self.items.iter().map(|item| item.content.size).fold(0, u64::saturating_add);
        let bases = self.items.iter().filter_map(|item| item.base);
        (new, bases.map(|(_, content)| content.size).fold(0, u64::saturating_add))
    }
}

/// Something that differs between the two manifests.
enum Event {
    Removed { at: u64, entry: Entry },
    Added { at: u64, entry: Entry },
    Changed { at: u64, old: Entry, new: Entry },
}

/// Compares two manifests, both in the order of their paths. Where the old one is of another fidelity, or there is
/// none, `old` has no entries.
pub fn draft<O: Borrow<Entry>, N: Borrow<Entry>, E>(
    fidelity: Fidelity,
    old: impl Iterator<Item = Result<O, E>>,
    new: impl Iterator<Item = Result<N, E>>,
) -> Result<Draft, E> {
    let (events, places) = compare(old, new)?;
    let mut candidates = Vec::new();
    let mut sources = Vec::new();
    for event in &events {
        let (at, entry) = match event {
            Event::Removed { at, entry } | Event::Changed { at, old: entry, .. } => (*at, entry),
            Event::Added { .. } => continue,
        };
        if let Some(content) = file_of(entry) {
            candidates.push(Candidate { path: entry.path.as_bytes(), size: content.size });
            sources.push((at, *content));
        }
    }
    let pairing = Pairing::new(candidates);
    let mut drafting = Drafting { places, pairing, sources, items: Vec::new(), numbers: HashMap::new() };
    let mut draft =
        Draft { fidelity, edits: Vec::new(), added: Vec::new(), removed: Vec::new(), items: Vec::new() };
    for event in &events {
        let edit = match event {
            Event::Removed { at, entry } => {
                draft.removed.push(entry.path.clone());
                match draft.edits.last_mut() {
                    Some(HeadEdit { at: first, change: HeadChange::Remove { count } })
                        if *first + *count == *at =>
                    {
                        *count += 1;
                        continue;
                    }
                    _ => HeadEdit { at: *at, change: HeadChange::Remove { count: 1 } },
                }
            }
            Event::Added { at, entry } => {
                draft.added.push(entry.path.clone());
                HeadEdit { at: *at, change: HeadChange::Add(drafting.shape(entry, None)) }
            }
            Event::Changed { at, old, new } => HeadEdit { at: *at, change: drafting.change(*at, old, new) },
        };
        draft.edits.push(edit);
    }
    draft.items = drafting.items;
    Ok(draft)
}

/// The file that contents are compared with.
fn file_of(entry: &Entry) -> Option<&Content> {
    match &entry.node {
        Node::File(content) if content.size > 0 => Some(content),
        _ => None,
    }
}

type Compared = (Vec<Event>, HashMap<ContentId, u64>);

/// Merges the two lists; returns what differs, and for each content of the old one an entry that has it.
fn compare<O: Borrow<Entry>, N: Borrow<Entry>, E>(
    mut old: impl Iterator<Item = Result<O, E>>,
    mut new: impl Iterator<Item = Result<N, E>>,
) -> Result<Compared, E> {
    let mut events = Vec::new();
    let mut places = HashMap::new();
    let mut at = 0;
    let (mut before, mut after) = (old.next().transpose()?, new.next().transpose()?);
    loop {
        let order = match (&before, &after) {
            (None, None) => return Ok((events, places)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => before.borrow().path.cmp(&after.borrow().path),
        };
        let (mut old_entry, mut new_entry) = (None, None);
        if order != Ordering::Greater {
            old_entry = std::mem::replace(&mut before, old.next().transpose()?);
        }
        if order != Ordering::Less {
            new_entry = std::mem::replace(&mut after, new.next().transpose()?);
        }
        let entries = (old_entry.as_ref().map(Borrow::borrow), new_entry.as_ref().map(Borrow::borrow));
        if let (Some(entry), _) = entries
            && let Some(content) = entry.content()
        {
            places.entry(content.id).or_insert(at);
        }
        match entries {
            (Some(old), Some(new)) if old != new => {
                events.push(Event::Changed { at, old: old.clone(), new: new.clone() });
            }
            (Some(old), None) => events.push(Event::Removed { at, entry: old.clone() }),
            (None, Some(new)) => events.push(Event::Added { at, entry: new.clone() }),
            _ => {}
        }
        at += u64::from(old_entry.is_some());
    }
}

struct Drafting<'a> {
    /// An old entry for each content of the old manifest.
    places: HashMap<ContentId, u64>,
    pairing: Pairing<'a>,
    /// The entries and contents of the candidates.
    sources: Vec<(u64, Content)>,
    items: Vec<DraftItem>,
    numbers: HashMap<ContentId, u64>,
}

impl Drafting<'_> {
    fn change(&mut self, at: u64, old: &Entry, new: &Entry) -> HeadChange {
        let is_alike = matches!(
            (&old.node, &new.node),
            (Node::File(_), Node::File(_)) | (Node::Symlink(_), Node::Symlink(_))
        );
        if is_alike && old.content() != new.content() {
            if old.attributes == new.attributes {
                let content = self.reference(new, Some((at, old)));
                return HeadChange::Content(content.unwrap_or(Reference::Empty));
            }
            if let Some((seconds, nanoseconds)) = time_alone(&old.attributes, &new.attributes) {
                let content = self.reference(new, Some((at, old))).unwrap_or(Reference::Empty);
                return HeadChange::Touch { seconds, nanoseconds, content };
            }
        }
        HeadChange::Replace(self.shape(new, Some((at, old))))
    }

    fn shape(&mut self, entry: &Entry, own: Option<(u64, &Entry)>) -> Shape {
        let content = self.reference(entry, own);
        let mut entry = Entry { path: placeholder(), ..entry.clone() };
        if let Node::File(content) | Node::Symlink(content) = &mut entry.node {
            *content = nameless();
        }
        Shape { entry, content }
    }

    fn reference(&mut self, entry: &Entry, own: Option<(u64, &Entry)>) -> Option<Reference> {
        let content = entry.content()?;
        if content.size == 0 {
            return Some(Reference::Empty);
        }
        if own.is_some_and(|(_, old)| old.content() == Some(content)) {
            return Some(Reference::Same);
        }
        if let Some(place) = self.places.get(&content.id) {
            return Some(Reference::Old(*place));
        }
        if let Some(number) = self.numbers.get(&content.id) {
            return Some(Reference::Delivered(*number));
        }
        let number = self.items.len() as u64;
        self.numbers.insert(content.id, number);
        // Targets of links are short, and no file is read for them.
        let base = if matches!(entry.node, Node::File(_)) { self.base(entry, content, own) } else { None };
        self.items.push(DraftItem { content: *content, base });
        Some(Reference::Delivered(number))
    }

    fn base(&self, entry: &Entry, content: &Content, own: Option<(u64, &Entry)>) -> Option<(u64, Content)> {
        if let Some((at, old)) = own
            && let Some(former) = file_of(old)
        {
            return Some((at, *former));
        }
        let found = self.pairing.find(entry.path.as_bytes(), content.size)?;
        Some(self.sources[found])
    }
}

/// What is added to the time, where nothing else differs.
fn time_alone(old: &Attributes, new: &Attributes) -> Option<(i64, u32)> {
    let (Attributes::System(Some(old)), Attributes::System(Some(new))) = (old, new) else { return None };
    let mut alike = old.clone();
    alike.modified = new.modified;
    let seconds = new.modified.seconds.checked_sub(old.modified.seconds)?;
    (alike == *new).then_some((seconds, new.modified.nanoseconds))
}
