//! File systems of their own for what is measured.
//!
//! For some minutes after files went, ext4 looks for another inode than theirs with every file that is made, and takes
//! several times as long. On a file system that nothing was ever removed from, a program pays for what it does, and not
//! for what ran before it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bench::{Bench, prepare};

/// Room for a tree, a repository of it, and both being written.
const BYTES: u64 = 6 << 30;

/// Which file system a volume has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    /// With blocks that files can share.
    Xfs,
    Btrfs,
}

impl FileSystem {
    /// The command that makes one.
    fn make(self) -> Command {
        let words: &[&str] = match self {
            // Nothing is left for the kernel to do in the background.
            Self::Ext4 => &["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            Self::Xfs => &["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
            Self::Btrfs => &["mkfs.btrfs", "-q", "-f"],
        };
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }
}

/// A new file system in a file, or a plain directory for whoever may not mount one.
#[derive(Debug)]
pub(crate) struct Volume {
    path: PathBuf,
    image: Option<PathBuf>,
}

impl Volume {
    /// Whether the user may mount: the answer for all volumes of a run.
    pub(crate) fn is_possible() -> bool {
        nix::unistd::geteuid().is_root()
    }

    /// Makes a volume with ext4 and mounts it.
    pub(crate) fn new(bench: &Bench, name: &str) -> Result<Self> {
        Self::with(bench, name, FileSystem::Ext4)
    }

    /// Makes a volume and mounts it.
    pub(crate) fn with(bench: &Bench, name: &str, file_system: FileSystem) -> Result<Self> {
        let path = bench.scratch(name)?;
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        if !Self::is_possible() {
            return Ok(Self { path, image: None });
        }
        let image = bench.scratch(&format!("{name}.image"))?;
        File::create(&image)
            .and_then(|file| file.set_len(BYTES))
            .with_context(|| format!("creating {}", image.display()))?;
        prepare(file_system.make().arg(&image))?;
        let volume = Self { path, image: Some(image) };
        let image = volume.image.as_deref().expect("it was set just now");
        // Without the page cache below it: a program's bytes are in memory once, as they are elsewhere.
        let device =
            prepare(Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(image))?;
        let mounted = prepare(Command::new("mount").arg(device.trim()).arg(&volume.path));
        // The mount keeps the device; without one it goes at once.
        prepare(Command::new("losetup").arg("--detach").arg(device.trim()))?;
        mounted?;
        Ok(volume)
    }

    /// A path on it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The bytes that are taken on it.
    pub(crate) fn taken(&self) -> Result<u64> {
        nix::unistd::sync();
        let found = nix::sys::statvfs::statvfs(&self.path).context("asking for the space of a volume")?;
        Ok((found.blocks() - found.blocks_free()) * found.fragment_size())
    }

    fn unmount(path: &Path, image: &Path) -> Result<()> {
        prepare(Command::new("umount").arg(path))?;
        fs::remove_file(image).with_context(|| format!("removing {}", image.display()))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(image) = &self.image
            && let Err(error) = Self::unmount(&self.path, image)
        {
            crate::say(&format!("  {} stays mounted: {error:#}", self.path.display()));
        }
    }
}
