//! Directories as sources.
//!
//! The walk keeps the names of the directories of one path from the top down, and reads no content: a file whose
//! numbers are those of the cache is never opened. One that is read is looked at again when it changed meanwhile.

mod access;
mod beneath;
mod metadata;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Statx};
use smart_sync_store::id::TreeId;
use smart_sync_store::manifest::{
    Attributes, DeviceKind, Fidelity, FileTime, GitMode, ManifestSummary, Node, TreePath,
};

use super::cache::ContentCache;
use super::{
    Contents, FileStat, Handle, Known, SourceEntry, SourceError, SourceNode, TreeSource, Warning, tree_path,
};
use crate::exclude::Exclusions;
use access::{Access, Listed};
use beneath::file_stat;

/// How a directory is published.
#[derive(Debug, Clone)]
pub struct DirectoryOptions {
    /// How much of the metadata is kept.
    pub fidelity: Fidelity,
    /// What is left out.
    pub exclusions: Exclusions,
    /// The time at which reading begins: files that changed about then are not remembered.
    pub now: FileTime,
}

/// A directory that is being published.
pub struct DirectorySource {
    access: Arc<Access>,
    exclusions: Exclusions,
    now: FileTime,
    frames: Vec<Frame>,
    /// Listings of directories that had to be looked into before their place came.
    ahead: HashMap<TreePath, Vec<Listed>>,
    /// The first path of each file that has several.
    links: HashMap<(u64, (u32, u32)), TreePath>,
    cache: ContentCache,
    warnings: Vec<Warning>,
}

struct Frame {
    path: Option<TreePath>,
    steps: std::vec::IntoIter<(Step, Listed)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Report,
    Enter,
}

impl DirectorySource {
    /// Opens a directory and reads the names in it.
    pub fn open(path: &Path, options: DirectoryOptions, cache: ContentCache) -> Result<Self, SourceError> {
        let mut source = Self {
            access: Arc::new(Access::open(path, options.fidelity)?),
            exclusions: options.exclusions,
            now: options.now,
            frames: Vec::new(),
            ahead: HashMap::new(),
            links: HashMap::new(),
            cache,
            warnings: Vec::new(),
        };
        source.start()?;
        Ok(source)
    }

    /// What is remembered, for the next publication.
    pub fn into_cache(self) -> ContentCache {
        self.cache
    }

    /// Opens a file that is what the walk saw.
    pub(super) fn open_file(&self, path: &TreePath, expected: &FileStat) -> Result<File, SourceError> {
        self.access.open_file(path, expected).map(File::from)
    }

    fn start(&mut self) -> Result<(), SourceError> {
        match self.access.fidelity {
            Fidelity::Git => {
                let listing = self.list(None)?;
                self.push_frame(None, listing);
            }
            Fidelity::System => {
                let top = self.access.top().map_err(SourceError::errno("reading", b"."))?;
                let steps = vec![(Step::Report, top)].into_iter();
                self.frames.push(Frame { path: None, steps });
            }
        }
        Ok(())
    }

    /// Reads a directory, leaves out what is excluded or cannot be published, and sorts the rest.
    fn list(&mut self, path: Option<&TreePath>) -> Result<Vec<Listed>, SourceError> {
        let shown = path.map_or(&b""[..], TreePath::as_bytes);
        let all = self.access.list(shown).map_err(SourceError::errno("reading the directory", shown))?;
        let mut kept = Vec::with_capacity(all.len());
        for listed in all {
            let full = join(path, &listed.name);
            let kind = FileType::from_raw_mode(listed.stat.stx_mode.into());
            if listed.name.eq_ignore_ascii_case(b".git") {
                if listed.name != b".git" {
                    self.warnings
                        .push(Warning::Skipped { path: full, what: "it would be taken for a repository" });
                }
            } else if self.exclusions.names(&full, kind == FileType::Directory) {
            } else if let Some(what) = self.unpublishable(kind) {
                self.warnings.push(Warning::Skipped { path: full, what });
            } else {
                kept.push(listed);
            }
        }
        Ok(kept)
    }

