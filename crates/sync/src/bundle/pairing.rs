//! Which former file a new one is likely to share bytes with, told by their names.
//!
//! Versions are the part of a name that changes from one version to the next, so names are compared with the numbers in
//! them taken for the same: first those of names that look like a version, then all. Names are also spelled anew now and
//! then, so that neither case nor the difference between `_` and `-` counts. A wrong guess costs bytes and nothing else.

use std::collections::HashMap;

/// A file of the old tree that a new one may be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its path.
    pub path: &'a [u8],
    /// Its number of bytes.
    pub size: u64,
}

/// Candidates of one name that are looked at.
const LOOKED_AT_MAX: usize = 64;
/// How many times larger one of two files may be than the other where only their last names are alike.
const SIZE_RATIO_MAX: u64 = 4;

/// Candidates by their names.
pub struct Pairing<'a> {
    candidates: Vec<Candidate<'a>>,
    by_versioned_path: HashMap<Vec<u8>, Vec<usize>>,
    by_path: HashMap<Vec<u8>, Vec<usize>>,
    by_name: HashMap<Vec<u8>, Vec<usize>>,
}

impl<'a> Pairing<'a> {
    /// Looks among these.
    pub fn new(candidates: Vec<Candidate<'a>>) -> Self {
        let mut by_versioned_path: HashMap<_, Vec<usize>> = HashMap::new();
        let mut by_path: HashMap<_, Vec<usize>> = HashMap::new();
        let mut by_name: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, candidate) in candidates.iter().enumerate() {
            by_versioned_path.entry(without_versions(candidate.path)).or_default().push(index);
            let path = without_numbers(candidate.path);
            by_name.entry(last_name(&path).to_vec()).or_default().push(index);
            by_path.entry(path).or_default().push(index);
        }
        Self { candidates, by_versioned_path, by_path, by_name }
    }

    /// The candidate that is likely to be the former version of a new file.
    pub fn find(&self, path: &[u8], size: u64) -> Option<usize> {
        let near = |index: &usize| {
            let candidate = &self.candidates[*index];
            (shared_names(candidate.path, path), u64::MAX - candidate.size.abs_diff(size))
        };
        let nearest = |indices: &Vec<usize>| indices.iter().take(LOOKED_AT_MAX).copied().max_by_key(near);
        if let Some(found) = self.by_versioned_path.get(&without_versions(path)).and_then(nearest) {
            return Some(found);
        }
        let plain = without_numbers(path);
        if let Some(found) = self.by_path.get(&plain).and_then(nearest) {
            return Some(found);
        }
        let named_alike = self.by_name.get(last_name(&plain))?;
        let is_of_like_size = |index: &&usize| {
            let other = self.candidates[**index].size;
            other.max(size) / SIZE_RATIO_MAX <= other.min(size)
        };
        named_alike.iter().take(LOOKED_AT_MAX).filter(is_of_like_size).copied().max_by_key(near)
    }
}

/// A path in which names that look like a version have one digit in place of each run of digits: two numbers with a
/// dot between them are a version, and one alone is not.
fn without_versions(path: &[u8]) -> Vec<u8> {
    let plain = |name: &[u8]| {
        let is_version = name
            .windows(3)
            .any(|three| three[0].is_ascii_digit() && three[1] == b'.' && three[2].is_ascii_digit());
        if is_version { without_numbers(name) } else { name.iter().copied().map(folded).collect() }
    };
    path.split(|byte| *byte == b'/').map(plain).collect::<Vec<_>>().join(&b'/')
}

/// A path with one digit in place of each run of digits, and of those with single dots between them: the next version
/// may have one number fewer.
fn without_numbers(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    for (at, byte) in path.iter().enumerate() {
        let is_in_number = plain.last() == Some(&b'0');
        let is_between = *byte == b'.' && is_in_number && path.get(at + 1).is_some_and(u8::is_ascii_digit);
        if byte.is_ascii_digit() {
            plain.extend((!is_in_number).then_some(b'0'));
        } else if !is_between {
            plain.push(folded(*byte));
        }
    }
    plain
}

/// A byte of a name as it counts.
const fn folded(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// How many names two paths share at their beginnings and at their ends.
fn shared_names(a: &[u8], b: &[u8]) -> usize {
    let names = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (a, b) = (names(a), names(b));
    let first = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let last = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    first + last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(candidates: &[(&str, u64)], path: &str, size: u64, expected: Option<&str>) {
        let all = candidates.iter().map(|(path, size)| Candidate { path: path.as_bytes(), size: *size });
        let pairing = Pairing::new(all.collect());
        let found = pairing.find(path.as_bytes(), size).map(|index| candidates[index].0);
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn versions_in_directories_and_names_do_not_matter() {
        let kernel =
            [("lib/modules/6.1.0-44-amd64/kernel/fs/ext4.ko", 100), ("boot/vmlinuz-6.1.0-44-amd64", 900)];
        check(&kernel, "lib/modules/6.1.0-45-amd64/kernel/fs/ext4.ko", 110, Some(kernel[0].0));
        check(&kernel, "boot/vmlinuz-6.1.0-45-amd64", 10, Some(kernel[1].0));
        check(&[("lib/libssl.so.3.0.9", 5)], "lib/libssl.so.3.0.11", 5, Some("lib/libssl.so.3.0.9"));
        check(
            &[("Some-Thing-5.1.7.tar.gz", 5)],
            "some_thing-5.2.tar.gz",
            900,
            Some("Some-Thing-5.1.7.tar.gz"),
        );
        check(&[("some.1", 5)], "some..2", 5, None);
    }

    #[test]
    fn a_file_that_moved_is_found_by_its_name_where_its_size_is_alike() {
        let two = [("a/x/util.c", 100), ("b/y/util.c", 120)];
        check(&two, "c/y/util.c", 100, Some("b/y/util.c"));
        check(&two, "c/z/util.c", 119, Some("b/y/util.c"));
        check(&two, "c/z/util.c", 10_000, None);
        check(&two, "c/z/other.c", 100, None);
    }

    #[test]
    fn of_several_versions_the_one_of_like_size_is_taken() {
        check(&[("v1/a", 10), ("v2/a", 500)], "v3/a", 480, Some("v2/a"));
    }

    #[test]
    fn a_number_that_is_no_version_tells_files_apart() {
        let names: Vec<String> = (0..300).map(|n| format!("lib/6.1.0-44/drivers/{n}/module.ko")).collect();
        let candidates: Vec<_> = names.iter().map(|name| (name.as_str(), 100)).collect();
        check(
            &candidates,
            "lib/6.1.0-45/drivers/271/module.ko",
            100,
            Some("lib/6.1.0-44/drivers/271/module.ko"),
        );
    }
}
