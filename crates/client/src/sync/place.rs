//! A target and the directory where its state is kept.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smart_sync_store::id::{ObjectId, to_hex};
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::error::ApplyError;
use smart_sync_sync::apply::run::Target;
use smart_sync_sync::apply::step::Steps;
use smart_sync_sync::apply::versions::{Kind, make_subvolume};
use tempfile::TempDir;

use super::kind;
use crate::failure::{DAMAGED_HINT, Exit, Failure};
use crate::profile::store::PROFILES;
use crate::state_dir::make_private;

/// What is noted of a version of a target, beside its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Label {
    /// The realm, or the address of a repository.
    pub origin: String,
    /// The channel; empty for a repository.
    pub channel: String,
    /// The ref.
    pub r#ref: String,
    /// The number of the publication.
    pub seq: u64,
    /// The commit, where the tree is one of git.
    pub commit: Option<String>,
    /// When it was applied, in seconds since 1970.
    pub applied: u64,
    /// Who had it applied.
    #[serde(default)]
    pub by: String,
}

impl Label {
    /// The label of a version.
    pub fn of(version: &Version) -> Option<Self> {
        serde_json::from_slice(version.label()).ok()
    }

    /// The bytes that are noted.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a label is texts and numbers")
    }
}

/// Who runs this program, and how, as far as the system says so.
pub(crate) fn triggered_by() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    let name = name.unwrap_or_else(|| format!("user {uid}"));
    match (variable("SUDO_USER"), variable("INVOCATION_ID")) {
        (Some(user), _) => format!("{user}, as {name}"),
        (None, Some(_)) => format!("a service, as {name}"),
        (None, None) => name,
    }
}

/// The end of a sync, for programs: what a target holds, and what it took.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "applied")]
pub(super) struct AppliedEvent<'a> {
    /// The directory.
    pub target: &'a str,
    /// What it holds.
    #[serde(flatten)]
    pub label: &'a Label,
    /// The tree, with the name of its hash in front.
    pub manifest: &'a str,
    /// Paths that were made, replaced, changed or deleted.
    pub changes: usize,
    /// Bytes.
    pub received: u64,
    /// Of any kind.
    pub requests: u64,
}

/// A directory that follows a channel, and its state.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory.
    pub target: PathBuf,
    /// What is known of it.
    pub state: PathBuf,
    /// How it is kept.
    pub kind: Kind,
    /// Where it is noted which targets are switched together.
    pub profiles: PathBuf,
    /// What stands in for both until it is dropped.
    _stand_in: Option<Arc<TempDir>>,
}

impl Place {
    /// The place of a target, which is made if its parent is there. What kind it is of is decided once.
    pub fn make(target: &Path, chosen: Option<Kind>, state_dir: &Path) -> Result<Self, Failure> {
        let is_new =
            matches!(target.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound);
        let kind = chosen.unwrap_or_else(|| kind::suited(target));
        if is_new && kind == Kind::Zfs {
            let message = format!("there is no dataset at {}", target.display());
            return Err(Failure::message(Exit::Arguments, message)
                .hint("make it first, as with `zfs create -o mountpoint=DIR POOL/NAME`"));
        }
        if is_new && kind == Kind::Btrfs {
            make_subvolume(target)?;
        } else if is_new {
            fs::create_dir(target).map_err(|error| not_made(target, error))?;
        }
        let mut place = Self::find(target, state_dir)?;
        place.kind = kind::decide(&place, chosen, kind)?;
        Ok(place)
    }

