//! From what was applied, what is wanted and what is there, to what has to be done.
//!
//! Planning reads two manifests and a scan, and touches nothing: a plan is data that can be printed, checked and
//! then carried out. What it knows of the host's files comes down to one rule: a file is replaced or deleted
//! without a trace only if it is, to the inode and the nanosecond, the one that an earlier version of ours left
//! there; whatever else stands where something has to go is first moved to the backup, and what stands elsewhere
//! is not touched.

mod build;
mod check;
mod renamed;
mod show;

use std::borrow::Borrow;
use std::fmt;
use std::path::PathBuf;

use smart_sync_store::manifest::entry::{Content, Entry, FileTime, Node};
use smart_sync_store::manifest::path::{Shown, TreePath};

pub(super) use check::NAME_BYTES_MAX;

use super::error::ApplyError;
use super::metadata::{Metadata, Owners};
use super::scan::{Excluded, Scan};
use super::stat::{FileKind, Fingerprint};

/// What a file takes room in.
const BLOCK_BYTES: u64 = 4096;

/// What the host allows a manifest to do.
#[expect(clippy::struct_excessive_bools, reason = "each is a permission of its own, off by default")]
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Apply also what the target's exclusions cover.
    pub allows_excluded: bool,
    /// Set-id bits.
    pub allows_set_id: bool,
    /// Block and character devices.
    pub allows_devices: bool,
    /// Named pipes and sockets.
    pub allows_pipes_and_sockets: bool,
    /// Extended attributes outside of `user.`: capabilities, access control lists, labels.
    pub allows_system_xattrs: bool,
    /// Files whose mode the manifest leaves open cannot be written to by anybody: they are those of other versions too.
    pub makes_read_only: bool,
    /// The owners of this host, if owners are to be restored; files belong to who applies them otherwise.
    pub owners: Option<Owners>,
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// What the target holds; it has to have been [examined](Scan::examine) with the wanted entries.
    pub scan: &'a Scan,
    /// What the host keeps to itself.
    pub excluded: Excluded<'a>,
    /// What the manifest may do.
    pub policy: &'a Policy,
    /// The time that files which are written get with `git` fidelity.
    pub now: FileTime,
}

/// Why a tree cannot be applied here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Problem {
    /// A name that the file system has no room for.
    #[error("{0}: a name is longer than the {1} bytes that the file system allows")]
    NameTooLong(TreePath, u64),
    /// A name that the file system refuses or changes.
    #[error("{}: the file system of the target cannot hold this name", Shown(.0))]
    NameRefused(Box<[u8]>),
    /// Two names that the file system takes for one.
    #[error("{0}: the file system of the target takes its name for that of another path beside it")]
    Collision(TreePath),
    /// The name of our own staging directory.
    #[error("{0}: the name is used for staging")]
    Reserved(TreePath),
    /// A name that belongs to the file system.
    #[error("{0}: the name belongs to the file system of the target")]
    ReservedBySystem(TreePath),
    /// A set-id bit.
    #[error("{0}: set-user-id or set-group-id, which this target does not allow")]
    SetId(TreePath),
    /// A device.
    #[error("{0}: a device, which this target does not allow")]
    Device(TreePath),
    /// A pipe or socket.
    #[error("{0}: a named pipe or socket, which this target does not allow")]
    PipeOrSocket(TreePath),
    /// An extended attribute of the system.
    #[error("{path}: the extended attribute {}, which this target does not allow", Shown(.name))]
    SystemXattr {
        /// Whose.
        path: TreePath,
        /// Which.
        name: Box<[u8]>,
    },
    /// A link target that no symbolic link can have.
    #[error("{0}: the target of the symbolic link is empty or too long")]
    LinkTarget(TreePath),
    /// A hard link to something that is not an earlier file of the same tree.
    #[error("{0}: a hard link to what is not a file of this tree")]
    HardlinkTarget(TreePath),
    /// A path of the host's own stands in the way.
    #[error("{}: excluded from syncing, and in the way of {}", Shown(.0), Shown(.1))]
    ExcludedInTheWay(Box<[u8]>, Box<[u8]>),
    /// Something that an overlay does not do.
    #[error("{}: {}", Shown(.0), .1)]
    NotForOverlay(Box<[u8]>, &'static str),
    /// A symbolic link that stands where the tree has a directory.
    #[error("{}: a symbolic link, which is not followed; publish the path that it stands for", Shown(.0))]
    ThroughLink(Box<[u8]>),
    /// A path at which somebody else placed something.
    #[error("{}: {} placed something there", Shown(.0), .1)]
    PlacedByAnother(Box<[u8]>, Box<str>),
    /// A path in a directory that something else is responsible for.
    #[error("{}: it lies in {}, which an overlay leaves alone", Shown(.0), .1.display())]
    InAnother(Box<[u8]>, PathBuf),
    /// Another file system is mounted below the target.
    #[error("{}: another file system is mounted there, and nothing can be moved into it at once", Shown(.0))]
    OtherFileSystem(Box<[u8]>),
    /// The file system has no symbolic links.
    #[error("the file system of the target has no symbolic links")]
    NoSymlinks,
    /// The file system is read-only.
    #[error("the target is on a file system that is mounted read-only")]
    ReadOnly,
    /// No right to write.
    #[error("{}: no permission to write there", Place(.0))]
    NotWritable(Box<[u8]>),
    /// Protected against everybody.
    #[error("{}: marked immutable or append-only (see lsattr)", Place(.0))]
    Immutable(Box<[u8]>),
    /// Not enough room.
    #[error("{needed} bytes are needed and {free} are free in the file system of the target")]
    Space {
        /// Bytes that staging takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Not enough inodes.
    #[error("{needed} inodes are needed and {free} are free in the file system of the target")]
    Inodes {
        /// Files and directories that staging makes.
        needed: u64,
        /// Inodes that are free.
        free: u64,
    },
}

/// A path, or the directory that all paths begin in.
struct Place<'a>(&'a [u8]);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("the target itself") } else { Shown(self.0).fmt(f) }
    }
}

