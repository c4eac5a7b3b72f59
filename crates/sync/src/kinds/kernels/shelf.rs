//! The kernels of a channel and their states, and what becomes of them. Pure but for reading what is published.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use smart_sync_store::manifest::{Content, TreePath};

use super::version::Version;
use crate::kinds::published::tree_path;
use crate::kinds::{Before, KindError};
use crate::source::assembled::Part;

/// The file of the tree that says when each kernel was built and what it calls itself: a line `SECONDS RELEASE VERSION`
/// for each.
pub const INDEX: &str = ".smart-sync/kernels";
/// The largest one that is read.
const INDEX_BYTES_MAX: u64 = 4 << 20;

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Hosts run it, or the newest of those that are so.
    Current,
    /// It should not be run any more.
    Deprecated,
    /// It is for hosts that newer ones do not work on.
    Compat,
    /// It came from somebody else, and hosts run it when somebody has made it current.
    Offered,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Current => "current",
            Self::Deprecated => "deprecated",
            Self::Compat => "compat",
            Self::Offered => "offered",
        })
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Current, Self::Deprecated, Self::Compat, Self::Offered]
            .into_iter()
            .find(|state| state.to_string() == text)
            .ok_or(())
    }
}

/// A version of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelved {
    /// Its state.
    pub state: State,
    /// What it calls itself when it runs.
    pub release: Version,
    /// When it was built, in seconds.
    pub built: u64,
}

/// A version that gets another state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which one.
    pub version: Version,
    /// What it was.
    pub from: State,
    /// What it becomes.
    pub to: State,
}

/// Why states cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// There is no such version.
    #[error("there is no kernel {0}")]
    NoSuch(Version),
    /// No version would be current.
    #[error("no kernel would be current any more")]
    NoneCurrent,
}

/// The versions of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shelf {
    /// All of them.
    pub versions: BTreeMap<Version, Shelved>,
}

impl Shelf {
    /// Takes what the paths of a tree and its index say.
    pub fn of<'a>(paths: impl Iterator<Item = &'a TreePath>, index: &[u8]) -> Result<Self, String> {
        let known = parse(index)?;
        let mut shelf = Self::default();
        for path in paths {
            let Some((state, version, _)) = split(path) else { continue };
            let (release, built) =
                known.get(&version).ok_or_else(|| format!("{version} is there, and not in {INDEX}"))?;
            let shelved = Shelved { state, release: release.clone(), built: *built };
            if let Some(other) = shelf.versions.insert(version.clone(), shelved)
                && other.state != state
            {
                return Err(format!("{version} is {} and {state}", other.state));
            }
        }
        Ok(shelf)
    }

    /// Reads those that are published.
    pub(super) fn read(before: &dyn Before) -> Result<(Self, BTreeMap<TreePath, Content>), KindError> {
        let files = before.files()?;
        let index = files.get(&tree_path(INDEX)?).copied();
        let index = index
            .ok_or_else(|| KindError::Before(format!("it has no {INDEX}, and is no channel of kernels")))?;
        let text = before.read(&[index], INDEX_BYTES_MAX)?.pop().unwrap_or_default();
        let shelf = Self::of(files.keys(), &text).map_err(KindError::Before)?;
        Ok((shelf, files))
    }

    /// The newest version that is current.
    pub fn newest(&self) -> Option<&Version> {
        let mut versions = self.versions.iter().rev();
        versions.find(|(_, shelved)| shelved.state == State::Current).map(|(version, _)| version)
    }

    /// Adds a version that was built, and says what becomes of others: those that are older than one that becomes current
    /// are deprecated. One that is there already keeps its state, unless another one is asked for.
    pub fn add(&mut self, version: &Version, built: Shelved, is_asked_for: bool) -> Vec<Move> {
        let mut moves = Vec::new();
        if let Some(known) = self.versions.get_mut(version) {
            if is_asked_for && known.state != built.state {
                moves.push(Move { version: version.clone(), from: known.state, to: built.state });
                known.state = built.state;
            }
            return moves;
        }
        if built.state == State::Current && !is_asked_for {
            for (other, shelved) in self.versions.range_mut(..version) {
                if shelved.state == State::Current {
                    moves.push(Move { version: other.clone(), from: State::Current, to: State::Deprecated });
                    shelved.state = State::Deprecated;
                }
            }
        }
        self.versions.insert(version.clone(), built);
        moves
    }

    /// Gives versions a state, and says which of them did not have it.
    pub fn put(&mut self, versions: &[Version], state: State) -> Result<Vec<Move>, MoveError> {
        let had_current = self.newest().is_some();
        let mut moves = Vec::new();
        for version in versions {
            let shelved = self.versions.get_mut(version).ok_or_else(|| MoveError::NoSuch(version.clone()))?;
            if shelved.state != state {
                moves.push(Move { version: version.clone(), from: shelved.state, to: state });
                shelved.state = state;
            }
        }
        if had_current && self.newest().is_none() { Err(MoveError::NoneCurrent) } else { Ok(moves) }
    }

    /// The index of them.
    pub fn index(&self) -> Vec<u8> {
        let line = |(version, shelved): (&Version, &Shelved)| {
            format!("{} {} {version}\n", shelved.built, shelved.release)
        };
        self.versions.iter().map(line).collect::<String>().into_bytes()
    }

    /// Everything that is put together of them: what was published before, and what is new.
    pub(super) fn parts(
        &self,
        published: &BTreeMap<TreePath, Content>,
        mut new: BTreeMap<Version, BTreeMap<TreePath, Part>>,
    ) -> Result<BTreeMap<TreePath, Part>, KindError> {
        let mut parts = BTreeMap::from([(tree_path(INDEX)?, Part::Made(self.index().into()))]);
        for (path, content) in published {
            let Some((_, version, below)) = split(path) else { continue };
            if let (Some(shelved), false) = (self.versions.get(&version), new.contains_key(&version)) {
                parts.insert(place(shelved.state, &version, below)?, Part::Published(*content));
            }
        }
        for (version, shelved) in &self.versions {
            for (below, part) in new.remove(version).unwrap_or_default() {
                parts.insert(place(shelved.state, version, below.as_bytes())?, part);
            }
        }
        Ok(parts)
    }
}

