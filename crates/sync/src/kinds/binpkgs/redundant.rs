//! Which packages of an index are not needed: decided of what the index says, and of lists of what hosts have and want.
//!
//! What is taken for needed is rather too much than too little. Of a choice each package counts, and so does each version
//! that a dependency is content with, unless only the newest ones are asked for: which of them a host takes depends on its
//! own settings.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use super::atom::{Atom, FlagCondition, FlagDependency};
use super::cpv::Cpv;
use super::dependencies::{Dependencies, DependencyError, Node};
use super::index::{Block, Index};
use super::version::Version;

/// What a package needs to be installed and to run.
const RUN_KEYS: [&str; 3] = ["IDEPEND", "PDEPEND", "RDEPEND"];
/// What it needs besides to be built.
const BUILD_KEYS: [&str; 2] = ["BDEPEND", "DEPEND"];

/// Something that a list names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// What an atom names.
    Atom(Atom),
    /// A version that a host has or is to have, and newer ones, which it may be brought to.
    From(Cpv),
}

/// What is needed, and what that needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// What the lists name.
    pub named: Vec<Need>,
    /// Whether what is needed to build something counts as well.
    pub to_build: bool,
    /// How many of the newest versions of a slot are needed where several would do; all of them where nothing is said.
    pub versions: Option<usize>,
}

/// What is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What is needed; where there are no lists, that is not judged.
    pub needs: Option<Needs>,
    /// Whether of a version that was built with several sets of flags only the newest build is needed.
    pub one_set_of_flags: bool,
}

/// Why a package is not needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The same version was built later with the same flags.
    OlderBuild {
        /// That build.
        newer: String,
    },
    /// The same version was built later with other flags.
    OtherFlags {
        /// That build.
        newer: String,
        /// The flags that differ, as they are here.
        flags: Vec<String>,
    },
    /// No list names it, and nothing that a list names needs it.
    Unreached,
}

/// A package that is not needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redundant {
    /// Category, name and version.
    pub cpv: String,
    /// The number of the build, where it has one.
    pub build_id: Option<u64>,
    /// Where it is.
    pub path: String,
    /// The size of the file.
    pub size: u64,
    /// Why.
    pub reason: Reason,
}

/// What is not needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The packages, in the order of the index.
    pub redundant: Vec<Redundant>,
    /// How many things that lists name the index does not have.
    pub unknown: usize,
}

/// Why it cannot be decided.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// What a package needs cannot be read.
    #[error("{key} of {cpv} in the index cannot be read: {error}")]
    Dependencies {
        /// The package.
        cpv: String,
        /// Which dependencies.
        key: &'static str,
        /// Why.
        #[source]
        error: DependencyError,
    },
    /// Nothing would be left.
    #[error("the lists name no package of the index: all of it would go")]
    NothingNeeded,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OlderBuild { newer } => write!(f, "{newer} is newer and has the same flags"),
            Self::OtherFlags { newer, flags } => {
                write!(f, "{newer} is newer; with other flags here: {}", flags.join(" "))
            }
            Self::Unreached => f.write_str("no list needs it"),
        }
    }
}

impl Reason {
    /// A word for it, for programs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::OlderBuild { .. } => "older_build",
            Self::OtherFlags { .. } => "other_flags",
            Self::Unreached => "unreached",
        }
    }
}

/// Decides which packages of an index are not needed.
pub fn plan(index: &Index, policy: &Policy) -> Result<Plan, PlanError> {
    let builds: Vec<Build<'_>> = index.packages.iter().filter_map(Build::of).collect();
    let mut reasons = older(&builds, policy);
    let mut unknown = 0;
    if let Some(needs) = &policy.needs {
        let left: Vec<&Build<'_>> = builds
            .iter()
            .enumerate()
            .filter(|(at, _)| !reasons.contains_key(at))
            .map(|(_, build)| build)
            .collect();
        let mut reach = Reach::new(&left, needs);
        unknown = needs.named.iter().filter(|need| reach.take(need) == 0).count();
        if !left.is_empty() && reach.found.is_empty() {
            return Err(PlanError::NothingNeeded);
        }
        reach.follow()?;
        let found = reach.found;
        let lacking = builds.iter().enumerate().filter(|(_, build)| !found.contains(build.path));
        for (at, _) in lacking {
            reasons.entry(at).or_insert(Reason::Unreached);
        }
    }
    let redundant = reasons.into_iter().map(|(at, reason)| builds[at].redundant(reason)).collect();
    Ok(Plan { redundant, unknown })
}

