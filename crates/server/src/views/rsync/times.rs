//! When each path of a tree has changed last, by what was published.
//!
//! A client of rsync takes a file for unchanged that has the size and the time that it knows. So each version has a time
//! of its own, later than that of the version before, and what changes with it gets that time; everything else keeps
//! its own. A directory has the time of the last change below it.

use std::collections::HashMap;

use smart_sync_store::manifest::TreePath;

/// Seconds since 1970.
pub(super) type Seconds = u64;

/// The times of what has changed since a version that is the base.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// The time of the newest version.
    newest: Seconds,
    changed: HashMap<Box<[u8]>, Seconds>,
}

impl Times {
    /// Begins with the time of the base, whose paths keep their times; with nothing where there is none.
    pub(super) fn after(base: Option<Seconds>) -> Self {
        Self { newest: base.unwrap_or(0), changed: HashMap::new() }
    }

    /// Goes on to the next version, which was published at this time.
    pub(super) fn advance(&mut self, published: Seconds) {
        self.newest = published.max(self.newest.saturating_add(1));
    }

    /// Notes a path that differs from the version before.
    pub(super) fn note(&mut self, path: &TreePath) {
        let path = path.as_bytes();
        self.set(path);
        for (slash, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.set(&path[..slash]);
        }
        self.set(&[]);
    }

    fn set(&mut self, path: &[u8]) {
        if let Some(time) = self.changed.get_mut(path) {
            *time = self.newest;
        } else {
            self.changed.insert(path.into(), self.newest);
        }
    }

    /// When a path has changed, if that was after the base.
    pub(super) fn of(&self, path: &[u8]) -> Option<Seconds> {
        self.changed.get(path).copied()
    }

    /// The time of the newest version.
    pub(super) const fn newest(&self) -> Seconds {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_changes_gets_the_time_of_its_version() {
        let mut times = Times::after(Some(100));
        times.advance(200);
        times.note(&path("a/b/c"));
        times.note(&path("x"));
        times.advance(300);
        times.note(&path("a/d"));
        let of = |path: &str| times.of(path.as_bytes());
        assert_eq!([of("a/b/c"), of("a/b"), of("x")], [Some(200); 3]);
        assert_eq!([of("a/d"), of("a"), of("")], [Some(300); 3]);
        assert_eq!([of("a/b/other"), of("y")], [None; 2]);
    }

    #[test]
    fn two_versions_never_have_one_time_and_none_goes_back() {
        let mut times = Times::after(Some(100));
        for (published, expected) in [(100, 101), (50, 102), (102, 103), (500, 500), (500, 501)] {
            times.advance(published);
            assert_eq!(times.newest(), expected);
        }
    }
}
