//! Which packages a generation of an index names, under which paths, and which files stay although it does not.
//!
//! A path never changes what it holds while anybody may know it from an index: a package that was built again is
//! published beside the one before, under a name of its own, until the time of that one is over.

use std::collections::{BTreeMap, HashMap, HashSet};

use smart_sync_store::manifest::TreePath;

use super::super::Absent;
use super::super::retired::{Retired, is_over};
use crate::time::UnixTime;

/// The ends of names of packages.
pub const EXTENSIONS: [&str; 3] = [".gpkg.tar", ".tbz2", ".xpak"];
/// How much of a digest tells two packages of one name apart, and how much does so for certain.
const DIGEST_LENGTHS: [usize; 2] = [8, 40];

/// A package, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Build {
    /// Category, name and version.
    pub cpv: String,
    /// The number of the build; empty where it has none.
    pub build_id: String,
    /// The digest of the file, 40 hexadecimal digits.
    pub sha1: String,
    /// The size of the file.
    pub size: u64,
}

/// What is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generation {
    /// The packages that its index names, by their paths; where one is from the directory, its path there.
    pub live: BTreeMap<TreePath, Option<TreePath>>,
    /// The files that stay although the index does not name them.
    pub retired: Retired,
}

/// What is published now.
#[derive(Debug, Clone, Default)]
pub struct Current {
    /// The packages that its index names.
    pub live: BTreeMap<TreePath, Build>,
    /// The files that stay although it does not.
    pub retired: Retired,
}

/// Decides what the next generation is, with the packages of a directory.
pub fn plan(
    found: &BTreeMap<TreePath, Build>,
    current: &Current,
    absent: Absent,
    now: UnixTime,
) -> Generation {
    let mut retired = current.retired.clone();
    retired.retain(|_, since| !is_over(*since, now));
    let held: HashMap<&Build, &TreePath> = current.live.iter().map(|(path, build)| (build, path)).collect();
    let rebuilt: HashSet<(&str, &str)> =
        found.values().map(|build| (&*build.cpv, &*build.build_id)).collect();
    let mut live: BTreeMap<TreePath, Option<TreePath>> = BTreeMap::new();
    for (source, build) in found {
        let is_known = |path: &TreePath| {
            current.live.contains_key(path) || retired.contains_key(path) || live.contains_key(path)
        };
        let path = held.get(build).map_or_else(|| free_path(source, build, is_known), |path| (*path).clone());
        live.insert(path, Some(source.clone()));
    }
    for (path, build) in &current.live {
        let is_rebuilt = rebuilt.contains(&(&*build.cpv, &*build.build_id));
        if live.contains_key(path) {
            retired.remove(path);
        } else if absent == Absent::Stays && !is_rebuilt {
            live.insert(path.clone(), None);
        } else {
            retired.insert(path.clone(), now.seconds());
        }
    }
    Generation { live, retired }
}