/// Builds in whose place a newer one of the same version is, by their positions.
fn older(builds: &[Build<'_>], policy: &Policy) -> BTreeMap<usize, Reason> {
    let mut groups: HashMap<(&str, &str, &str), Vec<usize>> = HashMap::new();
    for (at, build) in builds.iter().enumerate() {
        let value = |key: &str| build.block.get(key).unwrap_or_default();
        groups.entry((value("CPV"), value("CHOST"), value("REPO"))).or_default().push(at);
    }
    let mut reasons = BTreeMap::new();
    for mut group in groups.into_values() {
        group.sort_by_key(|at| std::cmp::Reverse(builds[*at].age()));
        let mut kept: Vec<usize> = Vec::new();
        for at in group {
            let build = &builds[at];
            let same = kept.iter().find(|other| builds[**other].enabled == build.enabled);
            let reason = match (same, kept.first()) {
                (Some(newer), _) => Reason::OlderBuild { newer: builds[*newer].title() },
                (None, Some(newer)) if policy.one_set_of_flags => {
                    let newer = &builds[*newer];
                    Reason::OtherFlags { newer: newer.title(), flags: build.flags_unlike(newer) }
                }
                _ => {
                    kept.push(at);
                    continue;
                }
            };
            reasons.insert(at, reason);
        }
    }
    reasons
}

/// A package of the index.
struct Build<'i> {
    block: &'i Block,
    cpv: Cpv,
    path: &'i str,
    slot: &'i str,
    sub_slot: &'i str,
    number: Option<u64>,
    /// The flags that it was built with, of those that it knows.
    enabled: BTreeSet<&'i str>,
    /// All flags that it was built with, those that every package has included.
    used: HashSet<&'i str>,
    known: HashSet<&'i str>,
}

impl<'i> Build<'i> {
    fn of(block: &'i Block) -> Option<Self> {
        let value = |key: &str| block.get(key).unwrap_or_default();
        let known = value("IUSE").split_ascii_whitespace().map(|flag| flag.trim_start_matches(['+', '-']));
        let known: HashSet<&str> = known.collect();
        let used: HashSet<&str> = value("USE").split_ascii_whitespace().collect();
        let slot = value("SLOT");
        let (slot, sub_slot) = slot.split_once('/').unwrap_or((slot, slot));
        Some(Self {
            block,
            cpv: block.get("CPV")?.parse().ok()?,
            path: block.get("PATH")?,
            slot,
            sub_slot,
            number: value("BUILD_ID").parse().ok(),
            enabled: used.intersection(&known).copied().collect(),
            used,
            known,
        })
    }

    /// What tells a later build from an earlier one: the time, as Portage compares builds, and then the number.
    fn age(&self) -> (u64, Option<u64>, &'i str) {
        let built = self.block.get("BUILD_TIME").and_then(|time| time.parse().ok());
        (built.unwrap_or_default(), self.number, self.path)
    }

    fn title(&self) -> String {
        self.number.map_or_else(|| "another build".to_owned(), |id| format!("build {id}"))
    }

    fn flags_unlike(&self, other: &Self) -> Vec<String> {
        let differing = self.enabled.symmetric_difference(&other.enabled);
        differing
            .map(|flag| if self.enabled.contains(flag) { (*flag).to_owned() } else { format!("-{flag}") })
            .collect()
    }

    /// Whether a dependency is content with it.
    fn satisfies(&self, atom: &Atom) -> bool {
        let is_slot = atom.slot.as_ref().is_none_or(|asked| {
            // Behind `=` stands which one it was built with; another one is taken as well, and it is built again.
            let sub_slot = asked.sub_slot.as_ref().filter(|_| asked.operator != Some('='));
            asked.slot.as_ref().is_none_or(|slot| slot == self.slot)
                && sub_slot.is_none_or(|sub_slot| sub_slot == self.sub_slot)
        });
        let is_repository = atom
            .repository
            .as_ref()
            .is_none_or(|name| self.block.get("REPO").is_none_or(|repo| repo == name));
        is_slot
            && is_repository
            && atom.names(&self.cpv, self.number)
            && atom.flags.iter().all(|flag| self.has(flag))
    }

