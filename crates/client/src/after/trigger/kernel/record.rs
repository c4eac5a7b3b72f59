//! What is remembered of kernels on a host, between updates.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::realm::trust_store;
use crate::state_dir::make_private;
use smart_sync_sync::kinds::kernels::version::{compare, is_version};

const NAME: &str = "record";
/// How many of the kernels that ran are never removed: the one that runs, and the one that ran before it.
const BOOTED: usize = 2;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Record {
    /// Versions that were placed, and only such are ever removed.
    #[serde(default)]
    pub placed: Vec<String>,
    /// Those of them that came since an update was confirmed last.
    #[serde(default)]
    pub added: Vec<String>,
    /// The versions that were seen running last, the newest sight last.
    #[serde(default)]
    pub booted: Vec<String>,
}

impl Record {
    /// What is remembered in a directory, with what runs now.
    pub(super) fn read(notes: &Path, running: &str) -> Self {
        let bytes = fs::read(notes.join(NAME)).unwrap_or_default();
        let mut record: Self = serde_json::from_slice(&bytes).unwrap_or_default();
        for versions in [&mut record.placed, &mut record.added] {
            versions.retain(|version| is_version(version));
        }
        record.booted.retain(|version| version != running);
        record.booted.push(running.to_owned());
        record.booted.drain(..record.booted.len().saturating_sub(BOOTED));
        record
    }

    pub(super) fn write(&self, notes: &Path) -> Result<(), String> {
        let bytes = serde_json::to_vec(self).expect("names of versions");
        make_private(notes).map_err(|error| error.to_string())?;
        let written = trust_store::write(&notes.join(NAME), &bytes);
        written.map_err(|failure| failure.in_one_line())
    }

    /// Remembers a version that is about to be placed. What was there before the update does not go with it.
    pub(super) fn add(&mut self, version: &str, was_there: bool) {
        if self.placed.iter().any(|placed| placed == version) {
            return;
        }
        self.placed.push(version.to_owned());
        if !was_there {
            self.added.push(version.to_owned());
        }
    }

    /// Whether a version is never touched.
    pub(super) fn must_stay(&self, version: &str) -> bool {
        self.booted.iter().any(|booted| booted == version)
    }

    /// What was booted before the versions came that were added: what ran last of the others, else the newest of them.
    pub(super) fn before(&self) -> Option<&str> {
        let stays = |version: &&String| self.placed.contains(version) && !self.added.contains(version);
        let newest = || self.placed.iter().filter(stays).max_by(|one, other| compare(one, other));
        self.booted.iter().rev().find(stays).or_else(newest).map(String::as_str)
    }

    /// The versions that go where this many of the newest are kept, beside those that the tree has or that ran.
    pub(super) fn victims(&self, keep: usize, wanted: &[String]) -> Vec<String> {
        let mut placed = self.placed.clone();
        placed.sort_by(|one, other| compare(other, one));
        let older = placed.into_iter().skip(keep);
        older.filter(|version| !wanted.contains(version) && !self.must_stay(version)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_ran_before_or_is_new_stays() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let record = Record {
            placed: names(&["6.9.1", "6.10.1", "6.8.1", "6.7.1", "6.6.1"]),
            added: Vec::new(),
            booted: names(&["6.6.1", "6.10.1"]),
        };
        assert_eq!(record.victims(2, &[]), ["6.8.1", "6.7.1"]);
        assert_eq!(record.victims(2, &names(&["6.8.1"])), ["6.7.1"]);
        assert_eq!(record.victims(5, &[]), [""; 0]);
        assert_eq!(record.before(), Some("6.10.1"));
        let added = Record { added: names(&["6.10.1"]), ..record.clone() };
        assert_eq!(added.before(), Some("6.6.1"));
        let never = Record { added: names(&["6.10.1", "6.6.1"]), ..record };
        assert_eq!(never.before(), Some("6.9.1"));
        assert_eq!(Record::default().before(), None);
    }

    #[test]
    fn the_last_two_that_ran_are_remembered() {
        let notes = tempfile::tempdir().unwrap();
        for running in ["6.1.1", "6.2.1", "6.2.1", "6.3.1"] {
            Record::read(notes.path(), running).write(notes.path()).unwrap();
        }
        let record = Record::read(notes.path(), "6.3.1");
        assert_eq!(record.booted, ["6.2.1", "6.3.1"]);
        fs::write(notes.path().join(NAME), r#"{"placed":["../../etc","6.1.1"]}"#).unwrap();
        assert_eq!(Record::read(notes.path(), "6.3.1").placed, ["6.1.1"]);
    }
}
