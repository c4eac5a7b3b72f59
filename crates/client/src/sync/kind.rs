//! How a target is kept: in place, or with its versions. It is decided when it is synced for the first time, and noted.

use std::fs;
use std::io;
use std::path::Path;

use smart_sync_sync::apply::versions::{CURRENT, Kind, is_btrfs, is_dataset, is_subvolume};

use super::place::Place;
use crate::failure::{Exit, Failure};
use crate::realm::trust_store::write;

const NOTE: &str = "kind";

/// The kind that a target was noted to be.
pub(super) fn noted(state: &Path) -> Result<Option<Kind>, Failure> {
    let path = state.join(NOTE);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::from(error).context(format!("reading {}", path.display()))),
        Ok(text) => Kind::parse(text.trim()).map(Some).ok_or_else(|| {
            Failure::message(Exit::General, format!("{} does not say a kind of target", path.display())).hint(
                "it was written by a newer smart-sync, or damaged; it says directory, generations, btrfs, zfs or overlay",
            )
        }),
    }
}

/// What the file system offers for a target that is not there, or that nothing was applied to.
pub(super) fn suited(target: &Path) -> Kind {
    if target.join(CURRENT).is_symlink() && target.join("versions").is_dir() {
        return Kind::Generations;
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let can_be_snapshot = match target.symlink_metadata() {
        Ok(_) => is_subvolume(target) && is_same_file_system(target, parent),
        Err(_) => is_btrfs(parent),
    };
    let can_run = |program| rustix::process::geteuid().is_root() && has_program(program);
    if can_be_snapshot && can_run("btrfs") {
        Kind::Btrfs
    } else if is_dataset(target) && can_run("zfs") {
        Kind::Zfs
    } else {
        Kind::Directory
    }
}

/// Decides the kind of a target that is there, and notes it.
pub(super) fn decide(place: &Place, chosen: Option<Kind>, suited: Kind) -> Result<Kind, Failure> {
    let noted = match noted(&place.state)? {
        // It was applied before kinds were noted.
        None if was_applied(&place.state) => Some(Kind::Directory),
        // Nothing came of it: it is not bound to anything yet.
        Some(noted) if chosen.is_some_and(|chosen| chosen != noted) && !was_applied(&place.state) => None,
        noted => noted,
    };
    match (noted, chosen) {
        (Some(noted), Some(chosen)) if noted != chosen => Err(Failure::message(
            Exit::Configuration,
            format!(
                "{} is kept as `{}`, and cannot become `{}` where it is",
                place.target.display(),
                noted.name(),
                chosen.name()
            ),
        )
        .hint("sync to another directory, and let the old one go")),
        (Some(noted), _) => Ok(noted),
        (None, _) => {
            write(&place.state.join(NOTE), format!("{}\n", suited.name()).as_bytes())?;
            Ok(suited)
        }
    }
}

/// Whether it is still to be decided what kind a target is of.
pub(super) fn is_open(state: &Path) -> Result<bool, Failure> {
    Ok(noted(state)?.is_none() && !was_applied(state))
}

/// Whether anything was applied to a target, or begun to be.
fn was_applied(state: &Path) -> bool {
    ["applied", "journal"].iter().any(|name| state.join(name).exists())
}

/// A subvolume has a device number of its own, so the type is compared, and that it is no mount point.
fn is_same_file_system(target: &Path, parent: &Path) -> bool {
    is_btrfs(parent)
        && rustix::fs::statx(
            rustix::fs::CWD,
            target,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            rustix::fs::StatxFlags::BASIC_STATS,
        )
        .is_ok_and(|stat| !stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

fn has_program(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}
