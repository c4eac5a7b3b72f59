//! What is on trial: the version of a target, or the versions of all targets of a profile together.
//!
//! Both are noted in a state directory of their own, with the same notes and the same lock, so that whoever has to
//! decide about them needs to know no more than which of the two it is.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::pending::{Pending, Run};
use crate::shell_words::quoted;
use crate::sync::place::Place;

/// What is on trial, and where that is noted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'s> {
    /// The directory of its notes and its lock.
    pub(crate) state: &'s Path,
    what: What<'s>,
}

#[derive(Debug, Clone, Copy)]
enum What<'s> {
    Target(&'s Path),
    /// A target whose tree stays: what is taken back is what runs for it, for this reason.
    Machine(&'s Path, Run),
    Set(&'s str),
}

impl<'s> Subject<'s> {
    /// The version of a target.
    pub(crate) fn target(place: &'s Place) -> Self {
        Self { state: &place.state, what: What::Target(&place.target) }
    }

    /// The same, of which this is noted: where there is no version before, the tree stays.
    pub(crate) fn noted(self, pending: &Pending) -> Self {
        match self.what {
            What::Target(target) if pending.previous.is_none() => {
                Self { what: What::Machine(target, pending.run), ..self }
            }
            _ => self,
        }
    }

    /// The versions of all targets of a profile.
    pub(crate) const fn set(profile: &'s str, state: &'s Path) -> Self {
        Self { state, what: What::Set(profile) }
    }

    /// How it is named on the command line.
    pub(crate) fn words(&self) -> [OsString; 2] {
        match self.what {
            What::Target(target) | What::Machine(target, _) => ["--target".into(), target.into()],
            What::Set(profile) => ["--profile".into(), profile.into()],
        }
    }

    /// The same, as it is shown to people.
    pub(crate) fn typed(&self) -> String {
        match self.what {
            What::Target(target) | What::Machine(target, _) => {
                format!("--target {}", quoted(&target.display().to_string()))
            }
            What::Set(profile) => format!("--profile {profile}"),
        }
    }

    /// What becomes of it when nobody confirms it.
    pub(crate) const fn goes_back(&self) -> &'static str {
        match self.what {
            What::Target(_) => "it goes back to the version before",
            What::Machine(..) => "what runs since then is taken back",
            What::Set(_) => "all its targets go back together",
        }
    }

    /// What is looked at.
    pub(crate) const fn versions_are(&self) -> &'static str {
        match self.what {
            What::Target(_) | What::Machine(_, Run::Update) => "the new version is",
            What::Machine(_, Run::Rebuild) => "what was rebuilt is",
            What::Set(_) => "the new versions are",
        }
    }

    /// What `recover` does about it, when its run has died.
    pub(crate) const fn is_settled(&self) -> &'static str {
        match self.what {
            What::Target(_) | What::Machine(..) => "takes it back",
            What::Set(_) => "settles what became of all its targets",
        }
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Target(target) | What::Machine(target, _) => target.display().fmt(f),
            What::Set(profile) => f.write_str(profile),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        #[track_caller]
        fn check(target: &str, expected: &str) {
            let subject = Subject { state: Path::new("/s"), what: What::Target(Path::new(target)) };
            assert_eq!(subject.typed(), expected);
        }
        check("/srv/site", "--target /srv/site");
        check("/srv/my site", "--target '/srv/my site'");
        check("/srv/it's $HOME", r"--target '/srv/it'\''s $HOME'");
    }
}
