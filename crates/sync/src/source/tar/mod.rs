//! Tar streams as sources.
//!
//! Members come in any order and a manifest is sorted, so the contents go to a spool file while the stream is read
//! and the entries are sorted afterwards; only the entries are in memory. Of members with one name the last one
//! counts, as it does when a tar file is extracted.

pub(crate) mod framing;

use std::collections::{BTreeMap, HashMap, hash_map};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use smart_sync_store::id::TreeId;
use smart_sync_store::manifest::{
    Attributes, Fidelity, FileTime, GitMode, ManifestSummary, Node, Shown, SystemMetadata, TreePath,
};

use super::{
    ContentReader, Contents, Handle, Known, SourceEntry, SourceError, SourceNode, TakeBytes, TreeSource,
    Warning,
};
use crate::exclude::Exclusions;
use framing::{Member, MemberKind, Members};

/// The most members of a stream.
const MEMBERS_MAX: usize = 20_000_000;
/// The number of bytes that are copied at once.
const COPY_LEN: usize = 256 << 10;

/// Why a tar stream cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream could not be read.
    #[error("reading the tar stream")]
    Read(#[source] io::Error),
    /// The spool file could not be written or read.
    #[error("spooling the contents of the tar stream")]
    Spool(#[source] io::Error),
    /// The stream is no tar stream, or is cut short.
    #[error("the tar stream is malformed at byte {offset}: {reason}")]
    Malformed {
        /// Where the header of the member begins.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A member that must not be published.
    #[error("tar member {}: {reason}", Shown(name))]
    Member {
        /// Its name.
        name: Vec<u8>,
        /// What is wrong with it.
        reason: String,
    },
    /// More members than a stream may have.
    #[error("the tar stream has more than {MEMBERS_MAX} members")]
    TooMany,
}

/// How a tar stream is published.
#[derive(Debug, Clone)]
pub struct TarOptions {
    /// How much of the metadata is kept.
    pub fidelity: Fidelity,
    /// What is left out.
    pub exclusions: Exclusions,
}

/// A tar stream that was read to its end.
pub struct TarSource {
    fidelity: Fidelity,
    entries: std::vec::IntoIter<SourceEntry>,
    spool: Arc<Spool>,
    warnings: Vec<Warning>,
}

struct Spool(File);

/// Makes a file without a name for the contents of a stream. It goes away when it is closed.
pub fn spool_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Gives a part of such a file to `take`.
pub(super) fn read_spooled(
    spool: &File,
    offset: u64,
    len: u64,
    take: TakeBytes<'_>,
) -> Result<(), SourceError> {
    let mut buffer = vec![0; COPY_LEN.min(usize::try_from(len).unwrap_or(COPY_LEN))];
    let mut at = offset;
    while at < offset + len {
        let piece = buffer.len().min(usize::try_from(offset + len - at).unwrap_or(usize::MAX));
        spool.read_exact_at(&mut buffer[..piece], at).map_err(TarError::Spool)?;
        take(&buffer[..piece])?;
        at += piece as u64;
    }
    Ok(())
}

impl TarSource {
    /// Reads the whole stream, and puts the contents into `spool`.
    pub fn read(input: impl Read, spool: File, options: &TarOptions) -> Result<Self, SourceError> {
        let mut reading =
            Reading { options, spool, spooled: 0, members: BTreeMap::new(), files: 0, warnings: Vec::new() };
        let mut members = Members::new(input);
        while let Some(member) = members.next_member()? {
            reading.take(&mut members, member)?;
        }
        let (entries, warnings) = (reading.members, reading.warnings);
        let entries = match options.fidelity {
            Fidelity::Git => git_entries(&entries),
            Fidelity::System => system_entries(entries),
        };
        Ok(Self {
            fidelity: options.fidelity,
            entries: entries.into_iter(),
            spool: Arc::new(Spool(reading.spool)),
            warnings,
        })
    }
}

/// What is kept of a member.
struct Kept {
    member: Member,
    handle: Handle,
    /// The same for all names of one file.
    file: usize,
}

struct Reading<'a> {
    options: &'a TarOptions,
    spool: File,
    spooled: u64,
    members: BTreeMap<TreePath, Kept>,
    files: usize,
    warnings: Vec<Warning>,
}

impl Reading<'_> {
    fn take(&mut self, members: &mut Members<impl Read>, mut member: Member) -> Result<(), SourceError> {
        let name = std::mem::take(&mut member.name);
        let is_directory = member.kind == MemberKind::Directory;
        if name.split(|byte| *byte == b'/').any(|component| component.eq_ignore_ascii_case(b".git")) {
            self.warnings.push(Warning::Skipped { path: name, what: "it would be taken for a repository" });
            return Ok(());
        }
        let path = member_path(&name, is_directory)?;
        if self.options.exclusions.excludes(&path, is_directory) {
            return Ok(());
        }
        if let Some(what) = self.unpublishable(&member.kind) {
            self.warnings.push(Warning::Skipped { path: name, what });
            return Ok(());
        }
        if path.is_root() && !is_directory {
            return Err(refuse(&name, "it stands for the tree itself and is not a directory").into());
        }
        self.files += 1;
        let mut file = self.files;
        let handle = match &member.kind {
            MemberKind::File => self.spool(members)?,
            MemberKind::Symlink(target) => Handle::Bytes(target.clone().into()),
            MemberKind::Hardlink(target) => {
                // Every later name of a file leads to the file itself, so chains do not arise.
                let target = member_path(target, false)?;
                let Some(kept) = self.members.get(&target) else {
                    return Err(refuse(&name, "it links to a member that did not come before it").into());
                };
                let real = match &kept.member.kind {
                    MemberKind::File => target,
                    MemberKind::Hardlink(real) => member_path(real, false)?,
                    _ => return Err(refuse(&name, "it is a hard link to something that is no file").into()),
                };
                let handle = kept.handle.clone();
                file = kept.file;
                member.kind = MemberKind::Hardlink(real.as_bytes().to_vec());
                handle
            }
            _ => Handle::Bytes(Box::default()),
        };
        self.members.insert(path, Kept { member, handle, file });
        if self.members.len() > MEMBERS_MAX { Err(TarError::TooMany.into()) } else { Ok(()) }
    }

    fn unpublishable(&self, kind: &MemberKind) -> Option<&'static str> {
        match (self.options.fidelity, kind) {
            (Fidelity::Git, MemberKind::Device { .. }) => Some("a device"),
            (Fidelity::Git, MemberKind::Fifo) => Some("a named pipe"),
            _ => None,
        }
    }

    fn spool(&mut self, members: &mut Members<impl Read>) -> Result<Handle, TarError> {
        let offset = self.spooled;
        let mut buffer = vec![0; COPY_LEN];
        loop {
            let len = members.read_body(&mut buffer)?;
            if len == 0 {
                return Ok(Handle::Spooled { offset, len: self.spooled - offset });
            }
            self.spool.write_all(&buffer[..len]).map_err(TarError::Spool)?;
            self.spooled += len as u64;
        }
    }
}

