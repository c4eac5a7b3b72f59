//! Atoms: which packages a dependency is content with (PMS, section 8.3).

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use super::cpv::{Cpv, is_category, is_name, is_slot, split_version};
use super::version::Version;

/// The most bytes of an atom.
const ATOM_BYTES_MAX: usize = 4096;

/// A dependency on a package, or a block of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Atom {
    /// `!` or `!!`, if the package must not be there.
    pub blocker: Option<Blocker>,
    /// The category.
    pub category: String,
    /// The name.
    pub name: String,
    /// Which versions; all of them if nothing is said.
    pub version: Option<VersionRange>,
    /// Which slot.
    pub slot: Option<SlotDependency>,
    /// Which repository, behind `::`.
    pub repository: Option<String>,
    /// The USE flags that the package has to have, in their order.
    pub flags: Vec<FlagDependency>,
}

/// How strongly a package is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocker {
    /// `!`: it may be there for a moment.
    Weak,
    /// `!!`: never together.
    Strong,
}

/// Versions that an atom names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    /// How they compare to the version.
    pub operator: Operator,
    /// The version.
    pub version: Version,
    /// The one build that is meant, which only `=` can say.
    pub build_id: Option<u64>,
}

/// How the versions of an atom compare to the one that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `=` with `*` behind the version: those that begin so.
    BeginsWith,
    /// `~`: any revision.
    AnyRevision,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

/// The slot of a dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotDependency {
    /// The slot.
    pub slot: Option<String>,
    /// The part behind the `/`.
    pub sub_slot: Option<String>,
    /// `=` or `*` behind it.
    pub operator: Option<char>,
}

/// What an atom asks of a USE flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagDependency {
    /// The flag.
    pub flag: String,
    /// What is taken for its state where the package does not have it: `(+)` or `(-)`.
    pub default: Option<bool>,
    /// How it has to be.
    pub condition: FlagCondition,
}

/// How a USE flag has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagCondition {
    /// `flag`
    Enabled,
    /// `-flag`
    Disabled,
    /// `flag?`: enabled if it is enabled here.
    IfEnabled,
    /// `!flag?`: disabled if it is disabled here.
    IfDisabled,
    /// `flag=`: as here.
    Same,
    /// `!flag=`: not as here.
    Opposite,
}

/// A text that is no atom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no atom")]
pub struct AtomError(String);

impl Atom {
    /// The same atom for a package that was built with these flags: what depends on them is settled.
    #[must_use]
    pub fn evaluated(&self, flags: &HashSet<&str>) -> Self {
        let flags = self.flags.iter().filter_map(|flag| flag.evaluated(flags)).collect();
        Self { flags, ..self.clone() }
    }

    /// Whether a package is one that the atom names, as far as category, name, version and build go.
    pub fn names(&self, cpv: &Cpv, build_id: Option<u64>) -> bool {
        let is_version = self.version.as_ref().is_none_or(|range| {
            range.contains(&cpv.version) && (range.build_id.is_none() || range.build_id == build_id)
        });
        self.category == cpv.category && self.name == cpv.name && is_version
    }
}

impl VersionRange {
    /// Whether a version is one of those.
    pub fn contains(&self, version: &Version) -> bool {
        match self.operator {
            Operator::Less => *version < self.version,
            Operator::LessOrEqual => *version <= self.version,
            Operator::Equal => *version == self.version,
            Operator::AnyRevision => version.is_revision_of(&self.version),
            Operator::GreaterOrEqual => *version >= self.version,
            Operator::Greater => *version > self.version,
            Operator::BeginsWith => {
                let begin = self.version.as_str();
                let (last, rest) = (begin.bytes().last(), version.as_str().strip_prefix(begin));
                let next = rest.map(|rest| rest.bytes().next());
                // A number ends where the digits do: 1* means 1.2 and 1a, and not 10.
                next.is_some_and(|next| {
                    let is_digit = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
                    next.is_none() || is_digit(next) != is_digit(last)
                })
            }
        }
    }
}

