//! A directory of packages as a tree: the packages, and the index that is made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;

use rayon::prelude::*;
use smart_sync_store::count::counted;
use smart_sync_store::manifest::{Content, FileTime, TreePath};

use super::super::findings::Findings;
use super::super::published::{PublishedFiles, tree_path};
use super::super::retired;
use super::super::{ArtifactKind, Before, Job, KindError, Prepared};
use super::codec::Codec;
use super::generation::{self, Build, Current, Generation};
use super::index::{Block, INDEX_BYTES_MAX, Index, gzip};
use super::package::Container;
use super::stanza::stanza;
use super::{gpkg, xpak};
use crate::source::FileStat;
use crate::source::assembled::{AssembledSource, Part};
use crate::time::UnixTime;

/// The index, plain and compressed.
const INDEX: &str = "Packages";
const INDEX_GZ: &str = "Packages.gz";
/// How much younger than the one before an index is, in seconds. Portage asks for one that is at least five seconds
/// younger than the one that it has, and takes any other one for the same.
const SPACING_SECONDS: u64 = 6;
/// Begins what is remembered of a package, and changes with what is made of one.
const FINDING_VERSION: &[u8] = b"1\n";

/// The kind.
#[derive(Debug)]
pub struct Binpkgs;

impl ArtifactKind for Binpkgs {
    fn name(&self) -> &'static str {
        "binpkgs"
    }

    fn prepare(&self, job: Job<'_>) -> Result<Prepared, KindError> {
        let Job { directory, before, absent, findings, now, .. } = job;
        let mut notes = Vec::new();
        let (found, plain) = look_at_all(directory, findings, now)?;
        let published = Published::read(before)?;
        let builds = found.iter().map(|(path, block)| (path.clone(), build_of(block))).collect();
        let current = Current {
            live: published.live.iter().map(|(path, (block, _))| (path.clone(), build_of(block))).collect(),
            retired: published.retired.keys().map(|path| (path.clone(), published.retired[path].0)).collect(),
        };
        let generation = generation::plan(&builds, &current, absent, now);
        let settings = settings_of(directory)?.or_else(|| published.index.as_ref().map(Index::settings));
        let made = Made::new(&generation, &found, &published, settings.unwrap_or_default(), now)?;
        let new = generation.live.keys().filter(|path| !published.live.contains_key(*path)).count() as u64;
        if plain > 0 {
            let count = counted(plain, "new package is", "new packages are");
            notes.push(format!(
                "{count} not compressed: a client with a BINPKG_COMPRESS of its own cannot read that"
            ));
        }
        let count = counted(generation.live.len() as u64, "package", "packages");
        notes.push(format!("the index has {count}, {new} of them new"));
        if !generation.retired.is_empty() {
            let count = counted(generation.retired.len() as u64, "file stays", "files stay");
            notes.push(format!("{count} for a week for clients that have an older index"));
        }
        Ok(Prepared { parts: made.parts, content_time: made.time, notes })
    }
}

/// What the index says of each package of the directory, and how many were seen whose files are not compressed.
fn look_at_all(
    directory: &AssembledSource,
    findings: &mut Findings,
    now: UnixTime,
) -> Result<(BTreeMap<TreePath, Block>, u64), KindError> {
    let packages: Vec<(&TreePath, &FileStat)> =
        directory.files().filter(|(path, _)| is_package(path)).collect();
    let known: Vec<Option<Block>> =
        packages.iter().map(|(path, stat)| findings.get(path, stat).and_then(decode)).collect();
    let looked: Vec<Result<Looked, String>> = (packages.par_iter().zip(known.into_par_iter()))
        .map(|((path, stat), known)| {
            known.map_or_else(|| look(directory, path, stat), |block| Ok(Looked::of(block)))
        })
        .collect();
    let read_at = FileTime { seconds: i64::try_from(now.seconds()).unwrap_or(i64::MAX), nanoseconds: 0 };
    let (mut found, mut refused, mut plain) = (BTreeMap::new(), Vec::new(), 0);
    for ((path, stat), looked) in packages.into_iter().zip(looked) {
        match looked {
            Ok(Looked { block, is_plain }) => {
                findings.remember(path, stat, read_at, &encode(&block));
                found.insert(path.clone(), block);
                plain += u64::from(is_plain);
            }
            Err(reason) => refused.push((path.clone(), reason)),
        }
    }
    if refused.is_empty() { Ok((found, plain)) } else { Err(KindError::Refused(refused)) }
}

fn is_package(path: &TreePath) -> bool {
    str::from_utf8(path.file_name()).is_ok_and(|name| Container::of_name(name).is_some())
}

/// What was found in a package.
struct Looked {
    /// What the index says of it.
    block: Block,
    /// Whether it was seen that its files are not compressed.
    is_plain: bool,
}

impl Looked {
    /// What was found before.
    const fn of(block: Block) -> Self {
        Self { block, is_plain: false }
    }
}

/// Opens a package, and says what the index says of it.
fn look(directory: &AssembledSource, path: &TreePath, stat: &FileStat) -> Result<Looked, String> {
    let file = directory.open(path).map_err(|error| error.to_string())?;
    let name = str::from_utf8(path.file_name()).unwrap_or_default();
    let package = match Container::of_name(name) {
        Some(Container::Gpkg) => gpkg::read(BufReader::with_capacity(1 << 16, file)),
        _ => xpak::read(BufReader::with_capacity(1 << 16, file)),
    };
    let package = package.map_err(|error| error.to_string())?;
    let modified = u64::try_from(stat.modified.seconds).unwrap_or_default();
    let block = stanza(&package, path, modified).map_err(|error| error.to_string())?;
    // The older form says by itself how it is compressed.
    let is_plain = package.container == Container::Gpkg && package.image.codec == Codec::Plain;
    Ok(Looked { block, is_plain })
}