fn refuse(name: &[u8], reason: impl Into<String>) -> TarError {
    TarError::Member { name: name.to_vec(), reason: reason.into() }
}

/// The path that a member's name stands for. What `tar` writes for a tree is understood: `./` in front, and a
/// slash behind a directory.
fn member_path(name: &[u8], is_directory: bool) -> Result<TreePath, TarError> {
    let mut path = name;
    while let Some(rest) = path.strip_prefix(b"./") {
        path = rest;
    }
    if is_directory {
        path = path.strip_suffix(b"/").unwrap_or(path);
    }
    if path == b"." || path.is_empty() && (is_directory || name.starts_with(b"./")) {
        return Ok(TreePath::root());
    }
    TreePath::new(path).map_err(|error| refuse(name, error.to_string()))
}

/// Entries as git would have them: hard links are copies, and directories are there only if they are empty.
fn git_entries(members: &BTreeMap<TreePath, Kept>) -> Vec<SourceEntry> {
    let mut entries = Vec::with_capacity(members.len());
    for (path, kept) in members.iter().filter(|(path, _)| !path.is_root()) {
        let (mode, node) = match &kept.member.kind {
            MemberKind::Directory => {
                let below = [path.as_bytes(), b"/"].concat();
                let first = TreePath::new([path.as_bytes(), b"/\x01"].concat());
                let from = first.unwrap_or_else(|_| path.clone());
                let mut after = members.range(from..).map(|(path, _)| path.as_bytes());
                if after.next().is_some_and(|next| next.starts_with(&below)) {
                    continue;
                }
                (GitMode::DIRECTORY, SourceNode::Plain(Node::Directory))
            }
            MemberKind::Symlink(_) => (GitMode::SYMLINK, content(true, &kept.handle)),
            MemberKind::File | MemberKind::Hardlink(_) if kept.member.mode & 0o100 != 0 => {
                (GitMode::EXECUTABLE, content(false, &kept.handle))
            }
            MemberKind::File | MemberKind::Hardlink(_) => (GitMode::FILE, content(false, &kept.handle)),
            MemberKind::Device { .. } | MemberKind::Fifo => continue,
        };
        entries.push(SourceEntry { path: path.clone(), attributes: Attributes::Git(mode), node });
    }
    entries
}

