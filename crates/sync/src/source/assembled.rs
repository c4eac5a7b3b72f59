//! A tree that is put together: of files of a directory, of files that are made for it, and of entries of a tree that
//! was published before.
//!
//! What is published need not be what lies in a directory: an index is made of the files there, one is published under
//! another name, and what somebody else has published stays without being on this host. What was found out about a
//! file holds for its bytes at that moment, so a file that changes afterwards is not published.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;

use smart_sync_store::content::name_content;
use smart_sync_store::id::TreeId;
use smart_sync_store::manifest::{Attributes, Content, Fidelity, GitMode, ManifestSummary, TreePath};

use super::cache::ContentCache;
use super::directory::DirectorySource;
use super::{
    ContentReader, Contents, FileStat, Handle, Known, SourceEntry, SourceError, SourceNode, TakeBytes,
    TreeSource, Warning,
};

/// What a tree is put together of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A file of the directory.
    File(TreePath),
    /// Bytes that were made for it.
    Made(Box<[u8]>),
    /// What the place that is published to has already.
    Published(Content),
}

/// A directory whose files become a tree.
pub struct AssembledSource {
    directory: DirectorySource,
    /// The regular files of the directory.
    files: BTreeMap<TreePath, (FileStat, Option<Known>)>,
    warnings: Vec<Warning>,
    entries: Vec<SourceEntry>,
    /// Where the files of the tree are in the directory, as far as they are somewhere else there.
    elsewhere: Arc<HashMap<TreePath, TreePath>>,
    given: usize,
}

impl AssembledSource {
    /// Goes through a directory, of the fidelity of git, and takes nothing of it yet.
    pub fn read(mut directory: DirectorySource) -> Result<Self, SourceError> {
        let mut files = BTreeMap::new();
        let mut warnings = Vec::new();
        while let Some(entry) = directory.next_entry()? {
            match entry.node {
                SourceNode::Content { is_symlink: false, handle: Handle::File(stat), known, .. } => {
                    files.insert(entry.path, (stat, known));
                }
                SourceNode::Content { .. } => {
                    let path = entry.path.as_bytes().to_vec();
                    warnings.push(Warning::Skipped { path, what: "a symbolic link" });
                }
                SourceNode::Plain(_) => {}
            }
        }
        warnings.append(&mut directory.take_warnings());
        let elsewhere = Arc::default();
        Ok(Self { directory, files, warnings, entries: Vec::new(), elsewhere, given: 0 })
    }

    /// The files of the directory.
    pub fn files(&self) -> impl Iterator<Item = (&TreePath, &FileStat)> {
        self.files.iter().map(|(path, (stat, _))| (path, stat))
    }

    /// Opens a file of the directory to look into it.
    pub fn open(&self, path: &TreePath) -> Result<File, SourceError> {
        let (stat, _) = self.files.get(path).ok_or_else(|| SourceError::Changed(path.clone()))?;
        self.directory.open_file(path, stat)
    }

    /// Says what the tree is: each path once.
    pub fn assemble(&mut self, parts: BTreeMap<TreePath, Part>) -> Result<(), SourceError> {
        let mut elsewhere = HashMap::new();
        let mut entries = Vec::with_capacity(parts.len());
        for (path, part) in parts {
            let node = match part {
                Part::File(source) => {
                    let (stat, known) =
                        *self.files.get(&source).ok_or_else(|| SourceError::Changed(source.clone()))?;
                    if source != path {
                        elsewhere.insert(path.clone(), source);
                    }
                    SourceNode::Content {
                        is_symlink: false,
                        size: stat.size,
                        handle: Handle::File(stat),
                        known,
                    }
                }
                Part::Made(bytes) => SourceNode::Content {
                    is_symlink: false,
                    size: bytes.len() as u64,
                    known: Some(Known { content: name_content(&bytes), is_lfs_pointer: false }),
                    handle: Handle::Bytes(bytes),
                },
                Part::Published(content) => SourceNode::Content {
                    is_symlink: false,
                    size: content.size,
                    handle: Handle::Published,
                    known: Some(Known { content, is_lfs_pointer: false }),
                },
            };
            entries.push(SourceEntry { path, attributes: Attributes::Git(GitMode::FILE), node });
        }
        (self.entries, self.elsewhere, self.given) = (entries, Arc::new(elsewhere), 0);
        Ok(())
    }

    /// What is remembered, for the next publication.
    pub fn into_cache(self) -> ContentCache {
        self.directory.into_cache()
    }
}

impl TreeSource for AssembledSource {
    fn fidelity(&self) -> Fidelity {
        Fidelity::Git
    }

    fn next_entry(&mut self) -> Result<Option<SourceEntry>, SourceError> {
        let next = self.entries.get(self.given).cloned();
        self.given += usize::from(next.is_some());
        Ok(next)
    }

    fn contents(&self) -> Arc<dyn Contents> {
        Arc::new(AssembledContents {
            directory: self.directory.contents(),
            elsewhere: Arc::clone(&self.elsewhere),
        })
    }

    fn remember(&mut self, path: &TreePath, handle: &Handle, known: &Known) {
        let path = self.elsewhere.get(path).unwrap_or(path);
        self.directory.remember(path, handle, known);
    }

    fn expected_tree(&self) -> Option<TreeId> {
        None
    }

    fn known_manifest(&mut self) -> Option<ManifestSummary> {
        None
    }

    fn remember_manifest(&mut self, _manifest: &ManifestSummary) {}

    fn can_begin_again(&self) -> bool {
        true
    }

    fn begin_again(&mut self) -> Result<(), SourceError> {
        self.given = 0;
        Ok(())
    }

    fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }
}

/// The contents of a directory, by the paths under which they are published.
struct AssembledContents {
    directory: Arc<dyn Contents>,
    elsewhere: Arc<HashMap<TreePath, TreePath>>,
}

impl Contents for AssembledContents {
    fn reader(&self) -> Box<dyn ContentReader + '_> {
        Box::new(AssembledReader { directory: self.directory.reader(), elsewhere: &self.elsewhere })
    }

    fn look_again(&self, _path: &TreePath) -> Result<Option<(Attributes, u64, Handle)>, SourceError> {
        Ok(None)
    }
}

struct AssembledReader<'a> {
    directory: Box<dyn ContentReader + 'a>,
    elsewhere: &'a HashMap<TreePath, TreePath>,
}

impl ContentReader for AssembledReader<'_> {
    fn read(&mut self, path: &TreePath, handle: &Handle, take: TakeBytes<'_>) -> Result<(), SourceError> {
        match handle {
            Handle::Bytes(bytes) => take(bytes),
            Handle::Published => Err(SourceError::Lost(path.clone())),
            handle => self.directory.read(self.elsewhere.get(path).unwrap_or(path), handle, take),
        }
    }
}