impl FlagDependency {
    fn evaluated(&self, flags: &HashSet<&str>) -> Option<Self> {
        let is_enabled = flags.contains(self.flag.as_str());
        let has_to_be_enabled = match self.condition {
            FlagCondition::IfEnabled if !is_enabled => return None,
            FlagCondition::IfDisabled if is_enabled => return None,
            FlagCondition::Enabled | FlagCondition::IfEnabled => true,
            FlagCondition::Disabled | FlagCondition::IfDisabled => false,
            FlagCondition::Same => is_enabled,
            FlagCondition::Opposite => !is_enabled,
        };
        let condition = if has_to_be_enabled { FlagCondition::Enabled } else { FlagCondition::Disabled };
        Some(Self { condition, ..self.clone() })
    }
}

/// Whether a USE flag may be called so.
pub(in crate::kinds) fn is_flag(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_@-".contains(&byte))
}

impl FromStr for Atom {
    type Err = AtomError;

    fn from_str(text: &str) -> Result<Self, AtomError> {
        let atom = if text.len() <= ATOM_BYTES_MAX { read(text) } else { None };
        atom.ok_or_else(|| AtomError(text.chars().take(200).collect()))
    }
}

fn read(text: &str) -> Option<Atom> {
    let (blocker, rest) = match (text.strip_prefix("!!"), text.strip_prefix('!')) {
        (Some(rest), _) => (Some(Blocker::Strong), rest),
        (None, Some(rest)) => (Some(Blocker::Weak), rest),
        (None, None) => (None, text),
    };
    let (rest, flags) = match rest.strip_suffix(']') {
        Some(rest) => {
            let (rest, flags) = rest.split_once('[')?;
            (rest, read_flags(flags)?)
        }
        None => (rest, Vec::new()),
    };
    let (rest, repository) = match rest.split_once("::") {
        Some((rest, name)) if is_repository(name) => (rest, Some(name.to_owned())),
        Some(_) => return None,
        None => (rest, None),
    };
    let (package, slot) = match rest.split_once(':') {
        Some((package, slot)) => (package, Some(read_slot(slot)?)),
        None => (rest, None),
    };
    let (operator, package) = read_operator(package);
    let (category, package) = package.split_once('/')?;
    let (name, version) = match operator {
        None => (package, None),
        Some(operator) => {
            let (name, range) = read_range(operator, package)?;
            (name, Some(range))
        }
    };
    (is_category(category) && is_name(name)).then(|| Atom {
        blocker,
        category: category.to_owned(),
        name: name.to_owned(),
        version,
        slot,
        repository,
        flags,
    })
}

fn read_operator(text: &str) -> (Option<Operator>, &str) {
    // The longer ones first.
    const OPERATORS: [(&str, Operator); 6] = [
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("=", Operator::Equal),
        ("~", Operator::AnyRevision),
    ];
    let found = OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)));
    found.map_or((None, text), |(operator, rest)| (Some(operator), rest))
}

/// The name, and the versions that an operator makes of the version behind it.
fn read_range(operator: Operator, text: &str) -> Option<(&str, VersionRange)> {
    let begins_with = text.strip_suffix('*').filter(|_| operator == Operator::Equal);
    let (operator, text) = begins_with.map_or((operator, text), |text| (Operator::BeginsWith, text));
    if let Some((name, version)) = split_version(text) {
        return Some((name, VersionRange { operator, version, build_id: None }));
    }
    // Behind a whole version, one more number is the build.
    let (text, build_id) = text.rsplit_once('-')?;
    let id: u64 = build_id.parse().ok().filter(|id: &u64| id.to_string() == build_id)?;
    let (name, version) = split_version(text)?;
    (operator == Operator::Equal).then_some((name, VersionRange { operator, version, build_id: Some(id) }))
}

fn read_slot(text: &str) -> Option<SlotDependency> {
    let operator = text.chars().last().filter(|last| matches!(last, '=' | '*'));
    let text = &text[..text.len() - usize::from(operator.is_some())];
    if text.is_empty() {
        return operator.map(|_| SlotDependency { slot: None, sub_slot: None, operator });
    }
    let (slot, sub_slot) = match text.split_once('/') {
        Some((slot, sub_slot)) => (slot, Some(sub_slot)),
        None => (text, None),
    };
    (operator != Some('*') && is_slot(slot) && sub_slot.is_none_or(is_slot)).then(|| SlotDependency {
        slot: Some(slot.to_owned()),
        sub_slot: sub_slot.map(str::to_owned),
        operator,
    })
}

