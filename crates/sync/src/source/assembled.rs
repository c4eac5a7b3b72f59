//! A tree that is put together: of files of a directory, of what is in archives there, of files that are made for it, in
//! memory or in another directory, and of entries of a tree that was published before.
//!
//! What is published need not be what lies in a directory: an index is made of the files there, one is published under
//! another name, and what somebody else has published stays without being on this host. What was found out about a
//! file holds for its bytes at that moment, so a file that changes afterwards is not published.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use smart_sync_store::content::name_content;
use smart_sync_store::id::TreeId;
use smart_sync_store::manifest::{Attributes, Content, Fidelity, GitMode, ManifestSummary, TreePath};

use super::cache::ContentCache;
use super::directory::DirectorySource;
use super::tar::{TarError, read_spooled, spool_file};
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
    /// What was [put aside](AssembledSource::put_aside).
    Aside {
        /// Where it begins.
        offset: u64,
        /// Its number of bytes.
        len: u64,
    },
    /// A file that was made for it in the directory beside.
    Beside(TreePath),
    /// What the place that is published to has already.
    Published(Content),
}

/// The number of bytes that are read or put aside at once.
const PIECE_LEN: usize = 256 << 10;

/// The regular files of a directory, and what is known of them.
type Files = BTreeMap<TreePath, (FileStat, Option<Known>)>;

/// A directory whose files become a tree.
pub struct AssembledSource {
    /// None where nothing of a directory is taken.
    directory: Option<DirectorySource>,
    aside: Aside,
    /// The regular files of the directory.
    files: Files,
    /// Where files are that were made for the tree.
    beside: Option<(DirectorySource, Files)>,
    warnings: Vec<Warning>,
    entries: Vec<SourceEntry>,
    /// Where the files of the tree are, as far as they are not at their own paths in the directory.
    elsewhere: Arc<HashMap<TreePath, Place>>,
    given: usize,
}

/// What was taken out of archives: in a file without a name, which goes away when it is closed.
struct Aside {
    /// Where such a file can be made.
    place: PathBuf,
    file: Mutex<Option<(Arc<File>, u64)>>,
}

/// Where a file of the tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// At another path of the directory.
    Here(TreePath),
    /// In the directory beside.
    Beside(TreePath),
}

impl AssembledSource {
    /// Goes through a directory, of the fidelity of git, and takes nothing of it yet.
    pub fn read(mut directory: DirectorySource) -> Result<Self, SourceError> {
        let (files, mut warnings) = files_of(&mut directory)?;
        warnings.append(&mut directory.take_warnings());
        let aside = Aside { place: std::env::temp_dir(), file: Mutex::default() };
        Ok(Self { files, warnings, ..Self::of(Some(directory), aside) })
    }

    fn of(directory: Option<DirectorySource>, aside: Aside) -> Self {
        Self {
            directory,
            aside,
            files: Files::new(),
            beside: None,
            warnings: Vec::new(),
            entries: Vec::new(),
            elsewhere: Arc::default(),
            given: 0,
        }
    }

    /// Takes files of another directory too, of which nobody is told.
    pub fn add_beside(&mut self, mut directory: DirectorySource) -> Result<(), SourceError> {
        let (files, _) = files_of(&mut directory)?;
        self.beside = Some((directory, files));
        Ok(())
    }

    /// What has to be put aside is put into a file in this directory, in place of one for passing files.
    #[must_use]
    pub fn aside_in(self, place: &Path) -> Self {
        Self { aside: Aside { place: place.to_owned(), file: Mutex::default() }, ..self }
    }

    /// A tree of nothing but what was published before, and what is made for it.
    pub fn without_directory(parts: BTreeMap<TreePath, Part>) -> Result<Self, SourceError> {
        let aside = Aside { place: PathBuf::new(), file: Mutex::default() };
        let mut source = Self::of(None, aside);
        source.assemble(parts)?;
        Ok(source)
    }

    /// The files of the directory.
    pub fn files(&self) -> impl Iterator<Item = (&TreePath, &FileStat)> {
        self.files.iter().map(|(path, (stat, _))| (path, stat))
    }

    /// Takes none of these files, as if the directory did not have them.
    pub fn leave_out(&mut self, paths: &BTreeSet<TreePath>) {
        self.files.retain(|path, _| !paths.contains(path));
    }

    /// Opens a file of the directory to look into it.
    pub fn open(&self, path: &TreePath) -> Result<File, SourceError> {
        let changed = || SourceError::Changed(path.clone());
        let (stat, _) = self.files.get(path).ok_or_else(changed)?;
        self.directory.as_ref().ok_or_else(changed)?.open_file(path, stat)
    }

