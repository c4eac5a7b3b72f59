//! Directories as sources.
//!
//! The walk keeps the names of the directories of one path from the top down, opens everything from the top's
//! handle without following links, and reads no content: a file whose numbers are those of the cache is never
//! opened. A file is checked before and after it is read, and looked at again when it changed.

mod beneath;
mod metadata;

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Statx};
use rustix::io::Errno;
use smart_sync_store::id::TreeId;
use smart_sync_store::manifest::{
    Attributes, DeviceKind, Fidelity, FileTime, GitMode, ManifestSummary, Node, TreePath, Xattr,
};

use super::cache::ContentCache;
use super::{
    ContentReader, Contents, FileStat, Handle, Known, SourceEntry, SourceError, SourceNode, TakeBytes,
    TreeSource, Warning, tree_path,
};
use crate::exclude::Exclusions;
use beneath::{Beneath, bytes_of, file_stat, stat_of, stat_of_handle};
use metadata::{Owners, xattrs_of};

/// The number of bytes that are read at once.
const READ_LEN: usize = 256 << 10;

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

/// What is shared between the walk and the readers of contents.
struct Access {
    beneath: Beneath,
    fidelity: Fidelity,
    owners: Owners,
}

/// Something in a directory that has been read.
struct Listed {
    name: Vec<u8>,
    stat: Statx,
    xattrs: Vec<Xattr>,
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
        let beneath = Beneath::open(path).map_err(SourceError::errno("opening", bytes_of(path)))?;
        let owners = match options.fidelity {
            Fidelity::Git => Owners::default(),
            Fidelity::System => Owners::of_host(),
        };
        let access = Arc::new(Access { beneath, fidelity: options.fidelity, owners });
        let mut source = Self {
            access,
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

impl Access {
    fn top(&self) -> rustix::io::Result<Listed> {
        let handle = self.beneath.directory(b"")?;
        let xattrs = xattrs_of(handle.as_fd(), c".")?;
        Ok(Listed { name: Vec::new(), stat: stat_of_handle(&handle)?, xattrs })
    }

    fn list(&self, path: &[u8]) -> rustix::io::Result<Vec<Listed>> {
        let handle = self.beneath.directory(path)?;
        let mut listing = Vec::new();
        for found in rustix::fs::Dir::read_from(&handle)? {
            let found = found?;
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match self.look(&handle, name) {
                Ok(listed) => listing.push(listed),
                // Removed since the name was read.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listing)
    }

    fn look(&self, directory: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<Listed> {
        let stat = stat_of(directory, name)?;
        let xattrs = match self.fidelity {
            Fidelity::Git => Vec::new(),
            Fidelity::System => xattrs_of(directory.as_fd(), name)?,
        };
        Ok(Listed { name: name.to_bytes().to_vec(), stat, xattrs })
    }

    fn link_target(&self, path: &TreePath) -> rustix::io::Result<Vec<u8>> {
        let (parent, name) = self.beneath.parent(path.as_bytes())?;
        Ok(rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes())
    }

    fn attributes(&self, stat: &Statx, xattrs: Vec<Xattr>) -> Attributes {
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        match self.fidelity {
            Fidelity::System => {
                let metadata = self.owners.metadata(stat, xattrs, kind == FileType::RegularFile);
                Attributes::System(Some(Box::new(metadata)))
            }
            Fidelity::Git if kind == FileType::Symlink => Attributes::Git(GitMode::SYMLINK),
            Fidelity::Git if stat.stx_mode & 0o100 != 0 => Attributes::Git(GitMode::EXECUTABLE),
            Fidelity::Git => Attributes::Git(GitMode::FILE),
        }
    }

    fn read_file(
        &self,
        path: &TreePath,
        expected: &FileStat,
        take: TakeBytes<'_>,
    ) -> Result<(), SourceError> {
        let bytes = path.as_bytes();
        let changed = || SourceError::Changed(path.clone());
        let handle = match self.beneath.file(bytes) {
            Ok(handle) => handle,
            // It was there when the directory was read.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => return Err(changed()),
            Err(error) => return Err(SourceError::errno("opening", bytes)(error)),
        };
        let is_as_expected = || -> Result<bool, SourceError> {
            let stat = stat_of_handle(&handle).map_err(SourceError::errno("reading", bytes))?;
            Ok(file_stat(&stat) == *expected)
        };
        if !is_as_expected()? {
            return Err(changed());
        }
        let mut buffer = vec![0; READ_LEN.min(usize::try_from(expected.size).unwrap_or(READ_LEN).max(1))];
        let mut left = expected.size;
        while left > 0 {
            let read = match rustix::io::read(&handle, &mut buffer[..]) {
                Ok(0) => return Err(changed()),
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(SourceError::errno("reading", bytes)(error)),
            };
            left = left.checked_sub(read as u64).ok_or_else(changed)?;
            take(&buffer[..read])?;
        }
        if is_as_expected()? { Ok(()) } else { Err(changed()) }
    }
}

impl Contents for Access {
    fn reader(&self) -> Box<dyn ContentReader + '_> {
        Box::new(self)
    }

    fn look_again(&self, path: &TreePath) -> Result<Option<(Attributes, u64, Handle)>, SourceError> {
        let look = || -> rustix::io::Result<Listed> {
            let (parent, name) = self.beneath.parent(path.as_bytes())?;
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            self.look(&parent, &name)
        };
        let listed = match look() {
            Ok(listed) => listed,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(SourceError::errno("reading", path.as_bytes())(error)),
        };
        if FileType::from_raw_mode(listed.stat.stx_mode.into()) != FileType::RegularFile {
            return Ok(None);
        }
        let numbers = file_stat(&listed.stat);
        Ok(Some((self.attributes(&listed.stat, listed.xattrs), numbers.size, Handle::File(numbers))))
    }
}

impl ContentReader for &Access {
    fn read(&mut self, path: &TreePath, handle: &Handle, take: TakeBytes<'_>) -> Result<(), SourceError> {
        match handle {
            Handle::File(stat) => self.read_file(path, stat, take),
            Handle::Bytes(bytes) => take(bytes),
            Handle::Blob(_) | Handle::Spooled { .. } => Ok(()),
        }
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
