//! Debian's kernel 6.1 for amd64: images of successive ABI versions, with the version in their paths as shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::archives::{artifacts, tar};
use super::fetch::deb_versions;
use super::pair::{Group, Pair, set_times};
use super::{kept, many_changed};
use crate::bench::{Bench, prepare};

/// The newest `count` ABI versions that the archive has, oldest first, each unpacked.
pub(crate) fn kernels(bench: &Bench, count: usize) -> Result<Vec<PathBuf>> {
    if bench.scale.generated {
        let pair = kernel_tree(bench)?;
        return Ok(vec![pair.old, pair.new]);
    }
    newest(count)?
        .into_iter()
        .map(|abi| {
            bench.cache.kept(&format!("kernel/{abi}"), |directory| extract(&deb(bench, abi)?, directory))
        })
        .collect()
}

/// The two newest ABI versions as trees.
pub(crate) fn kernel_tree(bench: &Bench) -> Result<Pair> {
    if bench.scale.generated {
        return generated(bench);
    }
    let (old_abi, new_abi) = newest_two()?;
    let directory = bench.cache.kept(&format!("trees/kernel-{old_abi}-{new_abi}"), |directory| {
        extract(&deb(bench, old_abi)?, &directory.join("old"))?;
        extract(&deb(bench, new_abi)?, &directory.join("new"))?;
        set_times(&directory.join("old"), &directory.join("new"))?;
        copy(&directory.join("old"), &directory.join("renamed"))?;
        rename_below(&directory.join("renamed"), &version(old_abi), &version(new_abi))
    })?;
    let name = format!("linux-image {} → {}", version(old_abi), version(new_abi));
    Ok(Pair {
        renamed: directory.join("renamed"),
        ..Pair::trees(name, directory.join("old"), directory.join("new"))
    })
}

/// The same two as artifacts: the `.deb`, and archives of the modules.
pub(crate) fn kernel_artifacts(bench: &Bench) -> Result<Group> {
    let name = "the same, packed".to_owned();
    if bench.scale.generated {
        return Ok(Group { name, pairs: Vec::new() });
    }
    let (old_abi, new_abi) = newest_two()?;
    let tree = kernel_tree(bench)?;
    let packed = bench.cache.kept(&format!("kernel/modules-{old_abi}-{new_abi}"), |directory| {
        for (tree, place) in [(&tree.old, "old"), (&tree.new, "new")] {
            let place = directory.join(place);
            fs::create_dir_all(&place)?;
            let archive = place.join("modules.tar");
            tar(tree, "./lib/modules", &archive)?;
            prepare(Command::new("xz").args(["-6", "-T1", "--keep"]).arg(&archive))?;
            prepare(Command::new("gzip").args(["-6", "-n"]).arg(&archive))?;
        }
        Ok(())
    })?;
    let mut pairs =
        vec![artifacts(bench, "deb", "kernel .deb", &deb(bench, old_abi)?, &deb(bench, new_abi)?)?];
    for ending in ["gz", "xz"] {
        let file = format!("modules.tar.{ending}");
        let (old, new) = (packed.join("old").join(&file), packed.join("new").join(&file));
        pairs.push(artifacts(bench, "modules", &file, &old, &new)?);
    }
    Ok(Group { name, pairs })
}

/// `6.1.0-47-amd64`, as the paths have it.
fn version(abi: u32) -> String {
    format!("6.1.0-{abi}-amd64")
}

fn deb(bench: &Bench, abi: u32) -> Result<PathBuf> {
    let package = format!("linux-image-{}", version(abi));
    let newest = deb_versions(&package)?.pop().with_context(|| format!("the archive has no {package}"))?;
    bench.cache.deb(&package, &newest)
}

fn newest_two() -> Result<(u32, u32)> {
    match newest(2)?.as_slice() {
        [old, new] => Ok((*old, *new)),
        found => bail!("the archive has {} kernels, two are needed", found.len()),
    }
}

/// The newest ABI versions, ascending.
fn newest(count: usize) -> Result<Vec<u32>> {
    let text = prepare(Command::new("apt-cache").args([
        "search",
        "--names-only",
        r"^linux-image-6\.1\.0-[0-9]+-amd64$",
    ]))?;
    let mut found = abi_versions(&text);
    found.sort_unstable();
    found.dedup();
    Ok(found.split_off(found.len().saturating_sub(count)))
}

fn abi_versions(text: &str) -> Vec<u32> {
    let abi = |line: &str| {
        let name = line.split_whitespace().next()?;
        name.strip_prefix("linux-image-6.1.0-")?.strip_suffix("-amd64")?.parse().ok()
    };
    text.lines().filter_map(abi).collect()
}

fn extract(deb: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    prepare(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(to)).map(drop)
}

/// A tree whose paths carry a version that the next one changes.
fn generated(bench: &Bench) -> Result<Pair> {
    let pair = many_changed(bench, bench.scale.few_files, 5)?;
    let directory = kept(bench, "generated-kernel", |path| {
        for (tree, place, version) in
            [(&pair.old, "old", "1.0-1"), (&pair.new, "new", "1.0-2"), (&pair.old, "renamed", "1.0-2")]
        {
            fs::create_dir_all(path.join(place))?;
            copy(tree, &path.join(place).join(version))?;
        }
        Ok(())
    })?;
    let name = "generated 1.0-1 → 1.0-2".to_owned();
    Ok(Pair {
        renamed: directory.join("renamed"),
        ..Pair::trees(name, directory.join("old"), directory.join("new"))
    })
}

/// Copies a tree with its times.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    prepare(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}

/// Replaces `old` by `new` in every name below a directory.
pub(crate) fn rename_below(directory: &Path, old: &str, new: &str) -> Result<()> {
    let entries = fs::read_dir(directory)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        if entry.file_type()?.is_dir() {
            rename_below(&entry.path(), old, new)?;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(old) {
            let renamed = directory.join(name.replace(old, new));
            fs::rename(entry.path(), &renamed).with_context(|| format!("renaming {name}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        let text = "linux-image-6.1.0-9-amd64 - Linux\nlinux-image-6.1.0-47-amd64 - Linux\n\
                    linux-image-6.1.0-47-rt-amd64 - Linux\n";
        assert_eq!(abi_versions(text), [9, 47]);
    }

    #[test]
    fn every_name_with_the_version_changes() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("lib/v1/sub")).unwrap();
        fs::write(directory.path().join("lib/v1/sub/config-v1"), "x").unwrap();
        rename_below(directory.path(), "v1", "v2").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("lib/v2/sub/config-v2")).unwrap(), "x");
    }
}