/// The path of a package in the directory, or one beside it that nobody knows yet.
fn free_path(source: &TreePath, build: &Build, is_known: impl Fn(&TreePath) -> bool) -> TreePath {
    if !is_known(source) {
        return source.clone();
    }
    let bytes = source.as_bytes();
    let extension = EXTENSIONS.iter().find(|extension| bytes.ends_with(extension.as_bytes()));
    let stem = &bytes[..bytes.len() - extension.map_or(0, |extension| extension.len())];
    let beside = |digits: usize| {
        let digest = build.sha1.get(..digits).unwrap_or(&build.sha1);
        let name = [stem, b"~", digest.as_bytes(), &bytes[stem.len()..]].concat();
        // A name that is too long by this is one that its publisher has to shorten.
        TreePath::new(name).unwrap_or_else(|_| source.clone())
    };
    let [short, long] = DIGEST_LENGTHS.map(beside);
    if is_known(&short) { long } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::retired::GRACE_SECONDS;

    const NOW: u64 = 1_000_000_000;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    /// `PATH CPV BUILD-ID DIGIT`, the digit standing for the content.
    fn builds(lines: &[&str]) -> BTreeMap<TreePath, Build> {
        let build = |line: &&str| {
            let [at, cpv, build_id, digit] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let build_id = build_id.trim_start_matches('-').to_owned();
            (path(at), Build { cpv: cpv.to_owned(), build_id, sha1: digit.repeat(40), size: 1 })
        };
        lines.iter().map(build).collect()
    }

    fn retired(lines: &[(&str, u64)]) -> Retired {
        lines.iter().map(|(at, since)| (path(at), *since)).collect()
    }

    #[track_caller]
    fn check(
        found: &[&str],
        live: &[&str],
        before: &[(&str, u64)],
        absent: Absent,
        expected: &[(&str, Option<&str>)],
        gone: &[(&str, u64)],
    ) {
        let current = Current { live: builds(live), retired: retired(before) };
        let planned = plan(&builds(found), &current, absent, UnixTime::new(NOW).unwrap());
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(at, source)| (path(at), source.map(path))).collect();
        assert_eq!(planned, Generation { live: expected, retired: retired(gone) });
    }

    #[test]
    fn several_publish_to_one_index_and_what_is_not_here_stays() {
        check(&["a.xpak c/a-1 - 1"], &[], &[], Absent::Stays, &[("a.xpak", Some("a.xpak"))], &[]);
        check(
            &["a.xpak c/a-1 - 1"],
            &["b.xpak c/b-1 - 2"],
            &[],
            Absent::Stays,
            &[("a.xpak", Some("a.xpak")), ("b.xpak", None)],
            &[],
        );
        check(
            &["a.xpak c/a-1 - 1"],
            &["b.xpak c/b-1 - 2"],
            &[],
            Absent::Goes,
            &[("a.xpak", Some("a.xpak"))],
            &[("b.xpak", NOW)],
        );
    }

    #[test]
    fn a_package_that_was_built_again_gets_a_name_beside_the_one_before() {
        check(
            &["c/a-1.gpkg.tar c/a-1 -1 2"],
            &["c/a-1.gpkg.tar c/a-1 -1 1"],
            &[],
            Absent::Stays,
            &[("c/a-1~22222222.gpkg.tar", Some("c/a-1.gpkg.tar"))],
            &[("c/a-1.gpkg.tar", NOW)],
        );
        // It keeps that name, whatever it is called in the directory.
        check(
            &["c/a-1.gpkg.tar c/a-1 -1 2"],
            &["c/a-1~22222222.gpkg.tar c/a-1 -1 2"],
            &[("c/a-1.gpkg.tar", NOW - 5)],
            Absent::Stays,
            &[("c/a-1~22222222.gpkg.tar", Some("c/a-1.gpkg.tar"))],
            &[("c/a-1.gpkg.tar", NOW - 5)],
        );
        // Another build beside it is another package.
        check(
            &["c/a-1-2.gpkg.tar c/a-1 -2 2"],
            &["c/a-1-1.gpkg.tar c/a-1 -1 1"],
            &[],
            Absent::Stays,
            &[("c/a-1-1.gpkg.tar", None), ("c/a-1-2.gpkg.tar", Some("c/a-1-2.gpkg.tar"))],
            &[],
        );
        let known = [("a.xpak", NOW), ("a~22222222.xpak", NOW)];
        let long = format!("a~{}.xpak", "2".repeat(40));
        check(&["a.xpak c/a-1 - 2"], &[], &known, Absent::Stays, &[(&long, Some("a.xpak"))], &known);
    }

    #[test]
    fn what_nothing_names_goes_when_its_time_is_over_and_its_name_is_free_then() {
        check(
            &["a.xpak c/a-1 - 2"],
            &[],
            &[("a.xpak", NOW - GRACE_SECONDS), ("b.xpak", NOW - GRACE_SECONDS + 1)],
            Absent::Stays,
            &[("a.xpak", Some("a.xpak"))],
            &[("b.xpak", NOW - GRACE_SECONDS + 1)],
        );
    }
}