/// The state and the version that a path of a channel's tree belongs to, and the path in the tree of that version.
pub fn split(path: &TreePath) -> Option<(State, Version, &[u8])> {
    let mut names = path.as_bytes().splitn(3, |byte| *byte == b'/');
    let state = str::from_utf8(names.next()?).ok()?.parse().ok()?;
    let version = str::from_utf8(names.next()?).ok()?.parse().ok()?;
    Some((state, version, names.next()?))
}

fn place(state: State, version: &Version, below: &[u8]) -> Result<TreePath, KindError> {
    let mut path = format!("{state}/{version}/").into_bytes();
    path.extend_from_slice(below);
    TreePath::new(path).map_err(|error| KindError::Before(format!("{state}/{version}: {error}")))
}

/// Reads an index: the release of each version, and when it was built.
fn parse(bytes: &[u8]) -> Result<BTreeMap<Version, (Version, u64)>, String> {
    let text = str::from_utf8(bytes).map_err(|_| format!("{INDEX} is no text"))?;
    let mut known = BTreeMap::new();
    for line in text.lines() {
        let wrong = || format!("{INDEX}: {line:.200?} is no line of it");
        let words: Vec<&str> = line.split(' ').collect();
        let [seconds, release, version] = words[..] else { return Err(wrong()) };
        let seconds = seconds.parse::<u64>().ok().filter(|number| number.to_string() == seconds);
        let (Some(seconds), Ok(release), Ok(version)) = (seconds, release.parse(), version.parse()) else {
            return Err(wrong());
        };
        if known.insert(version, (release, seconds)).is_some() {
            return Err(wrong());
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn built(state: State) -> Shelved {
        Shelved { state, release: version("6.9.1-gentoo"), built: 5 }
    }

    fn shelf(versions: &[(&str, State)]) -> Shelf {
        let versions = versions.iter().map(|(text, state)| (version(text), built(*state)));
        Shelf { versions: versions.collect() }
    }

    fn shown(moves: &[Move]) -> String {
        let line = |moved: &Move| format!("{} {}>{}", moved.version, moved.from, moved.to);
        moves.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_new_build_takes_the_place_of_older_ones() {
        use State::{Compat, Current, Deprecated};
        #[track_caller]
        fn check(new: &str, state: State, is_asked_for: bool, expected: &str, newest: &str) {
            let there = [("6.6.1", Deprecated), ("6.8.1", Compat), ("6.9.1", Current), ("6.10.1", Current)];
            let mut shelf = shelf(&there);
            let moves = shelf.add(&version(new), built(state), is_asked_for);
            assert_eq!(shown(&moves), expected, "{new}");
            assert_eq!(shelf.newest().map(ToString::to_string).as_deref(), Some(newest), "{new}");
        }
        let both = "6.9.1 current>deprecated 6.10.1 current>deprecated";
        check("6.11.0", Current, false, both, "6.11.0");
        check("6.9.2", Current, false, "6.9.1 current>deprecated", "6.10.1");
        check("6.11.0", Current, true, "", "6.11.0");
        check("6.11.0", Deprecated, true, "", "6.10.1");
        // One that is there keeps its state, unless somebody says another one.
        check("6.6.1", Current, false, "", "6.10.1");
        check("6.6.1", Current, true, "6.6.1 deprecated>current", "6.10.1");
        check("6.10.1", Deprecated, true, "6.10.1 current>deprecated", "6.9.1");
    }

    #[test]
    fn states_are_given_to_versions_that_there_are_and_one_stays_current() {
        let mut all =
            shelf(&[("6.9.1", State::Current), ("6.10.1", State::Current), ("6.1.1", State::Compat)]);
        let moves = all.put(&[version("6.9.1"), version("6.1.1")], State::Deprecated).unwrap();
        assert_eq!(shown(&moves), "6.9.1 current>deprecated 6.1.1 compat>deprecated");
        assert_eq!(all.put(&[version("6.9.1")], State::Deprecated), Ok(Vec::new()));
        let none = all.clone().put(&[version("6.10.1")], State::Deprecated);
        assert_eq!(none, Err(MoveError::NoneCurrent));
        let no_such = all.put(&[version("6.7.1")], State::Current);
        assert_eq!(no_such, Err(MoveError::NoSuch(version("6.7.1"))));
    }

    #[test]
    fn an_index_that_does_not_fit_the_tree_is_refused() {
        let paths = |texts: &[&str]| -> Vec<TreePath> {
            texts.iter().map(|text| TreePath::new(text.as_bytes()).unwrap()).collect()
        };
        let tree =
            paths(&[".smart-sync/kernels", "current/6.9.1/vmlinuz", "compat/6.1.1/lib/modules/6.1.1/a"]);
        let index = b"5 6.1.1 6.1.1\n7 6.9.1-x 6.9.1\n";
        let shelf = Shelf::of(tree.iter(), index).unwrap();
        assert_eq!(shelf.versions.len(), 2);
        assert_eq!(shelf.versions[&version("6.9.1")].release, version("6.9.1-x"));
        assert_eq!(shelf.index(), index);
        for wrong in ["", "5 6.1.1 6.1.1\n", "05 6.1.1 6.1.1\n", "5 6.1.1  6.1.1\n", "5 6.1.1 ../..\n"] {
            Shelf::of(tree.iter(), wrong.as_bytes()).unwrap_err();
        }
        let twice = paths(&["current/6.9.1/vmlinuz", "compat/6.9.1/vmlinuz"]);
        Shelf::of(twice.iter(), index).unwrap_err();
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            all in proptest::collection::btree_map("[0-9][0-9.a-z-]{0,12}", ("[0-9][0-9.a-z-]{0,12}", any::<u64>()), 0..8),
        ) {
            let shelved = |release: &str, built| Shelved { state: State::Current, release: version(release), built };
            let versions = all.iter().map(|(text, (release, built))| (version(text), shelved(release, *built)));
            let shelf = Shelf { versions: versions.collect() };
            let known = parse(&shelf.index()).unwrap();
            for (version, shelved) in &shelf.versions {
                prop_assert_eq!(known.get(version), Some(&(shelved.release.clone(), shelved.built)));
            }
            prop_assert_eq!(known.len(), shelf.versions.len());
        }
    }
}