    fn has(&self, asked: &FlagDependency) -> bool {
        let flag = asked.flag.as_str();
        let default = asked.default.filter(|_| !self.known.contains(flag) && !self.used.contains(flag));
        let is_enabled = default.unwrap_or_else(|| self.used.contains(flag));
        match asked.condition {
            FlagCondition::Enabled => is_enabled,
            FlagCondition::Disabled => !is_enabled,
            // Depends on whoever asks.
            _ => true,
        }
    }

    fn redundant(&self, reason: Reason) -> Redundant {
        let size = self.block.get("SIZE").and_then(|size| size.parse().ok()).unwrap_or_default();
        let (cpv, path) = (self.cpv.to_string(), self.path.to_owned());
        Redundant { cpv, build_id: self.number, path, size, reason }
    }
}

/// Packages that are needed, and those that they need.
struct Reach<'b, 'i> {
    needs: &'b Needs,
    by_name: HashMap<(&'b str, &'b str), Vec<&'b Build<'i>>>,
    /// The paths of those that were found.
    found: HashSet<&'i str>,
    /// Those whose dependencies were not looked at yet.
    waiting: Vec<&'b Build<'i>>,
    /// The dependencies that were looked at.
    seen: HashSet<String>,
}

impl<'b, 'i> Reach<'b, 'i> {
    fn new(builds: &[&'b Build<'i>], needs: &'b Needs) -> Self {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for build in builds {
            by_name.entry((&*build.cpv.category, &*build.cpv.name)).or_default().push(*build);
        }
        Self { needs, by_name, found: HashSet::new(), waiting: Vec::new(), seen: HashSet::new() }
    }

    /// Takes what a list names, and says how many packages that is.
    fn take(&mut self, need: &Need) -> usize {
        match need {
            Need::Atom(atom) => self.take_newest(&atom.category, &atom.name, |build| build.satisfies(atom)),
            Need::From(cpv) => {
                let exactly =
                    self.of_name(&cpv.category, &cpv.name, |build| build.cpv.version == cpv.version);
                let count = exactly.len();
                for build in exactly {
                    self.find(build);
                }
                count + self.take_newest(&cpv.category, &cpv.name, |build| build.cpv.version > cpv.version)
            }
        }
    }

    fn of_name(
        &self,
        category: &str,
        name: &str,
        is_meant: impl Fn(&Build<'i>) -> bool,
    ) -> Vec<&'b Build<'i>> {
        let of_name = self.by_name.get(&(category, name));
        of_name.into_iter().flatten().copied().filter(|build| is_meant(build)).collect()
    }

    /// Takes those of a name that are meant, as many versions of each slot as are needed.
    fn take_newest(&mut self, category: &str, name: &str, is_meant: impl Fn(&Build<'i>) -> bool) -> usize {
        let meant = self.of_name(category, name, is_meant);
        let mut versions: BTreeMap<&str, BTreeSet<&Version>> = BTreeMap::new();
        for build in &meant {
            versions.entry(build.slot).or_default().insert(&build.cpv.version);
        }
        let count = meant.len();
        for build in meant {
            let newer = versions[build.slot].iter().filter(|version| ***version > build.cpv.version).count();
            if self.needs.versions.is_none_or(|versions| newer < versions) {
                self.find(build);
            }
        }
        count
    }

    fn find(&mut self, build: &'b Build<'i>) {
        if self.found.insert(build.path) {
            self.waiting.push(build);
        }
    }

    /// Finds all that those which were found need, and what these need.
    fn follow(&mut self) -> Result<(), PlanError> {
        while let Some(build) = self.waiting.pop() {
            let to_build: &[&'static str] = if self.needs.to_build { &BUILD_KEYS } else { &[] };
            for key in RUN_KEYS.iter().chain(to_build) {
                let Some(text) = build.block.get(key) else { continue };
                let dependencies: Dependencies<Atom> = text
                    .parse()
                    .map_err(|error| PlanError::Dependencies { cpv: build.cpv.to_string(), key, error })?;
                self.follow_nodes(&dependencies.0);
            }
        }
        Ok(())
    }

    fn follow_nodes(&mut self, nodes: &[Node<Atom>]) {
        for node in nodes {
            match node {
                Node::One(atom) if atom.blocker.is_none() && self.seen.insert(atom.to_string()) => {
                    self.take_newest(&atom.category, &atom.name, |build| build.satisfies(atom));
                }
                Node::One(_) => {}
                Node::All(nodes) | Node::Any(nodes) | Node::Conditional { nodes, .. } => {
                    self.follow_nodes(nodes);
                }
            }
        }
    }
}
