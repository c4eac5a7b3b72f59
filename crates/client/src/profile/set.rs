//! Sets: what a profile made of its targets, one after the other.
//!
//! A set says of each target which version it is at. It is one generation of all of them together; the versions that
//! the newest sets name are kept by their targets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use smart_sync_store::id::{ManifestId, ObjectId};

/// How many sets are kept.
pub const KEPT: usize = 10;
/// The version of the file.
const FORMAT: u32 = 1;

/// What the targets of a profile are together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Set {
    /// Sets are counted from 1, and a number is given once.
    pub number: u64,
    /// The realm.
    pub origin: String,
    /// The channel of the profile.
    pub profile: String,
    /// The ref of the profile.
    pub r#ref: String,
    /// The number of the profile's publication.
    pub seq: u64,
    /// The tree of the profile.
    pub manifest: String,
    /// The profiles that it builds on: each channel and ref.
    #[serde(default)]
    pub builds_on: Vec<(String, String)>,
    /// The moment that was asked for, in seconds since 1970.
    pub at: Option<u64>,
    /// When it was applied, in seconds since 1970.
    pub applied: u64,
    /// Who had it applied.
    pub by: String,
    /// The targets, in the profile's order.
    pub members: Vec<Member>,
}

/// A target in a set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Member {
    /// The directory.
    pub target: PathBuf,
    /// The same as the profile writes it.
    pub named: PathBuf,
    /// Its channel.
    pub channel: String,
    /// The ref.
    pub r#ref: String,
    /// The number of the publication.
    pub seq: u64,
    /// The tree.
    pub manifest: String,
    /// The name of the version, where versions are kept.
    pub version: Option<String>,
    /// The number of that version.
    pub generation: Option<u64>,
    /// What the profile says of the target.
    pub said: String,
}

impl Set {
    /// Whether the targets are the same trees, in the same versions, of the same profile.
    pub fn is_same(&self, other: &Self) -> bool {
        let of = |set: &Self| {
            let members = set.members.iter();
            let members = members
                .map(|member| (member.target.clone(), member.manifest.clone(), member.version.clone()));
            (set.origin.clone(), set.r#ref.clone(), set.manifest.clone(), members.collect::<Vec<_>>())
        };
        of(self) == of(other)
    }

    /// What these trees in these places are known by, whichever profile named them.
    pub fn id(&self) -> ManifestId {
        let mut bytes = Vec::new();
        for member in &self.members {
            bytes.extend_from_slice(member.target.as_os_str().as_encoded_bytes());
            bytes.push(0);
            bytes.extend_from_slice(member.manifest.as_bytes());
            bytes.push(0);
        }
        ManifestId::from_bytes(*ObjectId::of(&bytes).as_bytes())
    }
}

/// The sets of a profile that are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sets {
    format: u32,
    /// The number that was given last.
    last: u64,
    /// The number of the one that the targets are at.
    pub current: u64,
    /// All of them, by their numbers.
    pub all: Vec<Set>,
}

impl Default for Sets {
    fn default() -> Self {
        Self { format: FORMAT, last: 0, current: 0, all: Vec::new() }
    }
}

impl Sets {
    /// Whether this program knows what the file means.
    pub const fn is_known(&self) -> bool {
        self.format == FORMAT
    }

    /// The one that the targets are at.
    pub fn current(&self) -> Option<&Set> {
        self.find(self.current)
    }

    /// The set of a number.
    pub fn find(&self, number: u64) -> Option<&Set> {
        self.all.iter().find(|set| set.number == number)
    }

    /// The one before the current one.
    pub fn before(&self) -> Option<&Set> {
        self.all.iter().rev().find(|set| set.number < self.current)
    }

    /// The number that the next one gets.
    pub const fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// Adds a set that the targets are at now. The oldest are forgotten.
    pub fn add(&mut self, set: Set) {
        (self.last, self.current) = (set.number, set.number);
        self.all.push(set);
        self.all.drain(..self.all.len().saturating_sub(KEPT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(number: u64, manifest: &str) -> Set {
        let member = Member {
            target: "/a".into(),
            named: "/a".into(),
            channel: "repos/a".into(),
            r#ref: "branch:main".into(),
            seq: number,
            manifest: manifest.into(),
            version: None,
            generation: None,
            said: String::new(),
        };
        Set {
            number,
            origin: "lab.example.org".into(),
            profile: "profiles/x".into(),
            r#ref: "branch:main".into(),
            seq: 1,
            manifest: "m".into(),
            builds_on: Vec::new(),
            at: None,
            applied: number,
            by: String::new(),
            members: vec![member],
        }
    }

    #[test]
    fn the_newest_sets_are_kept_and_a_number_is_given_once() {
        let mut sets = Sets::default();
        assert_eq!((sets.current(), sets.before(), sets.next_number()), (None, None, 1));
        for number in 1..=12 {
            assert_eq!(sets.next_number(), number);
            sets.add(set(number, "m"));
        }
        assert_eq!(sets.all.iter().map(|set| set.number).collect::<Vec<_>>(), (3..=12).collect::<Vec<_>>());
        assert_eq!(sets.before().map(|set| set.number), Some(11));
        sets.current = 3;
        assert_eq!(sets.before(), None);
        assert_eq!(sets.next_number(), 13);
        let bytes = serde_json::to_vec(&sets).unwrap();
        assert_eq!(serde_json::from_slice::<Sets>(&bytes).unwrap(), sets);
    }

    #[test]
    fn a_set_is_known_by_its_trees_and_their_places() {
        assert_eq!(set(1, "m").id(), set(2, "m").id());
        assert_ne!(set(1, "m").id(), set(1, "n").id());
        assert!(set(1, "m").is_same(&set(2, "m")));
        assert!(!set(1, "m").is_same(&set(1, "n")));
    }
}
