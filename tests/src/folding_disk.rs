//! File systems that take different names for one.
//!
//! Which of them a machine can mount depends on its kernel and on what is installed: a test asks for each, and those
//! that cannot be had are skipped by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::skip::skipped;
use crate::small_disk::run_again;

/// The size of an image.
const IMAGE_BYTES: u64 = 64 << 20;

/// A file system that takes some names for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoldingKind {
    /// ext4 with directories that fold as Unicode says: case, composition, and characters that are passed over.
    Ext4,
    /// FAT with long names: case, and the short names of DOS.
    Vfat,
    /// NTFS, mounted so that it folds case.
    Ntfs,
    /// NTFS, mounted so that a colon names a stream.
    NtfsStreams,
}

impl FoldingKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Vfat, Self::Ntfs, Self::NtfsStreams];

    /// Paths that are dangerous there, beside a `.git` of the host's own.
    pub fn unsafe_trees(self) -> Vec<(&'static str, &'static [&'static str])> {
        let case: (_, &[_]) = ("two spellings of one name", &["xt_DSCP.ko", "xt_dscp.ko"]);
        match self {
            Self::Ext4 => vec![
                case,
                ("two compositions of one name", &["cafe\u{301}", "caf\u{e9}"]),
                ("a character that is passed over", &[".g\u{200c}it/hooks/pre-commit"]),
            ],
            Self::Vfat => vec![case, ("a short name", &["git~1/hooks/pre-commit"])],
            Self::Ntfs => vec![case],
            Self::NtfsStreams => vec![("a stream", &[".git::$INDEX_ALLOCATION/hooks/pre-commit"])],
        }
    }

    fn make(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4 -q -O casefold -E encoding=utf8",
            Self::Vfat => "mkfs.vfat",
            Self::Ntfs | Self::NtfsStreams => "mkntfs -q -F -f",
        }
    }

    fn mount(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Vfat => "mount -o loop",
            Self::Ntfs => "lowntfs-3g -o ignore_case",
            Self::NtfsStreams => "ntfs-3g -o streams_interface=windows",
        }
    }
}

/// Runs the calling test again in a mount namespace of its own, and returns whether this is that run. Unlike in
/// [`in_namespace`](crate::small_disk::in_namespace) the test is the machine's own root there, without whom no image
/// can be mounted.
#[track_caller]
pub fn in_namespace_of_root() -> bool {
    if !rustix::process::geteuid().is_root() {
        skipped("only root may mount images of file systems");
        return false;
    }
    run_again(&["--mount"])
}

/// A mounted file system; it is unmounted when dropped.
#[derive(Debug)]
pub struct FoldingDisk {
    directory: PathBuf,
}

impl FoldingDisk {
    /// Makes one in an image and mounts it in the place of a directory; nothing where this machine has no such file
    /// system.
    pub fn mount(kind: FoldingKind, image: &Path, directory: &Path) -> Option<Self> {
        let file = fs::File::create(image).expect("a file can be made");
        file.set_len(IMAGE_BYTES).expect("a file of holes takes no room");
        fs::create_dir_all(directory).expect("a directory can be made");
        let is_mounted = run(kind.make(), &[image])
            && run(kind.mount(), &[image, directory])
            && (kind != FoldingKind::Ext4 || run("chattr +F", &[directory]));
        if !is_mounted {
            skipped(&format!(
                "{kind:?} that folds names cannot be mounted: no support in the kernel, or no program"
            ));
            return None;
        }
        Some(Self { directory: directory.to_owned() })
    }
}

impl Drop for FoldingDisk {
    fn drop(&mut self) {
        run("umount", &[&self.directory]);
    }
}

/// Whether a command with these paths at its end succeeds.
pub(crate) fn run(command: &str, paths: &[&Path]) -> bool {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).args(paths).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
