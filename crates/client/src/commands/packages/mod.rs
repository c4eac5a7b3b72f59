//! `pkg`: the binary packages of Gentoo that a channel holds.

mod diff;
mod list;
mod lists;
mod missing;
mod redundant;
mod verify;
mod wanted;

use std::collections::BTreeMap;
use std::fs::File;

use smart_sync_store::manifest::{Content, Entry, Found, Manifest, TreePath};
use smart_sync_sync::kinds::binpkgs::INDEX;
use smart_sync_sync::kinds::binpkgs::atom::Atom;
use smart_sync_sync::kinds::binpkgs::cpv::Cpv;
use smart_sync_sync::kinds::binpkgs::index::{Block, INDEX_BYTES_MAX, Index, IndexError};
use smart_sync_sync::kinds::built_on::{self, Builders};

use super::contents::{Contents, files_of};
use super::{open_realm, wait_for};
use crate::args::packages::PackageCommand;
use crate::args::sync::ChannelArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::realm::locate::Tree;
use crate::realm::pages::RemotePages;
use crate::realm::resolve::Resolved;
use crate::sync::Surroundings;

/// Does what the arguments name.
pub fn run(
    command: &PackageCommand,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    match command {
        PackageCommand::List(args) => list::list(args, config, surroundings),
        PackageCommand::Show(args) => list::show(args, config, surroundings),
        PackageCommand::Missing(args) => missing::missing(args, config, surroundings),
        PackageCommand::Diff(args) => diff::diff(args, config, surroundings),
        PackageCommand::Verify(args) => verify::verify(args, config, surroundings),
        PackageCommand::Redundant(args) => redundant::redundant(args, config, surroundings),
    }
}

/// A package in an index.
struct Package<'a> {
    cpv: Cpv,
    build_id: Option<u64>,
    block: &'a Block,
}

impl<'a> Package<'a> {
    fn of(block: &'a Block) -> Option<Self> {
        let build_id = block.get("BUILD_ID").and_then(|id| id.parse().ok());
        Some(Self { cpv: block.get("CPV")?.parse().ok()?, build_id, block })
    }

    fn value(&self, key: &str) -> &'a str {
        self.block.get(key).unwrap_or_default()
    }

    fn size(&self) -> u64 {
        self.value("SIZE").parse().unwrap_or_default()
    }

    /// What it is called: with the number of its build, where it has one.
    fn title(&self) -> String {
        title(&self.cpv.to_string(), self.build_id)
    }
}

fn title(cpv: &str, build_id: Option<u64>) -> String {
    build_id.map_or_else(|| cpv.to_owned(), |id| format!("{cpv} build {id}"))
}

/// The packages that a channel holds.
struct Shelf<'a> {
    resolved: Resolved,
    index: Index,
    surroundings: &'a Surroundings<'a>,
}

impl<'a> Shelf<'a> {
    /// Reads the index of a channel, which is proven like any tree.
    fn open(
        args: &ChannelArgs,
        config: &Config,
        surroundings: &'a Surroundings<'a>,
    ) -> Result<Self, Failure> {
        let (realm, settings) = open_realm(args, config, surroundings)?;
        let resolving = realm.resolve(&settings.channel, &settings.reference, None, surroundings.output);
        let resolved = wait_for(surroundings, resolving)?;
        let mut shelf = Self { resolved, index: Index::new(0, Block::default(), Vec::new()), surroundings };
        let channel = &shelf.resolved.verified.publication.record().channel;
        let wrong = |reason: String| {
            Failure::message(Exit::General, format!("{channel} holds no binary packages: {reason}"))
                .hint("`smart-sync publish DIR --kind binpkgs --channel …` publishes some")
        };
        let content = shelf.content(INDEX)?.ok_or_else(|| wrong(format!("it has no {INDEX}")))?;
        if content.size > INDEX_BYTES_MAX as u64 {
            return Err(wrong(format!("its {INDEX} is larger than {INDEX_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(shelf.bytes(content)?).map_err(|error| wrong(error.to_string()))?;
        shelf.index = Index::parse(&text).map_err(|error: IndexError| {
            Failure::new(Exit::General, error).context(format!("reading the {INDEX} of {channel}"))
        })?;
        Ok(shelf)
    }

    /// All packages, in the order of the index.
    fn packages(&self) -> impl Iterator<Item = Package<'_>> {
        self.index.packages.iter().filter_map(Package::of)
    }

    /// Those that one of these atoms names; all where there are none.
    fn named(&self, atoms: &[String]) -> Result<Vec<Package<'_>>, Failure> {
        let atoms = atoms.iter().map(|text| atom(text)).collect::<Result<Vec<_>, _>>()?;
        let is_named = |package: &Package<'_>| {
            atoms.is_empty() || atoms.iter().any(|atom| atom.names(&package.cpv, package.build_id))
        };
        Ok(self.packages().filter(is_named).collect())
    }

    fn contents(&self) -> Contents<'_> {
        let trees = vec![Tree::of(&self.resolved.verified)];
        Contents::new(&self.resolved.remotes, trees, self.surroundings)
    }

    /// On which machines the packages were built, of those that it was said of.
    fn builders(&self) -> Result<Builders, Failure> {
        let Some(content) = self.content(built_on::FILE)? else { return Ok(Builders::new()) };
        if content.size > built_on::BYTES_MAX {
            let text = format!("{} is larger than {} bytes", built_on::FILE, built_on::BYTES_MAX);
            return Err(Failure::message(Exit::General, text));
        }
        built_on::parse(&self.bytes(content)?).map_err(|error| Failure::message(Exit::General, error))
    }

    /// The bytes of a file that is small enough.
    fn bytes(&self, content: Content) -> Result<Vec<u8>, Failure> {
        Ok(self.contents().small(&[content])?.remove(&content.id).unwrap_or_default())
    }

    fn content(&self, path: &str) -> Result<Option<Content>, Failure> {
        let pages = RemotePages::new(&self.resolved.remotes, self.surroundings);
        let manifest = self.resolved.verified.manifest;
        let find = || {
            let manifest = Manifest::open(&pages, manifest.id, Some(manifest.bytes))?;
            TreePath::new(path.as_bytes()).map_or(Ok(None), |path| manifest.find(&path))
        };
        match find().map_err(|error| pages.failure(error))? {
            Some(Found::Entry(entry)) => Ok(Entry::content(&entry).copied()),
            _ => Ok(None),
        }
    }

    /// All files of the tree.
    fn files(&self) -> Result<BTreeMap<TreePath, Content>, Failure> {
        files_of(&self.resolved.verified, &self.resolved.remotes, self.surroundings)
    }

    /// The file of a package, which is verified.
    fn file(&self, package: &Package<'_>) -> Result<File, Failure> {
        let path = package.value("PATH");
        let content = self.content(path)?.ok_or_else(|| {
            Failure::message(Exit::General, format!("{path} is in the index, and is not published"))
        })?;
        self.contents().spooled(&content, self.surroundings.state_dir)
    }
}

fn atom(text: &str) -> Result<Atom, Failure> {
    text.parse().map_err(|error| {
        Failure::new(Exit::Arguments, error).hint(
            "packages are named as Portage does: app-misc/hello, =app-misc/hello-2.10, >=app-misc/hello-2",
        )
    })
}
