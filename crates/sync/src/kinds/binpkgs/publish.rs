//! A directory of packages as a tree: the packages, and the index that is made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};

use rayon::prelude::*;
use smart_sync_store::count::counted;
use smart_sync_store::manifest::{Content, TreePath};

use super::super::findings::Findings;
use super::super::follow::Following;
use super::super::published::{PublishedFiles, tree_path};
use super::super::retired;
use super::super::{Absent, ArtifactKind, Before, Job, KindError, Prepared, Refusal, file_time};
use super::admit::{admit, said_of};
use super::codec::Codec;
use super::generation::{self, Build, Current, Generation};
use super::index::{Block, INDEX_BYTES_MAX, Index, gzip};
use super::looked::Looked;
use super::made::{Replaced, make};
use super::package::Container;
use super::signature::Signature;
use super::stanza::{StanzaError, stanza};
use super::upstream::FollowBinpkgs;
use super::{PackageError, gpkg, xpak};
use crate::source::assembled::{AssembledSource, Part};
use crate::source::{FileStat, SourceError};
use crate::time::UnixTime;

/// The index, plain and compressed.
const INDEX: &str = "Packages";
const INDEX_GZ: &str = "Packages.gz";
/// How much younger than the one before an index is, in seconds. Portage asks for one that is at least five seconds
/// younger than the one that it has, and takes any other one for the same.
const SPACING_SECONDS: u64 = 6;
/// The number of bytes of a package that are read at once.
const READ_LEN: usize = 64 << 10;

/// The kind.
#[derive(Debug)]
pub struct Binpkgs;

impl ArtifactKind for Binpkgs {
    fn name(&self) -> &'static str {
        "binpkgs"
    }

    fn prepare(&self, job: Job<'_>) -> Result<Prepared, KindError> {
        let Job { directory, before, absent, findings, signatures, making, now, .. } = job;
        let mut found = look_at_all(directory, findings, now)?;
        let replaced = making
            .map(|making| make(directory, &mut found, findings, &making, now))
            .transpose()?
            .unwrap_or_default();
        let signers = admit(&found, &signatures, now)?;
        let published = Published::read(before, absent)?;
        let builds = found.iter().map(|(path, looked)| (path.clone(), build_of(&looked.block))).collect();
        let current = Current {
            live: published.live.iter().map(|(path, (block, _))| (path.clone(), build_of(block))).collect(),
            retired: published.retired.iter().map(|(path, (since, _))| (path.clone(), *since)).collect(),
        };
        let generation = generation::plan(&builds, &current, absent, now);
        if !generation.nameless.is_empty() {
            let refusal = |path: &TreePath| {
                let reason =
                    "another build is published under this name, and one beside it would be too long";
                Refusal::new(path, reason)
            };
            return Err(KindError::Refused(generation.nameless.iter().map(refusal).collect()));
        }
        let new = generation.live.keys().filter(|path| !published.live.contains_key(*path)).count() as u64;
        // Settings differ between build hosts: they come with a package, not for themselves.
        let here = if new > 0 || absent == Absent::Goes { settings_of(directory)? } else { None };
        let settings = here.or_else(|| published.index.as_ref().map(Index::settings)).unwrap_or_default();
        let made = Made::new(&generation, (&found, &replaced), &published, settings, now)?;
        let mut notes = notes(&generation, &found, new);
        notes.extend(said_of(signers.values()));
        if !replaced.is_empty() {
            let count = counted(replaced.len() as u64, "package is", "packages are");
            notes.push(match making.and_then(|making| making.key) {
                Some(key) => format!("{count} signed here, by {}", key.primary()),
                None => format!("{count} converted here"),
            });
        }
        let signers = (generation.live.iter())
            .filter_map(|(path, source)| {
                Some((path.clone(), signers.get(source.as_ref()?)?.primary.to_string()))
            })
            .collect();
        Ok(Prepared { parts: made.parts, content_time: made.time, notes, signers })
    }

    fn judges_signatures(&self) -> bool {
        true
    }

    fn makes_files(&self) -> bool {
        true
    }

    fn following(&self) -> Following {
        Following::Known(&FollowBinpkgs)
    }
}

/// What the publisher should hear of.
fn notes(generation: &Generation, found: &BTreeMap<TreePath, Looked>, new: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let plain = found.values().filter(|looked| looked.is_plain).count() as u64;
    if plain > 0 {
        let count = counted(plain, "package is", "packages are");
        notes.push(format!(
            "{count} not compressed: a client with a BINPKG_COMPRESS of its own cannot read that"
        ));
    }
    let passed_over = generation.passed_over.len() as u64;
    if passed_over > 0 {
        let count = counted(passed_over, "package is", "packages are");
        notes.push(format!("{count} left out: the index has a later build of the same name"));
    }
    let count = counted(generation.live.len() as u64, "package", "packages");
    notes.push(format!("the index has {count}, {new} of them new"));
    if !generation.retired.is_empty() {
        let count = counted(generation.retired.len() as u64, "file stays", "files stay");
        notes.push(format!("{count} for a week for clients that have an older index"));
    }
    notes
}

