//! The tree of an index of packages: read as it is published, and made of a generation.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::manifest::{Content, TreePath};

use super::super::built_on::{self, Builders, BuiltOn};
use super::super::published::{PublishedFiles, tree_path};
use super::super::retired;
use super::super::{Absent, Before, KindError};
use super::generation::{Build, Current, Generation};
use super::index::{Block, INDEX_BYTES_MAX, Index, IndexError, gzip};
use super::looked::Looked;
use super::made::Replaced;
use super::taken_out::{self, TakenOut};
use crate::source::assembled::Part;
use crate::time::UnixTime;

/// The index.
pub const INDEX: &str = "Packages";
/// The compressed index.
pub const INDEX_GZ: &str = "Packages.gz";
/// How much younger than the one before an index is, in seconds. Portage asks for one that is at least five seconds
/// younger than the one that it has, and takes any other one for the same.
const SPACING_SECONDS: u64 = 6;

/// What is published now.
#[derive(Default)]
pub(super) struct Published {
    pub(super) index: Option<Index>,
    pub(super) live: BTreeMap<TreePath, (Block, Content)>,
    pub(super) retired: BTreeMap<TreePath, (u64, Content)>,
    builders: Builders,
    pub(super) taken_out: TakenOut,
}

impl Published {
    pub(super) fn read(before: Option<&dyn Before>, absent: Absent) -> Result<Self, KindError> {
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
        let builders = match published.made(built_on::FILE, built_on::BYTES_MAX)? {
            Some(text) => built_on::parse(&text).map_err(KindError::Before)?,
            None => Builders::new(),
        };
        let taken_out = match published.made(taken_out::FILE, taken_out::BYTES_MAX)? {
            Some(text) => TakenOut::parse(&text).map_err(KindError::Before)?,
            None => TakenOut::default(),
        };
        Ok(Self { index: Some(index), live, retired, builders, taken_out })
    }

    /// As far as it matters to what the next generation is.
    pub(super) fn current(&self) -> Current {
        Current {
            live: self.live.iter().map(|(path, (block, _))| (path.clone(), build_of(block))).collect(),
            retired: self.retired.iter().map(|(path, (since, _))| (path.clone(), *since)).collect(),
        }
    }
}

/// A tree of packages.
pub(super) struct Made {
    pub(super) parts: BTreeMap<TreePath, Part>,
    pub(super) time: UnixTime,
}

impl Made {
    pub(super) fn new(
        generation: &Generation,
        (found, replaced): (&BTreeMap<TreePath, Looked>, &Replaced),
        (built_on, taken_out): (Option<&BuiltOn>, &TakenOut),
        published: &Published,
        settings: Block,
        now: UnixTime,
    ) -> Result<Self, KindError> {
        let limit = |error: IndexError| KindError::Reference(error.to_string());
        let mut parts = BTreeMap::new();
        let mut blocks = Vec::with_capacity(generation.live.len());
        let mut builders = Builders::new();
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
            // What is said of a package is said once, by whoever adds it.
            let builder = before.map_or(built_on, |_| published.builders.get(path));
            builders.extend(builder.map(|builder| (path.clone(), builder.clone())));
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
        if !taken_out.is_empty() {
            parts.insert(tree_path(taken_out::FILE)?, Part::Made(taken_out.render().into()));
        }
        if !builders.is_empty() {
            parts.insert(tree_path(built_on::FILE)?, Part::Made(built_on::render(&builders).into()));
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

/// A package, as far as it matters to which ones an index names.
pub(super) fn build_of(block: &Block) -> Build {
    let value = |key: &str| block.get(key).unwrap_or_default().to_owned();
    Build {
        cpv: value("CPV"),
        build_id: value("BUILD_ID"),
        sha1: value("SHA1"),
        size: value("SIZE").parse().unwrap_or_default(),
        built: value("BUILD_TIME").parse().unwrap_or_default(),
    }
}
