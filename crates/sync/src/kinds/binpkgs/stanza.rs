//! From a package to what the index says of it.

use std::collections::HashSet;

use smart_sync_store::id::to_hex;
use smart_sync_store::manifest::TreePath;

use super::PackageError;
use super::atom::Atom;
use super::cpv::{Cpv, is_slot};
use super::dependencies::{Dependencies, DependencyError, Word};
use super::index::{Block, IndexError};
use super::package::{Container, Package};

/// The keys that are taken from the package as they are (`_aux_cache_keys` of Portage's `bindbapi`).
const PLAIN_KEYS: [&str; 11] = [
    "BUILD_ID",
    "BUILD_TIME",
    "CHOST",
    "DEFINED_PHASES",
    "EAPI",
    "IUSE",
    "KEYWORDS",
    "PROVIDES",
    "REQUIRES",
    "USE",
    "USER_PATCHES",
];
/// The keys whose atoms depend on USE flags.
const ATOM_KEYS: [&str; 5] = ["BDEPEND", "DEPEND", "IDEPEND", "PDEPEND", "RDEPEND"];
/// The keys whose words do.
const WORD_KEYS: [&str; 3] = ["LICENSE", "PROPERTIES", "RESTRICT"];

/// Keys that stand for themselves.
const OWN_KEYS: [&str; 7] = ["CPV", "MD5", "PATH", "REPO", "SHA1", "SIZE", "SLOT"];

/// Why there is nothing that an index could say of a package.
#[derive(Debug, thiserror::Error)]
pub enum StanzaError {
    /// The metadata cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Something that a package has to say.
    #[error("the package does not say what its {0} is")]
    Missing(&'static str),
    /// A value that is not what it should be.
    #[error("{key} is {value:?}, which is {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// Why it cannot be.
        expected: &'static str,
    },
    /// Dependencies that cannot be read.
    #[error("{key}: {error}")]
    Dependencies {
        /// The key.
        key: &'static str,
        /// What is wrong with them.
        #[source]
        error: DependencyError,
    },
    /// Something that no line of an index can hold.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl StanzaError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Package(error) => error.hint(),
            Self::Value { key: "PATH", .. } => "give the file the name that Portage gives to packages",
            _ => "build the package again with a current Portage",
        }
    }
}

/// What an index says of the package that is at `path` below it, and whose file was changed last at `modified`, in
/// seconds since 1970.
pub fn stanza(package: &Package, path: &TreePath, modified: u64) -> Result<Block, StanzaError> {
    let metadata = &package.metadata;
    let mut block = Block::default();
    let cpv = cpv(package)?;
    block.set("CPV", cpv.to_string())?;
    for key in PLAIN_KEYS {
        block.set(key, metadata.text(key)?)?;
    }
    if block.get("EAPI").is_none() {
        block.set("EAPI", "0")?;
    }
    for key in ["BUILD_ID", "BUILD_TIME"] {
        // Numbers are written as numbers are, so that a build has one id.
        if let Some(value) = block.get(key) {
            let refuse = || StanzaError::Value { key, value: value.to_owned(), expected: "no number" };
            let number: u64 = value.parse().map_err(|_| refuse())?;
            block.set(key, number.to_string())?;
        }
    }
    let slot = metadata.text("SLOT")?;
    if slot.is_empty() {
        return Err(StanzaError::Missing("SLOT"));
    }
    if !slot.splitn(2, '/').all(is_slot) {
        return Err(StanzaError::Value { key: "SLOT", value: slot, expected: "no slot" });
    }
    block.set("SLOT", slot)?;
    block.set("REPO", metadata.text("repository")?)?;
    let used = metadata.text("USE")?;
    let flags: HashSet<&str> = used.split(' ').collect();
    for key in ATOM_KEYS {
        let dependencies: Result<Dependencies<Atom>, _> = metadata.text(key)?.parse();
        let failed = |error| StanzaError::Dependencies { key, error };
        block.set(key, dependencies.map_err(failed)?.settled(&flags))?;
    }
    for key in WORD_KEYS {
        let dependencies: Result<Dependencies<Word>, _> = metadata.text(key)?.parse();
        let failed = |error| StanzaError::Dependencies { key, error };
        block.set(key, dependencies.map_err(failed)?.settled(&flags))?;
    }
    block.set("PATH", file_path(package.container, path)?)?;
    block.set("SIZE", package.digests.size.to_string())?;
    block.set("MD5", to_hex(&package.digests.md5))?;
    block.set("SHA1", to_hex(&package.digests.sha1))?;
    block.set("MTIME", modified.to_string())?;
    Ok(block)
}

/// Whether a key is one that an index says of packages because they do.
pub(super) fn is_said(key: &str) -> bool {
    [&PLAIN_KEYS[..], &ATOM_KEYS, &WORD_KEYS, &OWN_KEYS].concat().contains(&key)
}

/// Which package it is.
fn cpv(package: &Package) -> Result<Cpv, StanzaError> {
    let value = |key: &'static str| {
        let value = package.metadata.text(key)?;
        if value.is_empty() { Err(StanzaError::Missing(key)) } else { Ok(value) }
    };
    let name = format!("{}/{}", value("CATEGORY")?, value("PF")?);
    let refuse =
        |_| StanzaError::Value { key: "PF", value: name.clone(), expected: "no package and version" };
    name.parse().map_err(refuse)
}

/// The path as an index has it: clients tell the two forms of packages apart by it.
fn file_path(container: Container, path: &TreePath) -> Result<String, StanzaError> {
    let refuse = |expected| StanzaError::Value { key: "PATH", value: path.to_string(), expected };
    let text = str::from_utf8(path.as_bytes()).map_err(|_| refuse("no UTF-8"))?;
    match (Container::of_name(text), container) {
        (Some(named), found) if named == found => Ok(text.to_owned()),
        (_, Container::Gpkg) => Err(refuse("not the name of a GPKG, which ends with .gpkg.tar")),
        (_, Container::Xpak) => Err(refuse("not the name of an old package, which ends with .xpak or .tbz2")),
    }
}
