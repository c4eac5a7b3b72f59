//! The data of the workloads: the same bytes on every machine, made once and kept between runs.

mod archives;
mod big_file;
mod debian;
mod dotfiles;
mod fetch;
mod gpkg;
pub(crate) mod kernel;
mod pair;
mod random;
mod releases;
mod root;
mod small;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub(crate) use archives::{binary_packages, compressed_sources, tar};
pub(crate) use big_file::big_file;
pub(crate) use debian::{PACKAGES, PACKAGES_QUICK};
pub(crate) use dotfiles::dotfiles;
pub(crate) use fetch::Cache;
pub(crate) use gpkg::{generated_packages, one_more_package};
pub(crate) use kernel::{copy as copy_tree, kernel_artifacts, kernel_tree, kernels};
pub(crate) use pair::{Group, Pair, files_below};
pub(crate) use releases::{first_install, repository_versions, source_trees, tarball_versions};
pub(crate) use root::root_file_system;
pub(crate) use small::{Edit, Sizes, many_changed};

use crate::bench::Bench;
use crate::say;
use random::Random;

/// A tree of many files of 1 to 4 KiB.
pub(crate) fn many_files(bench: &Bench) -> Result<PathBuf> {
    small_files(bench, bench.scale.many_files, Sizes::SMALL)
}

/// A tree of a few files of 1 to 32 KiB.
pub(crate) fn few_files(bench: &Bench) -> Result<PathBuf> {
    small_files(bench, bench.scale.few_files, Sizes::SOURCE)
}

/// A tree of small files that many clients sync at once.
pub(crate) fn served_files(bench: &Bench) -> Result<PathBuf> {
    small_files(bench, bench.scale.served_files, Sizes::SMALL)
}

/// A tree of a given size with programs, libraries, fonts, headers and sources, from Debian packages.
pub(crate) fn realistic_tree(bench: &Bench) -> Result<PathBuf> {
    kept(bench, &format!("debian-{}", bench.scale.tree_bytes), |path| {
        debian::make(bench, path, bench.scale.packages, bench.scale.tree_bytes)
    })
}

/// A directory with one file of bytes that nothing compresses.
pub(crate) fn one_file(bench: &Bench, size: u64) -> Result<PathBuf> {
    kept(bench, &format!("file-{size}"), |path| {
        fs::create_dir(path)?;
        let mut file = fs::File::create(path.join("file"))?;
        let mut random = Random::new(size);
        let mut block = vec![0; 1024 * 1024];
        let mut left = size;
        while left > 0 {
            random.fill(&mut block);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
            file.write_all(&block[..length])?;
            left -= length as u64;
        }
        Ok(())
    })
}

/// A directory of many small distfiles, `dist-000001.tar.gz` and so on, of 1 to 4 KiB that nothing compresses.
pub(crate) fn distfiles(bench: &Bench, count: u32) -> Result<PathBuf> {
    kept(bench, &format!("distfiles-{count}"), |path| {
        fs::create_dir(path)?;
        for number in 0..count {
            let mut random = Random::new(u64::from(number));
            let mut bytes = vec![0; 1024 + random.below(3 * 1024)];
            random.fill(&mut bytes);
            fs::write(path.join(distfile(number)), bytes)?;
        }
        Ok(())
    })
}

/// The name of one of them.
pub(crate) fn distfile(number: u32) -> String {
    format!("dist-{number:06}.tar.gz")
}

/// A tree of small files, between the few and the many.
pub(crate) fn small_tree(bench: &Bench) -> Result<PathBuf> {
    small_files(bench, bench.scale.few_files * 10, Sizes::SMALL)
}

/// Brings a tree of `count` files of 64 to 320 KiB to a version: one file in a hundred differs from the version before.
pub(crate) fn versioned_tree(tree: &Path, count: u32, version: u32) -> Result<()> {
    fs::create_dir_all(tree).with_context(|| format!("creating {}", tree.display()))?;
    let changes = |number: &u32| version == 0 || number % 100 == version % 100;
    for number in (0..count).filter(changes) {
        let mut random = Random::new(u64::from(number) << 32 | u64::from(version));
        let mut bytes = vec![0; (64 << 10) + random.below(256 << 10)];
        random.fill(&mut bytes);
        let path = tree.join(format!("file-{number:05}"));
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn small_files(bench: &Bench, count: u32, sizes: Sizes) -> Result<PathBuf> {
    kept(bench, &format!("files-{count}"), |path| small::make(path, count, sizes))
}

/// Makes a tree unless it is there. One that was begun and not finished is made again.
fn kept(bench: &Bench, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    kept_in(&bench.data_directory(), name, make)
}

/// The same in another directory.
fn kept_in(directory: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = directory.join(name);
    if path.exists() {
        return Ok(path);
    }
    say(&format!("making {name}"));
    let making = directory.join(format!("{name}.making"));
    if making.exists() {
        fs::remove_dir_all(&making).with_context(|| format!("removing {}", making.display()))?;
    }
    let parent = making.parent().context("a name lies in a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    make(&making).with_context(|| format!("making {name}"))?;
    fs::rename(&making, &path).with_context(|| format!("renaming {}", making.display()))?;
    Ok(path)
}
