//! What a file system says of a file, reduced to what applying decides upon.

use rustix::fs::{FileType, Statx, StatxAttributes};
use smart_sync_store::manifest::entry::FileTime;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Something this program does not know.
    Other,
}

impl FileKind {
    /// As a person calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::CharacterDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::Other => "something unknown",
        }
    }

    pub(super) const fn from_rustix(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::Unknown => Self::Other,
        }
    }

    pub(super) const fn as_rustix(self) -> FileType {
        match self {
            Self::File => FileType::RegularFile,
            Self::Directory => FileType::Directory,
            Self::Symlink => FileType::Symlink,
            Self::CharacterDevice => FileType::CharacterDevice,
            Self::BlockDevice => FileType::BlockDevice,
            Self::Fifo => FileType::Fifo,
            Self::Socket => FileType::Socket,
            Self::Other => FileType::Unknown,
        }
    }
}

/// What a file system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has.
    pub links: u32,
    /// Number of bytes.
    pub size: u64,
    /// Last change of its content.
    pub modified: FileTime,
    /// Last change of anything about it.
    pub changed: FileTime,
    /// Its number in its file system.
    pub inode: u64,
    /// Its file system.
    pub device: (u32, u32),
    /// What a device file stands for.
    pub device_file: (u32, u32),
    /// Whether the file system is told to refuse changes of it, whoever asks.
    pub is_immutable: bool,
}

impl Stat {
    pub(super) fn from_statx(found: &Statx) -> Self {
        let time = |stamp: rustix::fs::StatxTimestamp| FileTime {
            seconds: stamp.tv_sec,
            nanoseconds: stamp.tv_nsec,
        };
        Self {
            kind: FileKind::from_rustix(FileType::from_raw_mode(u32::from(found.stx_mode))),
            mode: u32::from(found.stx_mode) & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            links: found.stx_nlink,
            size: found.stx_size,
            modified: time(found.stx_mtime),
            changed: time(found.stx_ctime),
            inode: found.stx_ino,
            device: (found.stx_dev_major, found.stx_dev_minor),
            device_file: (found.stx_rdev_major, found.stx_rdev_minor),
            is_immutable: found
                .stx_attributes
                .intersects(StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND)),
        }
    }

    /// Whether its owner may execute it.
    pub const fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// By what this very state of the file is recognised.
    pub const fn fingerprint(&self) -> Fingerprint {
        Fingerprint { inode: self.inode, size: self.size, modified: self.modified, changed: self.changed }
    }
}

/// A state of a file as seen from outside: while it is the same, so are content and metadata.
///
/// The device is left out, because some file systems get another number at each boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Its number in its file system.
    pub inode: u64,
    /// Number of bytes.
    pub size: u64,
    /// Last change of its content.
    pub modified: FileTime,
    /// Last change of anything about it.
    pub changed: FileTime,
}

impl Fingerprint {
    /// Whether this is the same file with the same content, renamed or with other permissions at most.
    pub fn has_content_of(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified) == (other.inode, other.size, other.modified)
    }

    /// Whether the file was certainly left alone since `moment`, a time before it was looked at.
    ///
    /// A clock tick has room for two changes. A file whose times are not older than the moment it was looked at
    /// may have changed again within the same tick, with nothing to show for it. Where times have no fraction
    /// of a second the file system may count in steps of up to two seconds, as FAT does.
    pub fn is_settled_before(&self, moment: FileTime) -> bool {
        [self.modified, self.changed].into_iter().all(|time| {
            if time.nanoseconds == 0 {
                time.seconds.saturating_add(2) < moment.seconds
            } else {
                time < moment
            }
        })
    }
}
