//! Two successive versions of one thing, as they are published: two directories.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use crate::bench::prepare;

/// The time that files of the old version have, and those that the new one has unchanged: 2026-01-01.
const OLD_TIME: Duration = Duration::from_secs(1_767_225_600);
/// The time of what the new version changed.
const NEW_TIME: Duration = Duration::from_secs(1_767_225_600 + 86_400);

/// A step from one version to the next.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// `django 5.1.6 → 5.1.7`.
    pub(crate) name: String,
    pub(crate) old: PathBuf,
    pub(crate) new: PathBuf,
    /// The old contents under the names of the new version, for programs that find a file's former self by its path
    /// alone. The same as `old` where no name changes.
    pub(crate) renamed: PathBuf,
    /// The file of each version, where each is one artifact and not a tree.
    pub(crate) artifact: Option<(PathBuf, PathBuf)>,
    /// Whether people keep such a thing in git.
    pub(crate) in_git: bool,
}

/// Pairs of one kind, which a table shows together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) pairs: Vec<Pair>,
}

impl Pair {
    /// Two trees whose paths stay the same.
    pub(crate) fn trees(name: String, old: PathBuf, new: PathBuf) -> Self {
        Self { name, renamed: old.clone(), old, new, artifact: None, in_git: false }
    }

    pub(crate) fn in_git(self) -> Self {
        Self { in_git: true, ..self }
    }

    /// Two artifacts, put into `directory` as trees of one file each, with the names that they were published with.
    pub(crate) fn artifacts(name: String, old: &Path, new: &Path, directory: &Path) -> Result<Self> {
        let (old_name, new_name) = (file_name(old)?, file_name(new)?);
        let place = |version: &str, name: &str, from: &Path, time: Duration| -> Result<PathBuf> {
            let path = directory.join(version);
            if !path.exists() {
                fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
                fs::copy(from, path.join(name)).with_context(|| format!("copying {}", from.display()))?;
                set_time(&path.join(name), time)?;
            }
            Ok(path)
        };
        let (old_tree, new_tree) =
            (place("old", &old_name, old, OLD_TIME)?, place("new", &new_name, new, NEW_TIME)?);
        let renamed = place("renamed", &new_name, old, OLD_TIME)?;
        let artifact = Some((old_tree.join(&old_name), new_tree.join(&new_name)));
        Ok(Self { name, old: old_tree, new: new_tree, renamed, artifact, in_git: false })
    }
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().with_context(|| format!("{} has no file name", path.display()))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Unpacks a tar archive without the one directory that it holds.
pub(crate) fn unpack(archive: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    let mut command = Command::new("tar");
    command.args(["--strip-components=1", "--no-same-owner", "--no-same-permissions", "-xf"]).arg(archive);
    prepare(command.arg("-C").arg(to)).map(drop)
}

/// Gives every file the time that a checkout would leave it: those that did not change keep theirs. Archives made in
/// one run give all their files one time, and some give every version the same: programs that look at size and time
/// would be misled by either.
pub(crate) fn set_times(old: &Path, new: &Path) -> Result<()> {
    for path in files_below(old)?.values() {
        set_time(path, OLD_TIME)?;
    }
    for (name, path) in files_below(new)? {
        let former = old.join(&name);
        let time = if same_content(&former, &path)? { OLD_TIME } else { NEW_TIME };
        set_time(&path, time)?;
    }
    set_directory_times(old)?;
    set_directory_times(new)
}

/// Directories have one time in both versions: some archives hold it, and only some programs want it.
fn set_directory_times(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            set_directory_times(&entry.path())?;
        }
    }
    set_time(directory, OLD_TIME)
}

/// Every regular file below a directory, by its relative path.
pub(crate) fn files_below(directory: &Path) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(relative) = left.pop() {
        let path = directory.join(&relative);
        for entry in fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))? {
            let entry = entry?;
            let name = relative.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(name);
            } else if kind.is_file() {
                found.insert(name, entry.path());
            }
        }
    }
    Ok(found)
}

fn set_time(path: &Path, time: Duration) -> Result<()> {
    // Reading is enough for the owner to set times; a file may be read-only.
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    file.set_modified(SystemTime::UNIX_EPOCH + time)
        .with_context(|| format!("setting the time of {}", path.display()))
}

fn same_content(one: &Path, other: &Path) -> Result<bool> {
    let (Ok(one_data), other_data) = (fs::symlink_metadata(one), fs::symlink_metadata(other)?) else {
        return Ok(false);
    };
    if !one_data.is_file() || one_data.len() != other_data.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (io::BufReader::new(File::open(one)?), File::open(other)?);
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..length])?;
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_change_keeps_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        for (tree, changing) in [(&old, "one"), (&new, "two")] {
            fs::create_dir_all(tree.join("sub")).unwrap();
            fs::write(tree.join("sub/same"), "same").unwrap();
            fs::write(tree.join("changing"), changing).unwrap();
        }
        set_times(&old, &new).unwrap();
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(time(&new.join("sub/same")), time(&old.join("sub/same")));
        assert!(time(&new.join("changing")) > time(&old.join("changing")));
        assert_eq!(time(&new.join("sub")), time(&old.join("sub")));
    }
}
