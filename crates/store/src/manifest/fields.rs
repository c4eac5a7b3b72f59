//! The fields of an entry after its path, for both fidelities.
//!
//! What may be written is what may be read: [`check_entry`] holds every rule that an entry can break on its own,
//! the writer asks it first, and the reader cannot make an entry that it would refuse.

use super::entry::{
    Attributes, Content, DeviceKind, Entry, Fidelity, FileTime, GitMode, Node, SystemMetadata, Xattr,
};
use super::path::{PATH_BYTES_MAX, TreePath};
use crate::codec::{DecodeError, Reader, put_number, put_prefixed, unzigzag, zigzag};
use crate::content::name_content;
use crate::id::{BlobId, CommitId, ContentId};

/// The longest name of a user, a group or an extended attribute.
pub(super) const NAME_BYTES_MAX: usize = 255;
/// The most extended attributes of one entry.
const XATTRS_MAX: usize = 256;
/// The most bytes that the values of one entry's extended attributes have together.
const XATTR_BYTES_MAX: usize = 128 << 10;
/// The largest mode of a `system` entry: permissions, set-id bits and the sticky bit.
const SYSTEM_MODE_MAX: u64 = 0o7777;
/// One more than the largest number of nanoseconds.
const NANOSECONDS_END: u32 = 1_000_000_000;

const FILE: u8 = 0;
const EXECUTABLE: u8 = 1;
const SYMLINK: u8 = 2;
const SUBMODULE: u8 = 3;
const DIRECTORY: u8 = 4;
const OTHER_MODE: u8 = 5;
const HARDLINK: u8 = 6;
const CHARACTER_DEVICE: u8 = 7;
const BLOCK_DEVICE: u8 = 8;
const FIFO: u8 = 9;
const SOCKET: u8 = 10;

/// Says what is wrong with an entry, if anything is.
pub(super) fn check_entry(entry: &Entry, fidelity: Fidelity) -> Result<(), &'static str> {
    match (fidelity, &entry.attributes) {
        (Fidelity::Git, Attributes::Git(mode)) => check_git(entry, *mode),
        (Fidelity::System, Attributes::System(metadata)) => check_system(entry, metadata.as_deref()),
        _ => Err("its attributes are not of the manifest's fidelity"),
    }
}

fn check_git(entry: &Entry, mode: GitMode) -> Result<(), &'static str> {
    if entry.path.is_root() {
        return Err("a tree of git has no entry for itself");
    }
    let agrees = match entry.node {
        Node::File(_) => mode.is_file(),
        Node::Symlink(_) => mode.is_symlink(),
        Node::Directory => mode.is_directory(),
        Node::Submodule(_) => mode.is_submodule(),
        _ => return Err("git has no such kind of entry"),
    };
    if agrees { Ok(()) } else { Err("its mode is not of its kind") }
}

fn check_system(entry: &Entry, metadata: Option<&SystemMetadata>) -> Result<(), &'static str> {
    let metadata = match (&entry.node, metadata) {
        (Node::Submodule(_), _) => return Err("a file system has no submodules"),
        (Node::Hardlink(target), None) => return check_hardlink(&entry.path, target),
        (Node::Hardlink(_), Some(_)) => return Err("a hard link has no metadata of its own"),
        (_, None) => return Err("its metadata is missing"),
        (_, Some(metadata)) => metadata,
    };
    if entry.path.is_root() && entry.node != Node::Directory {
        return Err("the tree itself is not a directory");
    }
    if metadata.is_sparse && !matches!(entry.node, Node::File(_)) {
        return Err("only files have holes");
    }
    check_metadata(metadata)
}

fn check_hardlink(path: &TreePath, target: &TreePath) -> Result<(), &'static str> {
    if target.is_root() || target >= path { Err("a hard link names no earlier entry") } else { Ok(()) }
}

fn check_metadata(metadata: &SystemMetadata) -> Result<(), &'static str> {
    if u64::from(metadata.mode) > SYSTEM_MODE_MAX {
        return Err("its mode has more than twelve bits");
    }
    if metadata.user.len() > NAME_BYTES_MAX || metadata.group.len() > NAME_BYTES_MAX {
        return Err("the name of its owner is longer than 255 bytes");
    }
    if metadata.modified.nanoseconds >= NANOSECONDS_END {
        return Err("its time has a second or more of nanoseconds");
    }
    check_xattrs(&metadata.xattrs)
}

fn check_xattrs(xattrs: &[Xattr]) -> Result<(), &'static str> {
    if xattrs.len() > XATTRS_MAX {
        return Err("it has more than 256 extended attributes");
    }
    if xattrs.iter().any(|xattr| xattr.name.len() > NAME_BYTES_MAX) {
        return Err("the name of an extended attribute is longer than 255 bytes");
    }
    if xattrs.iter().map(|xattr| xattr.value.len()).sum::<usize>() > XATTR_BYTES_MAX {
        return Err("its extended attributes are larger than 128 KiB");
    }
    if !xattrs.is_sorted_by(|a, b| a.name < b.name) {
        return Err("its extended attributes are not strictly sorted by name");
    }
    Ok(())
}