    /// The place of a target to look at. Nothing is made: an empty directory stands in for one that is not there.
    pub fn look(target: &Path, chosen: Option<Kind>, state_dir: &Path) -> Result<Self, Failure> {
        match target.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => {
                let mut place = Self::find(target, state_dir)?;
                // Nothing has to be made of a target that belongs to others.
                if chosen == Some(Kind::Overlay) && kind::is_open(&place.state)? {
                    place.kind = Kind::Overlay;
                }
                return Ok(place);
            }
        }
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent
            .map_or(Ok(()), |parent| parent.metadata().map(drop))
            .map_err(|error| not_made(target, error))?;
        make_private(state_dir)
            .map_err(|error| Failure::from(error).context(format!("making {}", state_dir.display())))?;
        let directory = TempDir::new_in(state_dir).and_then(|directory| {
            let (target, state) = (directory.path().join("target"), directory.path().join("state"));
            fs::create_dir(&target)?;
            make_private(&state)?;
            let profiles = state_dir.join(PROFILES);
            Ok(Self { target, state, kind: Kind::Directory, profiles, _stand_in: Some(Arc::new(directory)) })
        });
        directory.map_err(|error| Failure::from(error).context("making an empty directory to compare with"))
    }

    /// The place of a target that was followed before, if it is still there. Nothing is made.
    pub fn known(target: &Path, state_dir: &Path) -> Option<Self> {
        let target = target.canonicalize().ok().filter(|target| target.is_dir())?;
        let mut place = Self::of(target, state_dir);
        place.kind = kind::noted(&place.state).ok()?.unwrap_or(Kind::Directory);
        place.state.is_dir().then_some(place)
    }

    /// The place of a target that is there.
    pub fn find(target: &Path, state_dir: &Path) -> Result<Self, Failure> {
        let target = target.canonicalize().map_err(|error| {
            Failure::from(error)
                .context(format!("opening the target {}", target.display()))
                .hint("name an existing directory with --target DIR")
        })?;
        if !target.is_dir() {
            let message = format!("the target {} is not a directory", target.display());
            return Err(Failure::message(Exit::Arguments, message).hint("name a directory with --target DIR"));
        }
        let mut place = Self::of(target, state_dir);
        place.kind = kind::noted(&place.state)?.unwrap_or(Kind::Directory);
        if place.target.starts_with(&place.state) || place.state == place.target {
            return Err(Failure::message(Exit::Arguments, "the state directory cannot be a target"));
        }
        make_private(&place.state)
            .map_err(|error| Failure::from(error).context(format!("making {}", place.state.display())))?;
        Ok(place)
    }

    fn of(target: PathBuf, state_dir: &Path) -> Self {
        let id = ObjectId::of(target.as_os_str().as_bytes());
        let name = target.file_name().map_or_else(String::new, |name| plain(name.as_bytes()));
        let state = state_dir.join("targets").join(format!("{name}-{}", to_hex(&id.as_bytes()[..8])));
        let profiles = state_dir.join(PROFILES);
        Self { target, state, kind: Kind::Directory, profiles, _stand_in: None }
    }

    /// The directory of the ledger of this host.
    fn ledger(&self) -> PathBuf {
        ledger_directory(self.state_dir())
    }

    /// The directory that holds all state.
    pub(crate) fn state_dir(&self) -> &Path {
        self.state.ancestors().nth(2).unwrap_or(&self.state)
    }

    /// Directories that an overlay places nothing in, by all their names: those of other targets, and of all state.
    pub(crate) fn leaves_alone(&self, others: &[PathBuf]) -> Vec<PathBuf> {
        let named = others.iter().map(PathBuf::as_path).chain([self.state_dir()]);
        named.flat_map(|path| [Some(path.to_owned()), path.canonicalize().ok()]).flatten().collect()
    }

    /// Opens the target.
    pub fn open(&self) -> Result<Target, Failure> {
        if self.kind == Kind::Overlay {
            let ledger = self.ledger();
            make_private(&ledger)
                .map_err(|error| Failure::from(error).context(format!("making {}", ledger.display())))?;
            return Target::open_overlay(&self.target, &self.state, &ledger, &Steps::default())
                .map_err(Failure::from);
        }
        // The path was resolved: what it leads to is a directory, or was exchanged for a link just now.
        Target::open_as(self.kind, &self.target, &self.state, &Steps::default()).map_err(Failure::from)
    }
}

/// The directory of the ledger of a host.
pub(crate) fn ledger_directory(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger")
}

/// Only the last part of a target is made: a slip of the pen must not make a tree of directories.
fn not_made(target: &Path, error: io::Error) -> Failure {
    let is_absent = error.kind() == io::ErrorKind::NotFound;
    let failure = Failure::from(error).context(format!("making the target {}", target.display()));
    if is_absent {
        failure.hint("make the directories above it first, or name another target with --target DIR")
    } else {
        failure
    }
}

/// The letters of a name that mean nothing anywhere.
fn plain(name: &[u8]) -> String {
    name.iter()
        .take(40)
        .map(|byte| char::from(*byte))
        .filter(|character| character.is_ascii_alphanumeric() || "._-".contains(*character))
        .collect()
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let exit = match (&error, error.io_kind()) {
            (_, Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)) => {
                Exit::Permission
            }
            (ApplyError::WrongContent { .. }, _) => Exit::Refused,
            (ApplyError::MissingProgram(_), _) => Exit::MissingDependency,
            (ApplyError::NotForVersions { .. } | ApplyError::NoVersion(_), _) => Exit::Arguments,
            _ => Exit::General,
        };
        let hint = match error {
            ApplyError::WrongContent { .. } => Some(DAMAGED_HINT),
            ApplyError::Locked(_) | ApplyError::ChangedMeanwhile(_) => {
                Some("wait for it to end, and run this again")
            }
            ApplyError::MountedBelow(_) => Some("unmount it, run this again, and mount it afterwards"),
            ApplyError::MissingProgram("zfs") => {
                Some("install it; it is in the package zfsutils-linux, on Gentoo in sys-fs/zfs")
            }
            ApplyError::MissingProgram(_) => Some("install it; that of btrfs is in the package btrfs-progs"),
            ApplyError::HeldSnapshot { .. } => Some(
                "`zfs holds` and `zfs release` are for who made that hold; or keep the version with `smart-sync pin`",
            ),
            ApplyError::NotForVersions { .. } => {
                Some("name another directory with --target, or keep this one in place with --kind directory")
            }
            ApplyError::PlacedByAnother { .. } => Some(
                "`smart-sync ledger list` says who placed what; one of the two has to leave the path out",
            ),
            ApplyError::BehindLink { .. } | ApplyError::InTheWay { .. } => {
                Some("move what is named here out of the way, or have the path left out of what is published")
            }
            ApplyError::LostContent { .. } => Some(
                "`smart-sync ledger verify` lists what is lost; put the file back from a backup of your own",
            ),
            ApplyError::NoVersion(_) => Some("`smart-sync generations` lists those that are kept"),
            _ => None,
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
