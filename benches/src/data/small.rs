//! Trees of many small text files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::pair::Pair;
use super::random::Random;
use crate::bench::Bench;

/// The sizes of a tree's files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    min: usize,
    max: usize,
}

impl Sizes {
    /// 1 to 4 KiB.
    pub(crate) const SMALL: Self = Self { min: 1024, max: 4096 };
    /// 1 to 32 KiB, as sources have.
    pub(crate) const SOURCE: Self = Self { min: 1024, max: 32 * 1024 };
}

/// How many files a directory holds, and how many directories the one above.
const FANOUT: u32 = 100;

/// The time that every file was last modified: 2026-01-01.
const MODIFIED: Duration = Duration::from_secs(1_767_225_600);

/// Writes a tree of `count` files.
pub(super) fn make(path: &Path, count: u32, sizes: Sizes) -> Result<()> {
    let words = words();
    for number in 0..count {
        let file = path.join(name(number));
        if number % FANOUT == 0 {
            let parent = file.parent().context("a file lies in a directory")?;
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        write(&file, &text(number, sizes, &words), SystemTime::UNIX_EPOCH + MODIFIED)?;
    }
    Ok(())
}

/// A tree of small files, and the same with a line of some of them changed.
pub(crate) fn many_changed(bench: &Bench, count: u32, changed: u32) -> Result<Pair> {
    let old =
        if count == bench.scale.many_files { super::many_files(bench)? } else { super::few_files(bench)? };
    let directory = super::kept(bench, &format!("changed-{changed}-of-{count}"), |path| {
        fs::create_dir_all(path)?;
        copy_edited(&old, &path.join("new"), count, changed)
    })?;
    let name = format!("{changed} of {count} files");
    Ok(Pair::trees(name, old, directory.join("new")))
}

/// Copies a tree and changes a line in some of its files.
pub(super) fn copy_edited(old: &Path, new: &Path, count: u32, changed: u32) -> Result<()> {
    super::kernel::copy(old, new)?;
    change(new, count, changed).map(drop)
}

/// A change of one line in a few files, which is undone when this is dropped.
#[derive(Debug)]
pub(crate) struct Edit {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Edit {
    /// Replaces a line in the middle of `files` files, spread over a tree of `count`.
    pub(crate) fn make(tree: &Path, count: u32, files: u32) -> Result<Self> {
        Ok(Self { files: change(tree, count, files)? })
    }
}

/// Replaces a line in each of `files` files, and returns what they held.
fn change(tree: &Path, count: u32, files: u32) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut former = Vec::new();
    for number in 0..files {
        let path = tree.join(name(count / files * number + count / files / 2));
        let old = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let half = old.len() / 2;
        let start = old[..half].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let end = old[half..].iter().position(|byte| *byte == b'\n').map_or(old.len(), |end| half + end);
        let line = format!("this line is the change number {number} of the update");
        let new = [&old[..start], line.as_bytes(), &old[end..]].concat();
        former.push((path.clone(), old));
        write(&path, &new, SystemTime::UNIX_EPOCH + MODIFIED + Duration::from_secs(60))?;
    }
    Ok(former)
}

impl Drop for Edit {
    fn drop(&mut self) {
        for (path, old) in &self.files {
            if let Err(error) = write(path, old, SystemTime::UNIX_EPOCH + MODIFIED) {
                crate::say(&format!("{error:#}: delete the data directory before the next run"));
            }
        }
    }
}

/// `12/34/file-123456.txt`: directories of a hundred files each.
fn name(number: u32) -> PathBuf {
    let directory = number / FANOUT;
    PathBuf::from(format!("{:02}/{:02}/file-{number:06}.txt", directory / FANOUT, directory % FANOUT))
}

fn write(path: &Path, content: &[u8], modified: SystemTime) -> Result<()> {
    let write = || {
        fs::write(path, content)?;
        fs::File::options().write(true).open(path)?.set_modified(modified)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Two thousand words of 3 to 10 letters.
fn words() -> Vec<String> {
    let mut random = Random::new(1);
    let word = |random: &mut Random| {
        let length = 3 + random.below(8);
        (0..length).map(|_| char::from(b'a' + u8::try_from(random.below(26)).expect("a letter"))).collect()
    };
    (0..2000).map(|_| word(&mut random)).collect()
}

/// Lines of words, the early words of the list more often than the late ones, as in any language.
fn text(number: u32, sizes: Sizes, words: &[String]) -> Vec<u8> {
    let mut random = Random::new(u64::from(number) + 1000);
    let size = sizes.min + random.below(sizes.max - sizes.min + 1);
    let mut text = Vec::with_capacity(size + 16);
    let mut line = 0;
    while text.len() < size {
        let first = random.below(words.len()) + 1;
        let word = &words[random.below(first)];
        text.extend_from_slice(word.as_bytes());
        line += word.len() + 1;
        text.push(if line > 70 { b'\n' } else { b' ' });
        if line > 70 {
            line = 0;
        }
    }
    text.truncate(size);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_changes_its_files_and_is_undone() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        make(&tree, 300, Sizes::SMALL).unwrap();
        let before = smart_sync_tests::Snapshot::of(&tree);
        assert_eq!(before.nodes().len(), 300 + 3 + 1);
        let edit = Edit::make(&tree, 300, 5).unwrap();
        assert_eq!(before.differences(&smart_sync_tests::Snapshot::of(&tree)).len(), 10);
        drop(edit);
        before.assert_same(&smart_sync_tests::Snapshot::of(&tree));
    }
}
