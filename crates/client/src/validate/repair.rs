//! What repairs a host, as data, and doing it.
//!
//! Modes and owners are changed without following a link anywhere on the way, so that whoever may write in one of these
//! directories cannot lead a repair that root makes to a file of somebody else.

use std::fmt;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::step::Steps;
use smart_sync_sync::apply::tree_dir::{RootLink, TreeDir};

use super::drift;
use super::owners::Owner;
use crate::after::process;
use crate::interrupt::Interrupt;
use crate::output::count;
use crate::sync::Surroundings;

/// Lines of a failed command that are shown.
const LINES: usize = 5;

/// Something that repairs a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Make a directory, and those above it.
    MakeDirectory {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Change permission bits.
    SetMode {
        /// Of what.
        path: PathBuf,
        /// The bits.
        mode: u32,
    },
    /// Change whose it is.
    SetOwner {
        /// What.
        path: PathBuf,
        /// Whose.
        owner: Owner,
    },
    /// Make a target what was applied to it.
    Restore {
        /// Which.
        target: PathBuf,
        /// How many paths differ.
        paths: u64,
    },
    /// Run a command of the configuration.
    Run {
        /// The program and its arguments.
        words: Vec<String>,
        /// Where.
        directory: PathBuf,
        /// How long it may take.
        timeout: Duration,
    },
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Path| Shown(path.as_os_str().as_bytes()).to_string();
        match self {
            Self::MakeDirectory { path, mode } => {
                write!(f, "make the directory {} (mode {mode:04o})", shown(path))
            }
            Self::SetMode { path, mode } => write!(f, "chmod {mode:04o} {}", shown(path)),
            Self::SetOwner { path, owner } => write!(f, "chown {owner} {}", shown(path)),
            Self::Restore { target, paths } => {
                let paths = count(*paths, "path", "paths");
                write!(
                    f,
                    "restore {paths} of {} as applied, and keep what was changed in the backup",
                    shown(target)
                )
            }
            Self::Run { words, .. } => write!(f, "run {}", words.join(" ")),
        }
    }
}

impl Repair {
    /// What it changes, if that is one path.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::MakeDirectory { path, .. } | Self::SetMode { path, .. } | Self::SetOwner { path, .. } => {
                Some(path)
            }
            Self::Restore { .. } | Self::Run { .. } => None,
        }
    }

    /// Whether it makes a whole target what was applied to it.
    pub const fn restores(&self) -> bool {
        matches!(self, Self::Restore { .. })
    }

    /// Does it. Returns why it was not done.
    pub fn act(&self, surroundings: &Surroundings<'_>) -> Result<(), String> {
        match self {
            Self::Restore { target, .. } => drift::restore(target, surroundings).map_err(|failure| {
                failure.messages().chain(failure.hints().iter().cloned()).collect::<Vec<_>>().join(": ")
            }),
            Self::Run { words, directory, timeout } => {
                run(words, directory, *timeout, surroundings.interrupt)
            }
            other => other.change(),
        }
    }

    /// Does what changes one path.
    fn change(&self) -> Result<(), String> {
        match self {
            Self::MakeDirectory { path, mode } => {
                let (root, path) = below_root(path)?;
                root.make_parents(path, 0o755)
                    .and_then(|()| root.make_directory(path, *mode))
                    .map_err(|error| said(&error))
            }
            Self::SetMode { path, mode } => {
                let (root, path) = below_root(path)?;
                root.set_mode(path, *mode).map_err(|error| said(&error))
            }
            Self::SetOwner { path, owner } => {
                let (root, path) = below_root(path)?;
                set_owner(&root, path, owner)
            }
            Self::Restore { .. } | Self::Run { .. } => Ok(()),
        }
    }
}

/// The root of the file system, and the path below it.
fn below_root(path: &Path) -> Result<(TreeDir, &[u8]), String> {
    let root =
        TreeDir::open(Path::new("/"), RootLink::Refuse, Steps::default()).map_err(|error| said(&error))?;
    let below = path.strip_prefix("/").map_err(|_| format!("{} is not absolute", path.display()))?;
    Ok((root, below.as_os_str().as_bytes()))
}

/// An error with its causes.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A file with another name may be one of somebody else that was linked to here; it is left alone.
fn set_owner(root: &TreeDir, path: &[u8], owner: &Owner) -> Result<(), String> {
    let failed =
        |errno: Errno| format!("changing the owner of {}: {}", root.show(path), std::io::Error::from(errno));
    let (parent, name) = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or((&b""[..], path), |slash| (&path[..slash], &path[slash + 1..]));
    let directory = root.open_directory(parent).map_err(|error| said(&error))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(failed)?;
    let found = rustix::fs::fstat(&file).map_err(failed)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Symlink => return Err(failed(Errno::LOOP)),
        FileType::Directory => {}
        _ if found.st_nlink > 1 => {
            return Err(format!("{} has other names, which would change as well", root.show(path)));
        }
        _ => {}
    }
    let (user, group) = (Uid::from_raw(owner.user), owner.group.map(Gid::from_raw));
    rustix::fs::chownat(file.as_fd(), c"", Some(user), group, AtFlags::EMPTY_PATH).map_err(failed)
}

fn run(words: &[String], directory: &Path, timeout: Duration, interrupt: &Interrupt) -> Result<(), String> {
    let [program, arguments @ ..] = words else { return Err("no program is named".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env_remove("SMART_SYNC_TOKEN");
    let ran = process::run(&mut command, timeout, interrupt)
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    if ran.is_success() {
        return Ok(());
    }
    let lines = ran.last_lines(LINES).join(" / ");
    Err(format!("{program} {}: {lines}", ran.how(timeout)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn directories_are_made_with_those_above_them() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().canonicalize().unwrap().join("a b/c");
        Repair::MakeDirectory { path: path.clone(), mode: 0o750 }.change().unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o750, 0o755));
    }

    /// The victim stands for a file of somebody else.
    #[test]
    fn no_link_is_followed_on_the_way_or_at_its_end() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        let victim = base.join("victim/file");
        fs::create_dir(victim.parent().unwrap()).unwrap();
        fs::write(&victim, "").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("victim", base.join("way")).unwrap();
        symlink("victim/file", base.join("end")).unwrap();
        let before = fs::metadata(&victim).unwrap();
        let owner = Owner::find("12345:12345", "", "").unwrap();
        for path in ["way/file", "end"].map(|path| base.join(path)) {
            let mode = Repair::SetMode { path: path.clone(), mode: 0o777 };
            mode.change().unwrap_err();
            Repair::SetOwner { path, owner: owner.clone() }.change().unwrap_err();
        }
        let made = Repair::MakeDirectory { path: base.join("way/new"), mode: 0o755 };
        made.change().unwrap_err();
        let after = fs::metadata(&victim).unwrap();
        assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
        assert!(!base.join("victim/new").exists());
    }

    #[test]
    fn a_file_with_other_names_keeps_its_owner() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().canonicalize().unwrap().join("one");
        fs::write(&path, "").unwrap();
        fs::hard_link(&path, path.with_file_name("other")).unwrap();
        let owner = Owner::find("12345", "", "").unwrap();
        let reason = Repair::SetOwner { path, owner }.change().unwrap_err();
        assert!(reason.contains("has other names"), "{reason}");
    }
}
