//! What changed between two manifests, at a cost in proportion to the change.
//!
//! Two positions move through the two manifests side by side. Pages with the same id hold the same entries and are
//! stepped over unread; a page is read only where the other manifest may have something in its range.

use std::cmp::Ordering;

use super::entry::Entry;
use super::read::{Manifest, PageSource, ReadError};
use super::walk::{Head, Walk};

/// A path at which two manifests differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the new manifest has it.
    Added(Entry),
    /// Only the old manifest has it.
    Removed(Entry),
    /// Both have it.
    Changed {
        /// What the old manifest says.
        old: Entry,
        /// What the new manifest says.
        new: Entry,
    },
}

impl Change {
    /// The path at which the manifests differ.
    pub const fn path(&self) -> &super::TreePath {
        match self {
            Self::Added(entry) | Self::Removed(entry) | Self::Changed { new: entry, .. } => &entry.path,
        }
    }
}

/// Compares two manifests.
pub fn diff<'a, A: PageSource, B: PageSource>(old: &'a Manifest<A>, new: &'a Manifest<B>) -> Diff<'a, A, B> {
    Diff { old: Walk::new(old), new: Walk::new(new), is_done: old.id() == new.id() }
}

/// The changes in the order of their paths. After an error there are no more.
pub struct Diff<'a, A, B> {
    old: Walk<'a, A>,
    new: Walk<'a, B>,
    is_done: bool,
}

/// What to do at a pair of positions.
enum Step {
    End,
    SkipBoth,
    EnterOld,
    EnterNew,
    EnterBoth,
    Removed,
    Added,
    Compare,
}

impl<A: PageSource, B: PageSource> Diff<'_, A, B> {
    fn advance(&mut self) -> Result<Option<Change>, ReadError> {
        loop {
            match self.step() {
                Step::End => return Ok(None),
                Step::EnterOld => self.old.enter()?,
                Step::EnterNew => self.new.enter()?,
                Step::EnterBoth => {
                    self.old.enter()?;
                    self.new.enter()?;
                }
                Step::SkipBoth => {
                    self.old.skip();
                    self.new.skip();
                }
                Step::Removed => return Ok(take(&mut self.old).map(Change::Removed)),
                Step::Added => return Ok(take(&mut self.new).map(Change::Added)),
                Step::Compare => match (take(&mut self.old), take(&mut self.new)) {
                    (Some(old), Some(new)) if old != new => return Ok(Some(Change::Changed { old, new })),
                    _ => {}
                },
            }
        }
    }

    fn step(&self) -> Step {
        match (self.old.head(), self.new.head()) {
            (None, None) => Step::End,
            (Some(head), None) => only(head, Step::EnterOld, Step::Removed),
            (None, Some(head)) => only(head, Step::EnterNew, Step::Added),
            (Some(old), Some(new)) if is_before(old, &self.new, new) => {
                only(old, Step::EnterOld, Step::Removed)
            }
            (Some(old), Some(new)) if is_before(new, &self.old, old) => {
                only(new, Step::EnterNew, Step::Added)
            }
            // The ranges overlap.
            (Some(Head::Page(old, old_level)), Some(Head::Page(new, new_level))) => {
                match old_level.cmp(&new_level) {
                    Ordering::Greater => Step::EnterOld,
                    Ordering::Less => Step::EnterNew,
                    Ordering::Equal if old.page == new.page => Step::SkipBoth,
                    Ordering::Equal => match old.last_path.cmp(&new.last_path) {
                        Ordering::Less => Step::EnterOld,
                        Ordering::Greater => Step::EnterNew,
                        Ordering::Equal => Step::EnterBoth,
                    },
                }
            }
            (Some(Head::Page(..)), Some(Head::Entry(_))) => Step::EnterOld,
            (Some(Head::Entry(_)), Some(Head::Page(..))) => Step::EnterNew,
            // Neither path is before the other.
            (Some(Head::Entry(_)), Some(Head::Entry(_))) => Step::Compare,
        }
    }
}

fn only(head: Head<'_>, enter: Step, report: Step) -> Step {
    match head {
        Head::Page(..) => enter,
        Head::Entry(_) => report,
    }
}

/// Whether all of `head` is before all of the other manifest's head.
fn is_before<S: PageSource>(head: Head<'_>, other: &Walk<'_, S>, other_head: Head<'_>) -> bool {
    match other_head {
        Head::Entry(entry) => *head.last_path() < entry.path,
        Head::Page(..) => other.low().is_some_and(|low| head.last_path() <= low),
    }
}

fn take<S: PageSource>(walk: &mut Walk<'_, S>) -> Option<Entry> {
    let Some(Head::Entry(entry)) = walk.head() else { return None };
    let entry = entry.clone();
    walk.skip();
    Some(entry)
}

impl<A: PageSource, B: PageSource> Iterator for Diff<'_, A, B> {
    type Item = Result<Change, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.advance();
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