    /// Shows a file of the directory to its end, which has to be where it was when the directory was gone through.
    pub fn read_through(&self, path: &TreePath, take: &mut dyn FnMut(&[u8])) -> Result<(), SourceError> {
        let mut file = self.open(path)?;
        let (mut buffer, mut size) = (vec![0; PIECE_LEN], 0);
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let path = path.as_bytes().to_vec();
                    return Err(SourceError::Io { operation: "reading", path, source });
                }
            };
            size += read as u64;
            take(&buffer[..read]);
        }
        let is_whole = self.files.get(path).is_some_and(|(stat, _)| stat.size == size);
        if is_whole { Ok(()) } else { Err(SourceError::Changed(path.clone())) }
    }

    /// Puts a content aside: the bytes that `read` gives, until it gives none.
    pub fn put_aside(
        &self,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, TarError>,
    ) -> Result<Part, TarError> {
        let mut aside = self.aside.file.lock().unwrap_or_else(PoisonError::into_inner);
        if aside.is_none() {
            let file = spool_file(&self.aside.place).map_err(TarError::Spool)?;
            *aside = Some((Arc::new(file), 0));
        }
        let Some((file, end)) = aside.as_mut() else { return Ok(Part::Made(Box::default())) };
        let offset = *end;
        let mut piece = vec![0; PIECE_LEN];
        loop {
            let len = read(&mut piece)?;
            if len == 0 {
                return Ok(Part::Aside { offset, len: *end - offset });
            }
            file.write_all_at(&piece[..len], *end).map_err(TarError::Spool)?;
            *end += len as u64;
        }
    }

    /// Says what the tree is: each path once.
    pub fn assemble(&mut self, parts: BTreeMap<TreePath, Part>) -> Result<(), SourceError> {
        let mut elsewhere = HashMap::new();
        let mut entries = Vec::with_capacity(parts.len());
        for (path, part) in parts {
            let node = match part {
                Part::File(source) => {
                    let found = self.files.get(&source).copied();
                    let node = of_file(found.ok_or_else(|| SourceError::Changed(source.clone()))?);
                    if source != path {
                        elsewhere.insert(path.clone(), Place::Here(source));
                    }
                    node
                }
                Part::Beside(source) => {
                    let found = self.beside.as_ref().and_then(|(_, files)| files.get(&source)).copied();
                    let node = of_file(found.ok_or_else(|| SourceError::Changed(source.clone()))?);
                    elsewhere.insert(path.clone(), Place::Beside(source));
                    node
                }
                Part::Made(bytes) => SourceNode::Content {
                    is_symlink: false,
                    size: bytes.len() as u64,
                    known: Some(Known { content: name_content(&bytes), is_lfs_pointer: false }),
                    handle: Handle::Bytes(bytes),
                },
                Part::Aside { offset, len } => SourceNode::Content {
                    is_symlink: false,
                    size: len,
                    handle: Handle::Spooled { offset, len },
                    known: None,
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

    /// What is remembered, for the next publication: of the directory, and of the one beside.
    pub fn into_caches(self) -> (ContentCache, Option<ContentCache>) {
        let known = self.directory.map_or_else(ContentCache::default, DirectorySource::into_cache);
        (known, self.beside.map(|(directory, _)| directory.into_cache()))
    }
}

/// The regular files of a directory, and what is passed over.
fn files_of(directory: &mut DirectorySource) -> Result<(Files, Vec<Warning>), SourceError> {
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
    Ok((files, warnings))
}

fn of_file((stat, known): (FileStat, Option<Known>)) -> SourceNode {
    SourceNode::Content { is_symlink: false, size: stat.size, handle: Handle::File(stat), known }
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
        let aside = self.aside.file.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(AssembledContents {
            directory: self.directory.as_ref().map(DirectorySource::contents),
            beside: self.beside.as_ref().map(|(directory, _)| directory.contents()),
            aside: aside.as_ref().map(|(file, _)| Arc::clone(file)),
            elsewhere: Arc::clone(&self.elsewhere),
        })
    }

    fn remember(&mut self, path: &TreePath, handle: &Handle, known: &Known) {
        if !matches!(handle, Handle::File(_)) {
            return;
        }
        let (directory, path) = match self.elsewhere.get(path) {
            Some(Place::Beside(path)) => (self.beside.as_mut().map(|(directory, _)| directory), path),
            Some(Place::Here(path)) => (self.directory.as_mut(), path),
            None => (self.directory.as_mut(), path),
        };
        if let Some(directory) = directory {
            directory.remember(path, handle, known);
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

/// The contents of the directories and of what was put aside, by the paths under which they are published.
struct AssembledContents {
    directory: Option<Arc<dyn Contents>>,
    beside: Option<Arc<dyn Contents>>,
    aside: Option<Arc<File>>,
    elsewhere: Arc<HashMap<TreePath, Place>>,
}

impl Contents for AssembledContents {
    fn reader(&self) -> Box<dyn ContentReader + '_> {
        let directory = self.directory.as_ref().map(|directory| directory.reader());
        let beside = self.beside.as_ref().map(|contents| contents.reader());
        Box::new(AssembledReader { directory, beside, contents: self })
    }

    fn look_again(&self, _path: &TreePath) -> Result<Option<(Attributes, u64, Handle)>, SourceError> {
        Ok(None)
    }
}

struct AssembledReader<'a> {
    directory: Option<Box<dyn ContentReader + 'a>>,
    beside: Option<Box<dyn ContentReader + 'a>>,
    contents: &'a AssembledContents,
}

impl ContentReader for AssembledReader<'_> {
    fn read(&mut self, path: &TreePath, handle: &Handle, take: TakeBytes<'_>) -> Result<(), SourceError> {
        let lost = || SourceError::Lost(path.clone());
        match handle {
            Handle::Bytes(bytes) => take(bytes),
            Handle::Published => Err(lost()),
            Handle::Spooled { offset, len } => {
                read_spooled(self.contents.aside.as_ref().ok_or_else(lost)?, *offset, *len, take)
            }
            handle => {
                let (directory, path) = match self.contents.elsewhere.get(path) {
                    Some(Place::Beside(path)) => (&mut self.beside, path),
                    Some(Place::Here(path)) => (&mut self.directory, path),
                    None => (&mut self.directory, path),
                };
                directory.as_mut().ok_or_else(lost)?.read(path, handle, take)
            }
        }
    }
}
