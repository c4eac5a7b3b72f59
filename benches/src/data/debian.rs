//! A tree as it lies on real machines, out of packages of Debian 12.
//!
//! The packages are ones that the release does not update, so that the tree is the same for everybody: a compiler
//! with its libraries, shared libraries, headers, sources, fonts, manuals. It is cut at exactly the wanted size.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::bench::{Bench, prepare};

/// What the tree is made of, in this order, until it is full.
pub(crate) const PACKAGES: &[&str] = &[
    "golang-1.19-src",
    "libllvm14",
    "libboost1.74-dev",
    "golang-1.19-go",
    "fonts-noto-cjk",
    "libclang-cpp14",
    "gcc-12",
    "cpp-12",
    "libicu72",
    "cmake-data",
    "libicu-dev",
    "libstd-rust-dev",
];

/// The same for a small tree.
pub(crate) const PACKAGES_QUICK: &[&str] = &["cmake-data", "libicu72"];

/// Unpacks packages until the tree holds `size` bytes of files.
pub(super) fn make(bench: &Bench, path: &Path, packages: &[&str], size: u64) -> Result<()> {
    let archives = bench.scratch("packages")?;
    fs::create_dir_all(&archives)?;
    fs::create_dir(path)?;
    let mut left = size;
    for package in packages {
        if left == 0 {
            break;
        }
        let archive = download(&archives, package)?;
        let unpacked = archives.join("unpacked");
        prepare(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&unpacked))?;
        let name = archive.file_name().context("an archive has a name")?.to_string_lossy();
        // The version is part of the tree's meaning: a report names what it was measured on.
        crate::say(&format!("  {name}"));
        take(&unpacked, &path.join(package), &mut left)?;
        fs::remove_dir_all(&unpacked)?;
        fs::remove_file(&archive)?;
    }
    if left > 0 {
        bail!("the packages hold {left} bytes less than {size}");
    }
    fs::remove_dir_all(&archives)?;
    Ok(())
}

fn download(directory: &Path, package: &str) -> Result<PathBuf> {
    // The package manager's own user may not write here; as root it would only warn of that.
    prepare(
        Command::new("apt-get")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(directory),
    )?;
    let found = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    found
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded no archive of {package}"))
}

/// Moves files in the order of their names until `left` bytes are used up; the last one is cut.
fn take(from: &Path, to: &Path, left: &mut u64) -> Result<()> {
    let mut entries = fs::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if *left == 0 {
            break;
        }
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&source)?;
        if metadata.is_dir() {
            take(&source, &target, left)?;
            continue;
        }
        fs::create_dir_all(to)?;
        fs::rename(&source, &target)?;
        if metadata.is_file() {
            if metadata.len() > *left {
                let file = fs::File::options().write(true).open(&target)?;
                file.set_len(*left)?;
                file.set_modified(metadata.modified()?)?;
            }
            *left -= metadata.len().min(*left);
        }
    }
    Ok(())
}
