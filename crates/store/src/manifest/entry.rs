//! What a manifest says of one path.

use super::path::TreePath;
use crate::id::{BlobId, CommitId, ContentId};

/// How much of a file's metadata a manifest keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fidelity {
    /// What git keeps: names, contents, the executable bit, symbolic links, submodules.
    Git,
    /// What a system backup keeps: modes, owners, times, extended attributes, hard links, devices.
    System,
}

/// The names and the size of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Content {
    /// Number of bytes.
    pub size: u64,
    /// What git calls it.
    pub blob: BlobId,
    /// What trust rests on, and where it is stored under.
    pub id: ContentId,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A regular file.
    File(Content),
    /// A symbolic link; its target is kept as a content, as git does, because git bounds neither.
    Symlink(Content),
    /// A directory. A `git` manifest names one only where its files do not imply it: an empty one, or one with
    /// an unusual mode.
    Directory,
    /// A commit of another repository (`git` only).
    Submodule(CommitId),
    /// Another name of the file at this earlier path (`system` only).
    Hardlink(TreePath),
    /// A device (`system` only).
    Device {
        /// Block or character.
        kind: DeviceKind,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe (`system` only).
    Fifo,
    /// A socket (`system` only).
    Socket,
}

/// The two kinds of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A stream of bytes, such as a terminal.
    Character,
    /// A disk.
    Block,
}

/// A mode as it stands in a git tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitMode(u32);

impl GitMode {
    /// A file.
    pub const FILE: Self = Self(0o100_644);
    /// A file that may be executed.
    pub const EXECUTABLE: Self = Self(0o100_755);
    /// A symbolic link.
    pub const SYMLINK: Self = Self(0o120_000);
    /// A submodule.
    pub const SUBMODULE: Self = Self(0o160_000);
    /// A directory.
    pub const DIRECTORY: Self = Self(0o040_000);

    /// The largest mode that is accepted: six octal digits.
    pub const MAX: u32 = 0o777_777;

    /// Takes a mode as found in a tree. Old repositories hold unusual ones, such as 100664, and the id of a tree
    /// depends on them.
    pub const fn new(mode: u32) -> Option<Self> {
        if mode <= Self::MAX { Some(Self(mode)) } else { None }
    }

    /// The number.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether git takes this for a directory.
    pub const fn is_directory(self) -> bool {
        self.0 & 0o170_000 == 0o040_000
    }

    /// Whether git takes this for a symbolic link.
    pub const fn is_symlink(self) -> bool {
        self.0 & 0o170_000 == 0o120_000
    }

    /// Whether git takes this for a file.
    pub const fn is_file(self) -> bool {
        self.0 & 0o170_000 == 0o100_000
    }

    /// Whether git takes this for a submodule: it does so with every type that is no other.
    pub const fn is_submodule(self) -> bool {
        !self.is_file() && !self.is_symlink() && !self.is_directory()
    }

    /// Whether the file may be executed by its owner.
    pub const fn is_executable(self) -> bool {
        self.0 & 0o100 != 0
    }
}

/// A point in time as a file system keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below one thousand million.
    pub nanoseconds: u32,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// Its name, with the name space: `user.comment`.
    pub name: Box<[u8]>,
    /// Its value.
    pub value: Box<[u8]>,
}

/// What a `system` manifest keeps beside the content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SystemMetadata {
    /// Permission bits, set-id bits and the sticky bit: twelve bits.
    pub mode: u32,
    /// Owner by number.
    pub uid: u32,
    /// Group by number.
    pub gid: u32,
    /// Owner by name, which wins over the number on a host that knows it; empty where unknown.
    pub user: Box<[u8]>,
    /// Group by name; empty where unknown.
    pub group: Box<[u8]>,
    /// Last change of the content.
    pub modified: FileTime,
    /// Extended attributes in the order of their names.
    pub xattrs: Vec<Xattr>,
    /// Whether the file had holes.
    pub is_sparse: bool,
}

/// The metadata of an entry, of the fidelity of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// The mode that git has.
    Git(GitMode),
    /// Everything. A hard link has the metadata of what it links to, and so none of its own.
    System(Option<Box<SystemMetadata>>),
}

/// What a manifest says of one path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where it is.
    pub path: TreePath,
    /// What it is.
    pub node: Node,
    /// Its metadata.
    pub attributes: Attributes,
}

impl Entry {
    /// The content that has to be at hand to make this entry.
    pub const fn content(&self) -> Option<&Content> {
        match &self.node {
            Node::File(content) | Node::Symlink(content) => Some(content),
            _ => None,
        }
    }
}