/// What stands where something is to be done, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Displaced {
    /// Nothing stands there.
    Nothing,
    /// A file as we left it; it goes.
    Ours(Box<Fingerprint>),
    /// Something of the host's; it goes to the backup.
    Local,
    /// Something of the host's that the ledger keeps, and gives back when it is asked to.
    Former,
}

impl Displaced {
    pub(super) const fn expected(&self) -> Option<Fingerprint> {
        match self {
            Self::Ours(fingerprint) => Some(**fingerprint),
            Self::Nothing | Self::Local | Self::Former => None,
        }
    }
}

/// What is done to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file, symbolic link or special file is made, beside the tree, and moved there.
    Put(Node, Metadata),
    /// A file gets another name.
    Link(TreePath),
    /// A directory is made.
    MakeDirectory(u32),
    /// A file, as it is, gets other metadata.
    SetMetadata(FileKind, Metadata),
    /// A file that is no longer wanted goes.
    Delete,
    /// What is not a directory makes way for one, or goes before the directory it is in does.
    Clear,
    /// A directory makes way for something else: if anything is left in it, it goes to the backup.
    MakeRoom,
    /// A directory that is no longer wanted goes if it is empty.
    RemoveDirectory,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Where.
    pub path: Box<[u8]>,
    /// What.
    pub change: Change,
    /// What becomes of what stands there.
    pub displaced: Displaced,
}

/// A content that has to be staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub content: Content,
    /// How many files are made of it.
    pub uses: usize,
    /// Whether its holes, if it has any, are kept as holes.
    pub is_sparse: bool,
    /// The mode of the first of these files, unless it is to be set after its owner.
    pub mode: Option<u32>,
    /// The time of the last change of the first of these files, where it is set.
    pub modified: Option<FileTime>,
    /// A file of the target that has it, to be copied instead of fetched.
    pub local: Option<Box<[u8]>>,
    /// A file of the target that it replaces, or that goes where it comes, and is likely to share bytes with.
    pub former: Option<Box<[u8]>>,
}

/// Everything that has to be done to a target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplyPlan {
    /// What is done, in the order of doing it.
    pub actions: Vec<Action>,
    /// Contents to stage, in the order of the first path that wants each.
    pub needs: Vec<Need>,
    /// Wanted paths that the exclusions cover.
    pub left_out: Vec<TreePath>,
    /// Paths that go and at which an overlay gives back what stood there before.
    pub given_back: Vec<Box<[u8]>>,
    /// Why it cannot be done, if it cannot.
    pub problems: Vec<Problem>,
    /// How many wanted paths stay as they are.
    pub unchanged: usize,
    /// Bytes that staging takes.
    pub bytes: u64,
    /// Files and directories that are made.
    pub inodes: u64,
}

impl ApplyPlan {
    /// Whether the target is already what is wanted.
    pub const fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Takes contents that are staged already out of what is needed.
    pub fn count_staged(
        &mut self,
        is_staged: impl Fn(&Content) -> Result<bool, ApplyError>,
    ) -> Result<(), ApplyError> {
        for need in &self.needs {
            if is_staged(&need.content)? {
                self.bytes = self.bytes.saturating_sub(need.content.size.next_multiple_of(BLOCK_BYTES));
                self.inodes = self.inodes.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// The paths of the host's own changes that will be moved to the backup.
    pub fn backups(&self) -> impl Iterator<Item = &[u8]> {
        self.actions.iter().filter(|action| action.displaced == Displaced::Local).map(|action| &*action.path)
    }

    /// What has to come from elsewhere.
    pub fn fetches(&self) -> impl Iterator<Item = &Need> {
        self.needs.iter().filter(|need| need.local.is_none())
    }
}

/// Makes the plan that turns the target into the wanted tree.
///
/// Both manifests are read once, in the order of their paths. `applied` has no entries if nothing was applied yet.
pub fn plan<A: Borrow<Entry>, W: Borrow<Entry>>(
    applied: impl IntoIterator<Item = A>,
    wanted: impl IntoIterator<Item = W>,
    input: &PlanInput<'_>,
) -> Result<ApplyPlan, ApplyError> {
    build::build(applied.into_iter(), wanted.into_iter(), input)
}