/// Looks into each package of the directory.
fn look_at_all(
    directory: &AssembledSource,
    findings: &mut Findings,
    now: UnixTime,
) -> Result<BTreeMap<TreePath, Looked>, KindError> {
    let packages: Vec<(&TreePath, &FileStat)> =
        directory.files().filter(|(path, _)| is_package(path)).collect();
    let known: Vec<Option<Looked>> =
        packages.iter().map(|(path, stat)| findings.get(path, stat).and_then(Looked::decode)).collect();
    let looked: Vec<Result<Looked, Unsound>> = (packages.par_iter().zip(known.into_par_iter()))
        .map(|((path, stat), known)| known.map_or_else(|| look(directory, path, stat), Ok))
        .collect();
    let (mut found, mut refused, mut failed) = (BTreeMap::new(), Vec::new(), None);
    for ((path, stat), looked) in packages.into_iter().zip(looked) {
        match looked {
            Ok(looked) => {
                findings.remember(path, stat, file_time(now), &looked.encode());
                found.insert(path.clone(), looked);
            }
            Err(Unsound::Unreadable(error)) => failed = failed.or(Some(error)),
            Err(Unsound::Package(error)) => {
                refused.push(Refusal { hint: Some(error.hint()), ..Refusal::of(path, &error) });
            }
            Err(Unsound::Stanza(error)) => {
                refused.push(Refusal { hint: Some(error.hint()), ..Refusal::of(path, &error) });
            }
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None if refused.is_empty() => Ok(found),
        None => Err(KindError::Refused(refused)),
    }
}

fn is_package(path: &TreePath) -> bool {
    str::from_utf8(path.file_name()).is_ok_and(|name| Container::of_name(name).is_some())
}

/// Why there is nothing to say of a package.
enum Unsound {
    /// The file cannot be read, which says nothing about the package.
    Unreadable(SourceError),
    /// It is no sound package.
    Package(PackageError),
    /// No index can say anything of it.
    Stanza(StanzaError),
}

/// Opens a package, and says what the index says of it.
fn look(directory: &AssembledSource, path: &TreePath, stat: &FileStat) -> Result<Looked, Unsound> {
    let file = directory.open(path).map_err(Unsound::Unreadable)?;
    let input = BufReader::with_capacity(READ_LEN, file);
    let name = str::from_utf8(path.file_name()).unwrap_or_default();
    let package = match Container::of_name(name) {
        Some(Container::Gpkg) => gpkg::read(input),
        _ => xpak::read(input),
    };
    let unsound = |error| match error {
        PackageError::Read(source) => {
            let path = path.as_bytes().to_vec();
            Unsound::Unreadable(SourceError::Io { operation: "reading", path, source })
        }
        error => Unsound::Package(error),
    };
    let package = package.map_err(unsound)?;
    let modified = u64::try_from(stat.modified.seconds).unwrap_or_default();
    let block = stanza(&package, path, modified).map_err(Unsound::Stanza)?;
    // The older form says by itself how it is compressed.
    let is_plain = package.container == Container::Gpkg && package.image.codec == Codec::Plain;
    let signatures = match &package.signature {
        Signature::Unsigned => None,
        Signature::Signed(parts) => {
            let image = || {
                let mut file = directory.open(path).map_err(io::Error::other)?;
                file.seek(SeekFrom::Start(package.image.range.start))?;
                Ok(file.take(package.image.range.end - package.image.range.start))
            };
            Some(parts.digest(image).map_err(unsound)?)
        }
    };
    Ok(Looked { block, is_plain, container: package.container, signatures })
}

fn build_of(block: &Block) -> Build {
    let value = |key: &str| block.get(key).unwrap_or_default().to_owned();
    Build {
        cpv: value("CPV"),
        build_id: value("BUILD_ID"),
        sha1: value("SHA1"),
        size: value("SIZE").parse().unwrap_or_default(),
        built: value("BUILD_TIME").parse().unwrap_or_default(),
    }
}

/// The settings of the host that has built the packages, as far as Portage has written them there.
fn settings_of(directory: &AssembledSource) -> Result<Option<Block>, KindError> {
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
    fn read(before: Option<&dyn Before>, absent: Absent) -> Result<Self, KindError> {
        let Some(before) = before else { return Ok(Self::default()) };
        let published = PublishedFiles::open(before)?;
        let text = match published.made(INDEX, INDEX_BYTES_MAX as u64)? {
            Some(text) => text,
            // What replaces it need not know what it was.
            None if absent == Absent::Goes => return Ok(Self::default()),
            None => {
                return Err(KindError::Before(format!(
                    "it has no {INDEX}; --replace publishes the directory in its place"
                )));
            }
        };
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
        (found, replaced): (&BTreeMap<TreePath, Looked>, &Replaced),
        published: &Published,
        settings: Block,
        now: UnixTime,
    ) -> Result<Self, KindError> {
        let limit = |error: super::index::IndexError| KindError::Reference(error.to_string());
        let mut parts = BTreeMap::new();
        let mut blocks = Vec::with_capacity(generation.live.len());
        let part_of = |source: &TreePath| match replaced.get(source) {
            Some(made) => Part::Beside(made.clone()),
            None => Part::File(source.clone()),
        };
        for (path, source) in &generation.live {
            let before = published.live.get(path);
            let (block, part) = match (source, before) {
                // What is said of a package does not change with the time of a copy of it.
                (Some(source), Some((block, _))) => (block.clone(), part_of(source)),
                (None, Some((block, content))) => (block.clone(), Part::Published(*content)),
                (Some(source), None) => {
                    let mut block = found.get(source).map(|looked| looked.block.clone()).unwrap_or_default();
                    block.set("PATH", String::from_utf8_lossy(path.as_bytes())).map_err(limit)?;
                    (block, part_of(source))
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