/// Appends the kind and the fields of an entry that [`check_entry`] has accepted.
pub(super) fn put_fields(out: &mut Vec<u8>, entry: &Entry) {
    put_fields_with(out, entry, &mut put_content);
}

/// Appends the kind and the fields of an entry whose content is written as the caller writes it.
pub fn put_fields_with(out: &mut Vec<u8>, entry: &Entry, put: &mut dyn FnMut(&mut Vec<u8>, &Content)) {
    match &entry.attributes {
        Attributes::Git(mode) => put_git(out, &entry.node, *mode, put),
        Attributes::System(metadata) => put_system(out, &entry.node, metadata.as_deref(), put),
    }
}

fn put_git(out: &mut Vec<u8>, node: &Node, mode: GitMode, put: &mut dyn FnMut(&mut Vec<u8>, &Content)) {
    match mode {
        GitMode::FILE => out.push(FILE),
        GitMode::EXECUTABLE => out.push(EXECUTABLE),
        GitMode::SYMLINK => out.push(SYMLINK),
        GitMode::SUBMODULE => out.push(SUBMODULE),
        GitMode::DIRECTORY => out.push(DIRECTORY),
        other => {
            out.push(OTHER_MODE);
            put_number(out, u64::from(other.bits()));
        }
    }
    match node {
        Node::File(content) | Node::Symlink(content) => put(out, content),
        Node::Submodule(commit) => out.extend_from_slice(commit.as_bytes()),
        _ => {}
    }
}

fn put_system(
    out: &mut Vec<u8>,
    node: &Node,
    metadata: Option<&SystemMetadata>,
    put: &mut dyn FnMut(&mut Vec<u8>, &Content),
) {
    out.push(match node {
        Node::File(_) => FILE,
        Node::Symlink(_) => SYMLINK,
        Node::Directory => DIRECTORY,
        Node::Submodule(_) => SUBMODULE,
        Node::Hardlink(_) => HARDLINK,
        Node::Device { kind: DeviceKind::Character, .. } => CHARACTER_DEVICE,
        Node::Device { kind: DeviceKind::Block, .. } => BLOCK_DEVICE,
        Node::Fifo => FIFO,
        Node::Socket => SOCKET,
    });
    if let Some(metadata) = metadata {
        put_metadata(out, metadata);
    }
    match node {
        Node::File(content) => {
            out.push(u8::from(metadata.is_some_and(|metadata| metadata.is_sparse)));
            put(out, content);
        }
        Node::Symlink(content) => put(out, content),
        Node::Hardlink(target) => put_prefixed(out, target.as_bytes()),
        Node::Device { major, minor, .. } => {
            put_number(out, u64::from(*major));
            put_number(out, u64::from(*minor));
        }
        _ => {}
    }
}

fn put_content(out: &mut Vec<u8>, content: &Content) {
    put_number(out, content.size);
    out.extend_from_slice(content.blob.as_bytes());
    out.extend_from_slice(content.id.as_bytes());
}

fn put_metadata(out: &mut Vec<u8>, metadata: &SystemMetadata) {
    put_number(out, u64::from(metadata.mode));
    put_number(out, u64::from(metadata.uid));
    put_number(out, u64::from(metadata.gid));
    put_prefixed(out, &metadata.user);
    put_prefixed(out, &metadata.group);
    put_number(out, zigzag(metadata.modified.seconds));
    put_number(out, u64::from(metadata.modified.nanoseconds));
    put_number(out, metadata.xattrs.len() as u64);
    for xattr in &metadata.xattrs {
        put_prefixed(out, &xattr.name);
        put_prefixed(out, &xattr.value);
    }
}

/// Reads the kind and the fields of the entry at `path`.
pub(super) fn read_fields(
    reader: &mut Reader<'_>,
    path: TreePath,
    fidelity: Fidelity,
) -> Result<Entry, DecodeError> {
    read_fields_with(reader, path, fidelity, &mut read_content)
}