/// Entries with all their metadata: of the names of one file the least is the file and the others link to it, and
/// directories that the stream does not name are added.
fn system_entries(members: BTreeMap<TreePath, Kept>) -> Vec<SourceEntry> {
    let mut first_names: HashMap<usize, TreePath> = HashMap::new();
    let mut tree: BTreeMap<TreePath, SourceEntry> = BTreeMap::new();
    for (path, kept) in members {
        for directory in parents(&path) {
            tree.entry(directory.clone()).or_insert_with(|| implied_directory(directory));
        }
        let first = match kept.member.kind {
            MemberKind::File | MemberKind::Hardlink(_) => match first_names.entry(kept.file) {
                hash_map::Entry::Occupied(first) => Some(first.get().clone()),
                hash_map::Entry::Vacant(place) => {
                    place.insert(path.clone());
                    None
                }
            },
            _ => None,
        };
        let entry = match first {
            Some(first) => SourceEntry {
                path: path.clone(),
                attributes: Attributes::System(None),
                node: SourceNode::Plain(Node::Hardlink(first)),
            },
            None => system_entry(path.clone(), kept),
        };
        tree.insert(path, entry);
    }
    tree.entry(TreePath::root()).or_insert_with(|| implied_directory(TreePath::root()));
    tree.into_values().collect()
}

fn system_entry(path: TreePath, kept: Kept) -> SourceEntry {
    let member = kept.member;
    let node = match member.kind {
        MemberKind::File | MemberKind::Hardlink(_) => content(false, &kept.handle),
        MemberKind::Symlink(_) => content(true, &kept.handle),
        MemberKind::Directory => SourceNode::Plain(Node::Directory),
        MemberKind::Device { kind, major, minor } => SourceNode::Plain(Node::Device { kind, major, minor }),
        MemberKind::Fifo => SourceNode::Plain(Node::Fifo),
    };
    let metadata = SystemMetadata {
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        user: member.user.into(),
        group: member.group.into(),
        modified: member.modified,
        xattrs: member.xattrs,
        is_sparse: false,
    };
    SourceEntry { path, attributes: Attributes::System(Some(Box::new(metadata))), node }
}

fn content(is_symlink: bool, handle: &Handle) -> SourceNode {
    let size = match handle {
        Handle::Spooled { len, .. } => *len,
        Handle::Bytes(bytes) => bytes.len() as u64,
        Handle::Blob(_) | Handle::File(_) | Handle::Published => 0,
    };
    SourceNode::Content { is_symlink, size, handle: handle.clone(), known: None }
}

/// The directories that a path lies in, from the top down, the tree itself included.
fn parents(path: &TreePath) -> Vec<TreePath> {
    let bytes = path.as_bytes();
    let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| slash);
    slashes.filter_map(|slash| TreePath::new(&bytes[..slash]).ok()).collect()
}

fn implied_directory(path: TreePath) -> SourceEntry {
    let metadata = SystemMetadata {
        mode: 0o755,
        uid: 0,
        gid: 0,
        user: (*b"root").into(),
        group: (*b"root").into(),
        modified: FileTime { seconds: 0, nanoseconds: 0 },
        xattrs: Vec::new(),
        is_sparse: false,
    };
    let attributes = Attributes::System(Some(Box::new(metadata)));
    SourceEntry { path, attributes, node: SourceNode::Plain(Node::Directory) }
}

impl TreeSource for TarSource {
    fn fidelity(&self) -> Fidelity {
        self.fidelity
    }

    fn next_entry(&mut self) -> Result<Option<SourceEntry>, SourceError> {
        Ok(self.entries.next())
    }

    fn contents(&self) -> Arc<dyn Contents> {
        Arc::clone(&self.spool) as Arc<dyn Contents>
    }

    fn remember(&mut self, _path: &TreePath, _handle: &Handle, _known: &Known) {}

    fn expected_tree(&self) -> Option<TreeId> {
        None
    }

    fn known_manifest(&mut self) -> Option<ManifestSummary> {
        None
    }

    fn remember_manifest(&mut self, _manifest: &ManifestSummary) {}

    fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }
}

impl Contents for Spool {
    fn reader(&self) -> Box<dyn ContentReader + '_> {
        Box::new(self)
    }

    fn look_again(&self, _path: &TreePath) -> Result<Option<(Attributes, u64, Handle)>, SourceError> {
        Ok(None)
    }
}

impl ContentReader for &Spool {
    fn read(&mut self, _path: &TreePath, handle: &Handle, take: TakeBytes<'_>) -> Result<(), SourceError> {
        match handle {
            Handle::Bytes(bytes) => take(bytes),
            Handle::Spooled { offset, len } => read_spooled(&self.0, *offset, *len, take),
            Handle::Blob(_) | Handle::File(_) | Handle::Published => Ok(()),
        }
    }
}
