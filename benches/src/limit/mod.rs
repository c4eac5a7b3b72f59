//! The limit of a pair: what the best one-shot delta of today takes.
//!
//! The files that differ are put one after the other, names included, old ones as the dictionary and new ones as the
//! input, once as a whole and once in parts: each large file against its former self, small ones in batches. Every
//! part, and the whole, goes through three programs and counts with the smallest answer; the limit is the smaller of
//! the whole and the sum of the parts. Contents of compressed artifacts are compared as they are inside. It takes
//! long, so that it is kept by what it was computed from.

mod expand;
mod parts;
mod programs;
mod stream;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::bench::Bench;
use crate::data::Pair;
use expand::Item;
use programs::Method;

/// Changed whenever the same inputs may give another limit.
const REVISION: u32 = 1;
/// A whole that is larger than this, old and new together, is only looked at in parts.
const WHOLE_BYTES_MAX: u64 = 1800 << 20;

/// The smallest delta, and how it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) bytes: u64,
    /// The bytes that the new version has, decompressed, in files that the old one has not.
    pub(crate) changed: u64,
    /// `zstd, whole`, or how many parts each program won.
    pub(crate) how: String,
}

/// The limit of a step.
pub(crate) fn of_pair(bench: &Bench, pair: &Pair) -> Result<Limit> {
    let work = bench.scratch("limit")?;
    fs::create_dir_all(&work)?;
    let items = |tree: &Path, artifact: Option<&Path>, place: &str| match artifact {
        Some(artifact) => expand::artifact(artifact, &work.join(place)),
        None => expand::tree(tree),
    };
    let artifact = pair.artifact.as_ref();
    let old = items(&pair.old, artifact.map(|(old, _)| old.as_path()), "old")?;
    let new = items(&pair.new, artifact.map(|(_, new)| new.as_path()), "new")?;
    let (old, new) = differing(old, new);
    let limit = kept(bench, &format!("delta {}", digest(&old, &new)), || compute(&work, &old, &new))?;
    bench.scratch("limit")?;
    Ok(limit)
}

/// What a tree takes when nothing is there: `tar | zstd -19 --long=31`.
pub(crate) fn of_first(bench: &Bench, tree: &Path) -> Result<Limit> {
    let items = expand::tree(tree)?;
    kept(bench, &format!("first {}", digest(&[], &items)), || {
        let work = bench.scratch("limit")?;
        fs::create_dir_all(&work)?;
        let archive = work.join("tree.tar");
        crate::data::tar(tree, ".", &archive)?;
        let bytes = programs::compress(&archive, &work)?;
        let changed = items.iter().map(|item| item.size).sum();
        Ok(Limit { bytes, changed, how: "tar, zstd -19 --long=31".to_owned() })
    })
}

/// Leaves only what one side has and the other has not.
fn differing(old: Vec<Item>, new: Vec<Item>) -> (Vec<Item>, Vec<Item>) {
    let keys = |items: &[Item]| -> HashSet<(Vec<u8>, blake3::Hash)> {
        items.iter().map(|item| (item.name.clone(), item.hash)).collect()
    };
    let (old_keys, new_keys) = (keys(&old), keys(&new));
    let without = |items: Vec<Item>, others: &HashSet<(Vec<u8>, blake3::Hash)>| {
        items.into_iter().filter(|item| !others.contains(&(item.name.clone(), item.hash))).collect()
    };
    (without(old, &new_keys), without(new, &old_keys))
}

/// What a limit depends on, as one hash.
fn digest(old: &[Item], new: &[Item]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (side, items) in [(b'-', old), (b'+', new)] {
        for item in items {
            hasher.update(&[side]);
            hasher.update(&(item.name.len() as u64).to_be_bytes());
            hasher.update(&item.name);
            hasher.update(item.hash.as_bytes());
        }
    }
    hasher.finalize()
}

fn kept(bench: &Bench, key: &str, compute: impl FnOnce() -> Result<Limit>) -> Result<Limit> {
    let name = blake3::hash(format!("{REVISION} {key}").as_bytes()).to_hex();
    let path = bench.cache.path(&format!("limits/{name}.json"));
    if let Ok(text) = fs::read(&path)
        && let Ok(limit) = serde_json::from_slice(&text)
    {
        return Ok(limit);
    }
    let limit = compute()?;
    let parent = path.parent().context("a limit lies in a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    fs::write(&path, serde_json::to_vec(&limit)?).with_context(|| format!("writing {}", path.display()))?;
    Ok(limit)
}

fn compute(work: &Path, old: &[Item], new: &[Item]) -> Result<Limit> {
    let changed = new.iter().map(|item| item.size).sum();
    let total = changed + old.iter().map(|item| item.size).sum::<u64>();
    let mut best: Option<(u64, String)> = None;
    if total <= WHOLE_BYTES_MAX {
        let (old_whole, new_whole) = (work.join("whole.old"), work.join("whole.new"));
        stream::write(&old_whole, old, &stream::all(old))?;
        stream::write(&new_whole, new, &stream::all(new))?;
        let (bytes, method) = programs::smallest(&old_whole, &new_whole, work)?;
        best = Some((bytes, format!("{}, whole", method.name())));
    }
    let (bytes, how) = in_parts(work, old, new)?;
    if best.as_ref().is_none_or(|(whole, _)| bytes < *whole) {
        best = Some((bytes, how));
    }
    let (bytes, how) = best.context("at least the parts were measured")?;
    Ok(Limit { bytes, changed, how })
}

fn in_parts(work: &Path, old: &[Item], new: &[Item]) -> Result<(u64, String)> {
    let mut total = 0;
    let mut wins = [0_u32; Method::ALL.len()];
    for part in parts::split(old, new) {
        let (from, to) = (work.join("part.old"), work.join("part.new"));
        stream::write(&from, old, &part.old)?;
        stream::write(&to, new, &part.new)?;
        let (bytes, method) = programs::smallest(&from, &to, work)?;
        total += bytes;
        wins[method as usize] += 1;
    }
    let won = Method::ALL.iter().map(|method| (method.name(), wins[*method as usize]));
    let how: Vec<String> =
        won.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}×")).collect();
    Ok((total, format!("parts: {}", how.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, content: &str) -> Item {
        Item::of_bytes(name.as_bytes().to_vec(), content.as_bytes().to_vec())
    }

    #[test]
    fn what_both_have_is_left_out() {
        let (old, new) = differing(
            vec![item("same", "x"), item("changed", "1"), item("gone", "g")],
            vec![item("same", "x"), item("changed", "2"), item("added", "a")],
        );
        let names = |items: &[Item]| -> Vec<String> {
            items.iter().map(|item| String::from_utf8_lossy(&item.name).into_owned()).collect()
        };
        assert_eq!(names(&old), ["changed", "gone"]);
        assert_eq!(names(&new), ["changed", "added"]);
    }

    #[test]
    fn a_limit_is_kept_by_what_it_is_computed_from() {
        let one = digest(&[item("a", "1")], &[item("a", "2")]);
        assert_eq!(one, digest(&[item("a", "1")], &[item("a", "2")]));
        assert_ne!(one, digest(&[item("a", "2")], &[item("a", "1")]));
        assert_ne!(one, digest(&[], &[item("a", "1"), item("a", "2")]));
    }
}