/// Reads the kind and the fields of the entry at `path`, whose content is read as the caller reads it.
pub fn read_fields_with(
    reader: &mut Reader<'_>,
    path: TreePath,
    fidelity: Fidelity,
    read: &mut dyn FnMut(&mut Reader<'_>) -> Result<Content, DecodeError>,
) -> Result<Entry, DecodeError> {
    let entry = match fidelity {
        Fidelity::Git => read_git(reader, path, read)?,
        Fidelity::System => read_system(reader, path, read)?,
    };
    match check_entry(&entry, fidelity) {
        Ok(()) => Ok(entry),
        Err(reason) => Err(DecodeError::invalid(format!("entry {}: {reason}", entry.path))),
    }
}

fn read_git(
    reader: &mut Reader<'_>,
    path: TreePath,
    read: &mut dyn FnMut(&mut Reader<'_>) -> Result<Content, DecodeError>,
) -> Result<Entry, DecodeError> {
    let mode = match reader.byte("kind")? {
        FILE => GitMode::FILE,
        EXECUTABLE => GitMode::EXECUTABLE,
        SYMLINK => GitMode::SYMLINK,
        SUBMODULE => GitMode::SUBMODULE,
        DIRECTORY => GitMode::DIRECTORY,
        OTHER_MODE => read_other_mode(reader)?,
        kind => return Err(unknown_kind(&path, kind)),
    };
    let node = if mode.is_file() {
        Node::File(read(reader)?)
    } else if mode.is_symlink() {
        Node::Symlink(read(reader)?)
    } else if mode.is_directory() {
        Node::Directory
    } else {
        Node::Submodule(CommitId::from_bytes(reader.array("commit")?))
    };
    Ok(Entry { path, node, attributes: Attributes::Git(mode) })
}

fn read_other_mode(reader: &mut Reader<'_>) -> Result<GitMode, DecodeError> {
    let mode = read_u32(reader, "mode", GitMode::MAX)?;
    match GitMode::new(mode) {
        Some(
            GitMode::FILE | GitMode::EXECUTABLE | GitMode::SYMLINK | GitMode::SUBMODULE | GitMode::DIRECTORY,
        )
        | None => Err(DecodeError::invalid(format!("mode {mode:o} has a kind of its own"))),
        Some(mode) => Ok(mode),
    }
}

fn read_system(
    reader: &mut Reader<'_>,
    path: TreePath,
    read: &mut dyn FnMut(&mut Reader<'_>) -> Result<Content, DecodeError>,
) -> Result<Entry, DecodeError> {
    let kind = reader.byte("kind")?;
    if kind == HARDLINK {
        let target = reader.prefixed("target of a hard link", PATH_BYTES_MAX)?;
        let target = TreePath::new(target)
            .map_err(|error| DecodeError::invalid(format!("hard link {path}: its target: {error}")))?;
        return Ok(Entry { path, node: Node::Hardlink(target), attributes: Attributes::System(None) });
    }
    if !matches!(kind, FILE | SYMLINK | DIRECTORY | CHARACTER_DEVICE | BLOCK_DEVICE | FIFO | SOCKET) {
        return Err(unknown_kind(&path, kind));
    }
    let mut metadata = read_metadata(reader)?;
    let node = match kind {
        FILE => {
            metadata.is_sparse = reader.number("flags", 1)? == 1;
            Node::File(read(reader)?)
        }
        SYMLINK => Node::Symlink(read(reader)?),
        DIRECTORY => Node::Directory,
        FIFO => Node::Fifo,
        SOCKET => Node::Socket,
        _ => Node::Device {
            kind: if kind == BLOCK_DEVICE { DeviceKind::Block } else { DeviceKind::Character },
            major: read_u32(reader, "major number", u32::MAX)?,
            minor: read_u32(reader, "minor number", u32::MAX)?,
        },
    };
    Ok(Entry { path, node, attributes: Attributes::System(Some(Box::new(metadata))) })
}

fn read_content(reader: &mut Reader<'_>) -> Result<Content, DecodeError> {
    let content = Content {
        size: reader.number("size", u64::MAX)?,
        blob: BlobId::from_bytes(reader.array("blob id")?),
        id: ContentId::from_bytes(reader.array("content id")?),
    };
    // No bytes are never fetched, so nobody would see that they are called something else.
    if content.size == 0 && content != name_content(b"") {
        return Err(DecodeError::invalid("an empty content has another name than no bytes have"));
    }
    Ok(content)
}

fn read_metadata(reader: &mut Reader<'_>) -> Result<SystemMetadata, DecodeError> {
    Ok(SystemMetadata {
        mode: read_u32(reader, "mode", u32::MAX)?,
        uid: read_u32(reader, "uid", u32::MAX)?,
        gid: read_u32(reader, "gid", u32::MAX)?,
        user: reader.prefixed("user", NAME_BYTES_MAX)?.into(),
        group: reader.prefixed("group", NAME_BYTES_MAX)?.into(),
        modified: FileTime {
            seconds: unzigzag(reader.number("seconds", u64::MAX)?),
            nanoseconds: read_u32(reader, "nanoseconds", NANOSECONDS_END - 1)?,
        },
        xattrs: read_xattrs(reader)?,
        is_sparse: false,
    })
}

fn read_xattrs(reader: &mut Reader<'_>) -> Result<Vec<Xattr>, DecodeError> {
    let count = reader.count("number of extended attributes", XATTRS_MAX)?;
    let mut xattrs = Vec::with_capacity(count);
    for _ in 0..count {
        xattrs.push(Xattr {
            name: reader.prefixed("name of an extended attribute", NAME_BYTES_MAX)?.into(),
            value: reader.prefixed("value of an extended attribute", XATTR_BYTES_MAX)?.into(),
        });
    }
    Ok(xattrs)
}

fn read_u32(reader: &mut Reader<'_>, field: &'static str, limit: u32) -> Result<u32, DecodeError> {
    let value = reader.number(field, u64::from(limit))?;
    u32::try_from(value).map_err(|_| DecodeError::BadNumber(field))
}

fn unknown_kind(path: &TreePath, kind: u8) -> DecodeError {
    DecodeError::invalid(format!("entry {path}: unknown kind {kind}"))
}