    fn unpublishable(&self, kind: FileType) -> Option<&'static str> {
        match (self.access.fidelity, kind) {
            (_, FileType::Unknown) => Some("its type is not known"),
            (Fidelity::System, _) | (_, FileType::RegularFile | FileType::Directory | FileType::Symlink) => {
                None
            }
            (Fidelity::Git, FileType::Socket) => Some("a socket"),
            (Fidelity::Git, FileType::Fifo) => Some("a named pipe"),
            (Fidelity::Git, _) => Some("a device"),
        }
    }

    fn push_frame(&mut self, path: Option<TreePath>, listing: Vec<Listed>) {
        let mut steps = Vec::with_capacity(listing.len());
        for listed in listing {
            if FileType::from_raw_mode(listed.stat.stx_mode.into()) == FileType::Directory {
                let name = listed.name.clone();
                steps.push((Step::Enter, Listed { name, stat: listed.stat, xattrs: Vec::new() }));
            }
            steps.push((Step::Report, listed));
        }
        steps.sort_by(|(a_step, a), (b_step, b)| key(*a_step, a).cmp(key(*b_step, b)));
        self.frames.push(Frame { path, steps: steps.into_iter() });
    }

    /// The entry of a directory; none where what is below it implies it.
    fn directory(&mut self, path: TreePath, listed: Listed) -> Result<Option<SourceEntry>, SourceError> {
        let attributes = match self.access.fidelity {
            Fidelity::System => self.access.attributes(&listed.stat, listed.xattrs),
            Fidelity::Git => {
                let listing = self.list(Some(&path))?;
                let is_empty = listing.is_empty();
                self.ahead.insert(path.clone(), listing);
                if !is_empty {
                    return Ok(None);
                }
                Attributes::Git(GitMode::DIRECTORY)
            }
        };
        Ok(Some(SourceEntry { path, attributes, node: SourceNode::Plain(Node::Directory) }))
    }

    fn entry(&mut self, path: TreePath, listed: Listed) -> Result<Option<SourceEntry>, SourceError> {
        let stat = listed.stat;
        let node = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => return self.directory(path, listed),
            FileType::RegularFile => match self.file(&path, &stat) {
                SourceNode::Plain(node) => {
                    return Ok(Some(SourceEntry {
                        path,
                        attributes: Attributes::System(None),
                        node: SourceNode::Plain(node),
                    }));
                }
                node @ SourceNode::Content { .. } => node,
            },
            FileType::Symlink => {
                let target = self
                    .access
                    .link_target(&path)
                    .map_err(SourceError::errno("reading the link", path.as_bytes()))?;
                SourceNode::Content {
                    is_symlink: true,
                    size: target.len() as u64,
                    handle: Handle::Bytes(target.into()),
                    known: None,
                }
            }
            FileType::CharacterDevice => device(DeviceKind::Character, &stat),
            FileType::BlockDevice => device(DeviceKind::Block, &stat),
            FileType::Socket => SourceNode::Plain(Node::Socket),
            _ => SourceNode::Plain(Node::Fifo),
        };
        Ok(Some(SourceEntry { attributes: self.access.attributes(&stat, listed.xattrs), path, node }))
    }

    fn file(&mut self, path: &TreePath, stat: &Statx) -> SourceNode {
        let numbers = file_stat(stat);
        if stat.stx_nlink > 1 && self.access.fidelity == Fidelity::System {
            if let Some(first) = self.links.get(&(numbers.inode, numbers.device)) {
                return SourceNode::Plain(Node::Hardlink(first.clone()));
            }
            self.links.insert((numbers.inode, numbers.device), path.clone());
        }
        let known = self.cache.file(path, &numbers);
        SourceNode::Content { is_symlink: false, size: numbers.size, handle: Handle::File(numbers), known }
    }
}

impl TreeSource for DirectorySource {
    fn fidelity(&self) -> Fidelity {
        self.access.fidelity
    }

    fn next_entry(&mut self) -> Result<Option<SourceEntry>, SourceError> {
        while let Some(frame) = self.frames.last_mut() {
            let Some((step, listed)) = frame.steps.next() else {
                self.frames.pop();
                continue;
            };
            let path = match (&frame.path, &listed.name[..]) {
                (None, b"") => TreePath::root(),
                (parent, name) => tree_path(join(parent.as_ref(), name))?,
            };
            if step == Step::Enter {
                let listing = match self.ahead.remove(&path) {
                    Some(listing) => listing,
                    None => self.list(Some(&path))?,
                };
                self.push_frame(Some(path), listing);
            } else if path.is_root() {
                let entry = self.directory(path, listed)?;
                let listing = self.list(None)?;
                self.push_frame(None, listing);
                return Ok(entry);
            } else if let Some(entry) = self.entry(path, listed)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn contents(&self) -> Arc<dyn Contents> {
        Arc::clone(&self.access) as Arc<dyn Contents>
    }

    fn remember(&mut self, path: &TreePath, handle: &Handle, known: &Known) {
        if let Handle::File(stat) = handle {
            self.cache.remember_file(path, stat, self.now, known);
        }
    }

    fn expected_tree(&self) -> Option<TreeId> {
        None
    }

    fn known_manifest(&mut self) -> Option<ManifestSummary> {
        None
    }

    fn remember_manifest(&mut self, _manifest: &ManifestSummary) {}

    fn can_begin_again(&self) -> bool {
        self.cache.knows_files()
    }

    fn begin_again(&mut self) -> Result<(), SourceError> {
        self.frames.clear();
        self.ahead.clear();
        self.links.clear();
        self.warnings.clear();
        self.start()
    }

    fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }
}

fn device(kind: DeviceKind, stat: &Statx) -> SourceNode {
    SourceNode::Plain(Node::Device { kind, major: stat.stx_rdev_major, minor: stat.stx_rdev_minor })
}

fn join(parent: Option<&TreePath>, name: &[u8]) -> Vec<u8> {
    match parent {
        Some(parent) => [parent.as_bytes(), b"/", name].concat(),
        None => name.to_vec(),
    }
}

/// The bytes by which a step is sorted among those of its directory.
fn key(step: Step, listed: &Listed) -> impl Iterator<Item = &u8> {
    listed.name.iter().chain((step == Step::Enter).then_some(&b'/'))
}
