//! A position in a manifest that moves forward over entries and over whole pages.

use std::sync::Arc;

use super::entry::Entry;
use super::page::{Items, Page, PageItem};
use super::path::TreePath;
use super::read::{Manifest, PageSource, ReadError};

/// What stands at the position of a walk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Head<'a> {
    /// A page that has not been read, and its level.
    Page(&'a PageItem, u8),
    /// An entry.
    Entry(&'a Entry),
}

impl Head<'_> {
    /// The path of the last entry it stands for.
    pub(super) const fn last_path(&self) -> &TreePath {
        match self {
            Self::Page(item, _) => &item.last_path,
            Self::Entry(entry) => &entry.path,
        }
    }
}

/// A page that the position is in, and the item of it that is being looked at or looked into.
struct Frame {
    page: Arc<Page>,
    index: usize,
    /// Whether no page of its level follows.
    is_last: bool,
}

/// A position in a manifest.
pub(super) struct Walk<'a, S> {
    manifest: &'a Manifest<S>,
    /// The pages from the root down. The last one has an item at its index, or there are none: the end.
    frames: Vec<Frame>,
}

impl<'a, S: PageSource> Walk<'a, S> {
    /// Starts in front of the first item of the root page.
    pub(super) fn new(manifest: &'a Manifest<S>) -> Self {
        let root = Frame { page: Arc::clone(manifest.root()), index: 0, is_last: true };
        let mut walk = Self { manifest, frames: vec![root] };
        walk.leave_finished_pages();
        walk
    }

    pub(super) const fn manifest(&self) -> &'a Manifest<S> {
        self.manifest
    }

    /// What comes next, or nothing at the end.
    pub(super) fn head(&self) -> Option<Head<'_>> {
        let frame = self.frames.last()?;
        match frame.page.items() {
            Items::Entries(entries) => entries.get(frame.index).map(Head::Entry),
            Items::Pages(pages) => {
                pages.get(frame.index).map(|item| Head::Page(item, frame.page.level().saturating_sub(1)))
            }
        }
    }

    /// The path of the entry in front of the head: everything in the head is greater.
    pub(super) fn low(&self) -> Option<&TreePath> {
        self.frames.iter().rev().find_map(|frame| frame.page.path(frame.index.checked_sub(1)?))
    }

    /// Steps over the head, without reading it where it is a page.
    pub(super) fn skip(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.index += 1;
        }
        self.leave_finished_pages();
    }

    /// Reads the head where it is a page, and stands in front of its first item.
    pub(super) fn enter(&mut self) -> Result<(), ReadError> {
        let Some(Head::Page(item, level)) = self.head() else { return Ok(()) };
        let is_last =
            self.frames.last().is_some_and(|frame| frame.is_last && frame.index + 1 == frame.page.len());
        let page = self.manifest.load(item, level, self.low().map(TreePath::as_bytes), is_last)?;
        self.frames.push(Frame { page, index: 0, is_last });
        Ok(())
    }

    /// Enters pages until the head is an entry.
    pub(super) fn descend(&mut self) -> Result<(), ReadError> {
        while let Some(Head::Page(..)) = self.head() {
            self.enter()?;
        }
        Ok(())
    }

    /// Moves forward to the first entry whose path is not less than `target`.
    pub(super) fn seek(&mut self, target: &[u8]) -> Result<(), ReadError> {
        let is_less = |path: Option<&TreePath>| path.is_some_and(|path| path.as_bytes() < target);
        while self.frames.last().is_some_and(|frame| is_less(frame.page.last_path())) {
            self.frames.pop();
            if let Some(parent) = self.frames.last_mut() {
                parent.index += 1;
            }
        }
        while let Some(frame) = self.frames.last_mut() {
            let (mut low, mut high) = (frame.index, frame.page.len());
            while low < high {
                let middle = low + (high - low) / 2;
                if is_less(frame.page.path(middle)) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            frame.index = low;
            match self.head() {
                Some(Head::Page(..)) => self.enter()?,
                _ => break,
            }
        }
        Ok(())
    }

    fn leave_finished_pages(&mut self) {
        while self.frames.last().is_some_and(|frame| frame.index >= frame.page.len()) {
            self.frames.pop();
            if let Some(parent) = self.frames.last_mut() {
                parent.index += 1;
            }
        }
    }
}
