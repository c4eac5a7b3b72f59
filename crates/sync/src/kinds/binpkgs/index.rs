//! `Packages`: the index of a directory of packages, as Portage writes and reads it.
//!
//! Blocks of `Key: value`, each ended by an empty line. The first is the header; then there is one for each package. A
//! value that most packages share stands in the header, and a value that goes without saying does not stand at all.
//! Portage stops at the first block that is empty and notices nothing when the end is missing, so both are refused
//! here. What is written is a function of the packages: the same ones make the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// The most bytes of an index.
pub const INDEX_BYTES_MAX: usize = 256 << 20;
/// The most packages of an index.
const PACKAGES_MAX: usize = 1_000_000;
/// The most keys of a block.
const KEYS_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 128;
/// The most bytes of a value.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// The version of the format, which clients ask for.
const VERSION: &str = "0";
/// Keys of the header that are made when an index is written.
const OWN_KEYS: [&str; 3] = ["PACKAGES", "TIMESTAMP", "VERSION"];
/// Keys of the header whose value holds for packages that say nothing else.
pub(super) const INHERITED_KEYS: [&str; 2] = ["CHOST", "REPO"];
/// Values that go without saying.
const DEFAULTS: [(&str, &str); 2] = [("EAPI", "0"), ("SLOT", "0")];
/// Keys that Portage knows by another name, which is the one that it sorts by.
const SORTED_AS: [(&str, &str); 3] = [("DESC", "DESCRIPTION"), ("MTIME", "_mtime_"), ("REPO", "repository")];
/// Settings of a build host that clients take from the header (`_pkgindex_header_keys` of Portage).
const SETTINGS: [&str; 19] = [
    "ACCEPT_KEYWORDS",
    "ACCEPT_LICENSE",
    "ACCEPT_PROPERTIES",
    "ACCEPT_RESTRICT",
    "ARCH",
    "CBUILD",
    "CHOST",
    "CONFIG_PROTECT",
    "CONFIG_PROTECT_MASK",
    "FEATURES",
    "GENTOO_MIRRORS",
    "INSTALL_MASK",
    "IUSE_IMPLICIT",
    "PROFILE",
    "REPO_REVISIONS",
    "USE",
    "USE_EXPAND",
    "USE_EXPAND_HIDDEN",
    "USE_EXPAND_IMPLICIT",
];
/// What names of further settings are taken from the header too.
const LISTS_OF_SETTINGS: [&str; 2] = ["USE_EXPAND_IMPLICIT", "USE_EXPAND_UNPREFIXED"];

/// One block: values by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block(BTreeMap<String, String>);

/// An index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// When it was made, in seconds since 1970: what clients compare.
    pub timestamp: u64,
    /// The header but for what is made when it is written: the number of packages, the time and the version.
    pub header: Block,
    /// The packages, each with all that is known of it.
    pub packages: Vec<Block>,
}

/// Why a text is no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A line that must not stand there.
    #[error("line {line} of the index: {reason}")]
    Line {
        /// The line, from one on.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The header says that there are more or fewer packages.
    #[error(
        "the index says that there are {stated} packages, and there are {found}: it is cut short or was edited"
    )]
    Count {
        /// What the header says.
        stated: usize,
        /// What there are.
        found: usize,
    },
    /// The end is missing.
    #[error("the index does not end with an empty line: it is cut short")]
    CutShort,
    /// A version that is not this one.
    #[error("the index has version {0:?}, and only 0 is understood")]
    Version(String),
    /// More than an index may have.
    #[error("the index has more than {0}")]
    TooLarge(String),
    /// A key or value that no line can hold.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Block {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Sets a value. An empty one is the same as none.
    pub fn set(&mut self, key: &str, value: impl Into<String>) -> Result<(), IndexError> {
        let value = value.into();
        let refuse =
            |reason| Err(IndexError::Value { key: key.chars().take(KEY_BYTES_MAX).collect(), reason });
        let is_key = key.len() <= KEY_BYTES_MAX
            && key.starts_with(|first: char| first.is_ascii_alphabetic())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_key {
            return refuse("it is no key");
        }
        if value.len() > VALUE_BYTES_MAX {
            return refuse("the value is longer than 1 MiB");
        }
        // Portage splits lines at more than newlines, and people read the file in a terminal.
        if value.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            return refuse("the value holds a control character");
        }
        if value.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_owned(), value);
        }
        Ok(())
    }

    fn write(&self, text: &mut String, is_said: impl Fn(&str, &str) -> bool) {
        let mut lines: Vec<(&str, &str)> = self.iter().filter(|(key, value)| is_said(key, value)).collect();
        lines.sort_by_key(|(key, _)| sorted_as(key));
        for (key, value) in lines {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{key}: {value}");
        }
        text.push('\n');
    }
}

fn sorted_as(key: &str) -> &str {
    SORTED_AS.iter().find(|(known, _)| *known == key).map_or(key, |(_, name)| name)
}

impl Index {
    /// An index of packages, with the settings of the host that has built them.
    pub fn new(timestamp: u64, settings: Block, packages: Vec<Block>) -> Self {
        let mut index = Self { timestamp, header: settings, packages };
        if index.header.get("CHOST").is_none()
            && let Some(chost) = index.most_common("CHOST")
        {
            index.header.0.insert("CHOST".to_owned(), chost);
        }
        index.sort();
        index
    }