fn build_of(block: &Block) -> Build {
    let value = |key: &str| block.get(key).unwrap_or_default().to_owned();
    Build {
        cpv: value("CPV"),
        build_id: value("BUILD_ID"),
        sha1: value("SHA1"),
        size: value("SIZE").parse().unwrap_or_default(),
    }
}

/// The settings of the host that has built the packages, as far as Portage has written them there.
fn settings_of(directory: &AssembledSource) -> Result<Option<Block>, KindError> {
    use std::io::Read as _;
    let path = tree_path(INDEX)?;
    if !directory.files().any(|(known, stat)| *known == path && stat.size <= INDEX_BYTES_MAX as u64) {
        return Ok(None);
    }
    let mut text = String::new();
    let read = directory.open(&path)?.take(INDEX_BYTES_MAX as u64).read_to_string(&mut text);
    // An index that cannot be read is none: it is made anew of the packages.
    Ok(read.ok().and_then(|_| Index::parse(&text).ok()).map(|index| index.settings()))
}

/// What is published now.
#[derive(Default)]
struct Published {
    index: Option<Index>,
    live: BTreeMap<TreePath, (Block, Content)>,
    retired: BTreeMap<TreePath, (u64, Content)>,
}

impl Published {
    fn read(before: Option<&dyn Before>) -> Result<Self, KindError> {
        let Some(before) = before else { return Ok(Self::default()) };
        let published = PublishedFiles::open(before)?;
        let text = published
            .made(INDEX, INDEX_BYTES_MAX as u64)?
            .ok_or_else(|| KindError::Before(format!("it is no tree of packages: it has no {INDEX}")))?;
        let text = str::from_utf8(&text).map_err(|error| KindError::Before(format!("{INDEX}: {error}")))?;
        let index = Index::parse(text).map_err(|error| KindError::Before(error.to_string()))?;
        let mut live = BTreeMap::new();
        for block in &index.packages {
            let path = tree_path(block.get("PATH").unwrap_or_default())?;
            let content = published.content(&path)?;
            live.insert(path, (block.clone(), content));
        }
        let mut retired = BTreeMap::new();
        for (path, since) in published.retired()? {
            let content = published.content(&path)?;
            retired.insert(path, (since, content));
        }
        Ok(Self { index: Some(index), live, retired })
    }
}

/// A tree of packages.
struct Made {
    parts: BTreeMap<TreePath, Part>,
    time: UnixTime,
}

impl Made {
    fn new(
        generation: &Generation,
        found: &BTreeMap<TreePath, Block>,
        published: &Published,
        settings: Block,
        now: UnixTime,
    ) -> Result<Self, KindError> {
        let limit = |error: super::index::IndexError| KindError::Reference(error.to_string());
        let mut parts = BTreeMap::new();
        let mut blocks = Vec::with_capacity(generation.live.len());
        for (path, source) in &generation.live {
            let before = published.live.get(path);
            let (block, part) = match (source, before) {
                // What is said of a package does not change with the time of a copy of it.
                (Some(source), Some((block, _))) => (block.clone(), Part::File(source.clone())),
                (None, Some((block, content))) => (block.clone(), Part::Published(*content)),
                (Some(source), None) => {
                    let mut block = found.get(source).cloned().unwrap_or_default();
                    block.set("PATH", String::from_utf8_lossy(path.as_bytes())).map_err(limit)?;
                    (block, Part::File(source.clone()))
                }
                (None, None) => continue,
            };
            blocks.push(block);
            parts.insert(path.clone(), part);
        }
        for path in generation.retired.keys() {
            let content = published.retired.get(path).map(|(_, content)| *content);
            let content = content.or_else(|| published.live.get(path).map(|(_, content)| *content));
            parts.extend(content.map(|content| (path.clone(), Part::Published(content))));
        }
        if !generation.retired.is_empty() {
            parts.insert(tree_path(retired::FILE)?, Part::Made(retired::render(&generation.retired).into()));
        }
        let mut index = Index::new(now.seconds(), settings, blocks);
        if let Some(before) = &published.index {
            let is_same_tree = published.live.keys().collect::<BTreeSet<_>>()
                == generation.live.keys().collect()
                && published.retired.iter().map(|(path, (since, _))| (path, since)).eq(&generation.retired);
            index.timestamp = if is_same_tree && before.header == index.header {
                before.timestamp
            } else {
                now.seconds().max(before.timestamp.saturating_add(SPACING_SECONDS))
            };
        }
        let time = UnixTime::new(index.timestamp)
            .ok_or_else(|| KindError::Before("its index is of a time beyond the year 9999".to_owned()))?;
        let text = index.render();
        let compressed = gzip(&text).map_err(|error| KindError::Reference(error.to_string()))?;
        parts.insert(tree_path(INDEX)?, Part::Made(text.into_bytes().into()));
        parts.insert(tree_path(INDEX_GZ)?, Part::Made(compressed.into()));
        Ok(Self { parts, time })
    }
}

/// What is remembered of a package: an index of it alone.
fn encode(block: &Block) -> Vec<u8> {
    let text = Index::new(0, Block::default(), vec![block.clone()]).render();
    [FINDING_VERSION, text.as_bytes()].concat()
}

fn decode(finding: &[u8]) -> Option<Block> {
    let text = str::from_utf8(finding.strip_prefix(FINDING_VERSION)?).ok()?;
    Index::parse(text).ok()?.packages.pop()
}