fn read_flags(text: &str) -> Option<Vec<FlagDependency>> {
    let flags: Vec<FlagDependency> = text.split(',').map(read_flag).collect::<Option<_>>()?;
    // One flag with two defaults would mean two things.
    let is_clear = |flag: &FlagDependency| {
        flags.iter().all(|other| other.flag != flag.flag || other.default == flag.default)
    };
    flags.iter().all(is_clear).then_some(flags)
}

fn read_flag(text: &str) -> Option<FlagDependency> {
    let (text, suffix) = match text.chars().last() {
        Some(last @ ('?' | '=')) => (&text[..text.len() - 1], Some(last)),
        _ => (text, None),
    };
    let (text, prefix) = match text.chars().next() {
        Some(first @ ('!' | '-')) => (&text[1..], Some(first)),
        _ => (text, None),
    };
    let (flag, default) = match (text.strip_suffix("(+)"), text.strip_suffix("(-)")) {
        (Some(flag), _) => (flag, Some(true)),
        (None, Some(flag)) => (flag, Some(false)),
        (None, None) => (text, None),
    };
    let condition = match (prefix, suffix) {
        (None, None) => FlagCondition::Enabled,
        (Some('-'), None) => FlagCondition::Disabled,
        (None, Some('?')) => FlagCondition::IfEnabled,
        (Some('!'), Some('?')) => FlagCondition::IfDisabled,
        (None, Some(_)) => FlagCondition::Same,
        (Some('!'), Some(_)) => FlagCondition::Opposite,
        _ => return None,
    };
    is_flag(flag).then(|| FlagDependency { flag: flag.to_owned(), default, condition })
}

fn is_repository(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.blocker {
            None => "",
            Some(Blocker::Weak) => "!",
            Some(Blocker::Strong) => "!!",
        })?;
        if let Some(range) = &self.version {
            f.write_str(match range.operator {
                Operator::Less => "<",
                Operator::LessOrEqual => "<=",
                Operator::Equal | Operator::BeginsWith => "=",
                Operator::AnyRevision => "~",
                Operator::GreaterOrEqual => ">=",
                Operator::Greater => ">",
            })?;
        }
        write!(f, "{}/{}", self.category, self.name)?;
        if let Some(range) = &self.version {
            write!(f, "-{}", range.version)?;
            if let Some(id) = range.build_id {
                write!(f, "-{id}")?;
            }
            f.write_str(if range.operator == Operator::BeginsWith { "*" } else { "" })?;
        }
        if let Some(slot) = &self.slot {
            write!(f, ":{}", slot.slot.as_deref().unwrap_or_default())?;
            if let Some(sub_slot) = &slot.sub_slot {
                write!(f, "/{sub_slot}")?;
            }
            if let Some(operator) = slot.operator {
                write!(f, "{operator}")?;
            }
        }
        if let Some(repository) = &self.repository {
            write!(f, "::{repository}")?;
        }
        for (at, flag) in self.flags.iter().enumerate() {
            write!(f, "{}{flag}", if at == 0 { '[' } else { ',' })?;
        }
        f.write_str(if self.flags.is_empty() { "" } else { "]" })
    }
}

impl fmt::Display for FlagDependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, suffix) = match self.condition {
            FlagCondition::Enabled => ("", ""),
            FlagCondition::Disabled => ("-", ""),
            FlagCondition::IfEnabled => ("", "?"),
            FlagCondition::IfDisabled => ("!", "?"),
            FlagCondition::Same => ("", "="),
            FlagCondition::Opposite => ("!", "="),
        };
        let default = match self.default {
            None => "",
            Some(true) => "(+)",
            Some(false) => "(-)",
        };
        write!(f, "{prefix}{}{default}{suffix}", self.flag)
    }
}