    /// The settings of a build host that are taken over from the index that Portage has written there.
    pub fn settings(&self) -> Block {
        let listed = LISTS_OF_SETTINGS.iter().filter_map(|list| self.header.get(list));
        let listed: BTreeSet<&str> = listed.flat_map(str::split_whitespace).collect();
        let is_setting = |key: &str| {
            let values_of = key.strip_prefix("USE_EXPAND_VALUES_");
            SETTINGS.contains(&key)
                || LISTS_OF_SETTINGS.contains(&key)
                || listed.contains(key)
                || values_of.is_some_and(|list| listed.contains(list))
        };
        let settings = self.header.0.iter().filter(|(key, _)| is_setting(key));
        Block(settings.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// The value that most packages have; of several the least.
    fn most_common(&self, key: &str) -> Option<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for value in self.packages.iter().filter_map(|package| package.get(key)) {
            *counts.entry(value).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        counts.into_iter().find(|(_, count)| *count == most).map(|(value, _)| value.to_owned())
    }

    /// Portage's order, by the text of the package's name, and then by what tells builds of one version apart.
    fn sort(&mut self) {
        let build_id = |block: &Block| block.get("BUILD_ID").and_then(|id| id.parse::<u64>().ok());
        self.packages.sort_by(|left, right| {
            left.get("CPV")
                .cmp(&right.get("CPV"))
                .then_with(|| build_id(left).cmp(&build_id(right)))
                .then_with(|| left.get("PATH").cmp(&right.get("PATH")))
        });
    }

    /// Reads an index.
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        if text.len() > INDEX_BYTES_MAX {
            return Err(IndexError::TooLarge(format!("{INDEX_BYTES_MAX} bytes")));
        }
        if !text.ends_with("\n\n") {
            return Err(IndexError::CutShort);
        }
        let refuse = |line: usize, reason: &str| IndexError::Line { line, reason: reason.to_owned() };
        let mut blocks: Vec<Block> = Vec::new();
        let mut block = Block::default();
        for (at, line) in text.split_terminator('\n').enumerate() {
            if line.is_empty() {
                if block.0.is_empty() {
                    return Err(refuse(at + 1, "an empty line where Portage would stop reading"));
                }
                if blocks.len() > PACKAGES_MAX {
                    return Err(IndexError::TooLarge(format!("{PACKAGES_MAX} packages")));
                }
                blocks.push(std::mem::take(&mut block));
                continue;
            }
            let (key, value) = line.split_once(':').ok_or_else(|| refuse(at + 1, "there is no colon"))?;
            let value = match value.strip_prefix(' ') {
                Some(value) if !value.is_empty() => value,
                _ => return Err(refuse(at + 1, "there is no value behind the colon and a space")),
            };
            if block.0.contains_key(key) {
                return Err(refuse(at + 1, "a key that came before"));
            }
            block.set(key, value).map_err(|error| refuse(at + 1, &error.to_string()))?;
            if block.0.len() > KEYS_MAX {
                return Err(IndexError::TooLarge(format!("{KEYS_MAX} keys for one package")));
            }
        }
        let mut blocks = blocks.into_iter();
        let header = blocks.next().ok_or_else(|| refuse(1, "there is no header"))?;
        Self::of_blocks(header, blocks.collect())
    }

    fn of_blocks(mut header: Block, mut packages: Vec<Block>) -> Result<Self, IndexError> {
        let mut own = |key: &str| header.0.remove(key);
        let (stated, timestamp, version) = (own(OWN_KEYS[0]), own(OWN_KEYS[1]), own(OWN_KEYS[2]));
        let number = |key: &str, value: Option<String>| {
            let number = value.as_ref().and_then(|value| value.parse::<u64>().ok());
            number.filter(|number| Some(number.to_string()) == value).ok_or_else(|| IndexError::Value {
                key: key.to_owned(),
                reason: "the header has no such number",
            })
        };
        if version.as_deref() != Some(VERSION) {
            return Err(IndexError::Version(version.unwrap_or_default()));
        }
        let stated = usize::try_from(number(OWN_KEYS[0], stated)?).unwrap_or(usize::MAX);
        if stated != packages.len() {
            return Err(IndexError::Count { stated, found: packages.len() });
        }
        let timestamp = number(OWN_KEYS[1], timestamp)?;
        let inherited = INHERITED_KEYS.iter().filter_map(|key| Some((*key, header.get(key)?)));
        let implied: Vec<(&str, &str)> = DEFAULTS.into_iter().chain(inherited).collect();
        for (at, package) in packages.iter_mut().enumerate() {
            if package.get("CPV").is_none() {
                let reason = format!("package {} has none, and Portage would leave it out", at + 1);
                return Err(IndexError::Line { line: 1, reason: format!("CPV: {reason}") });
            }
            for (key, value) in &implied {
                package.0.entry((*key).to_owned()).or_insert_with(|| (*value).to_owned());
            }
        }
        Ok(Self { timestamp, header, packages })
    }

    /// Writes the index.
    pub fn render(&self) -> String {
        let mut header = self.header.clone();
        let own = [self.packages.len().to_string(), self.timestamp.to_string(), VERSION.to_owned()];
        header.0.extend(OWN_KEYS.iter().map(|key| (*key).to_owned()).zip(own));
        let mut text = String::new();
        header.write(&mut text, |_, _| true);
        let is_said = |key: &str, value: &str| {
            let is_inherited = INHERITED_KEYS.contains(&key) && self.header.get(key) == Some(value);
            !is_inherited && !DEFAULTS.contains(&(key, value))
        };
        for package in &self.packages {
            package.write(&mut text, is_said);
        }
        text
    }
}

/// `Packages.gz`: the same bytes for the same index, whenever it is made.
pub fn gzip(text: &str) -> io::Result<Vec<u8>> {
    let encoder = flate2::GzBuilder::new().mtime(0).operating_system(255);
    let mut encoder = encoder.write(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}
