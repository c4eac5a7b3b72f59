//! Which packages a generation of an index names, under which paths, and which files stay although it does not.
//!
//! A path never changes what it holds while anybody may know it from an index: a package that was built again is
//! published beside the one before, under a name of its own, until the time of that one is over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use smart_sync_store::manifest::TreePath;

use super::super::Absent;
use super::super::retired::{Retired, is_over};
use super::package::Container;
use crate::time::UnixTime;

/// How much of a digest tells two packages of one name apart, and how much does so for certain.
const DIGEST_LENGTHS: [usize; 2] = [8, 40];
/// The longest name that file systems hold.
const NAME_BYTES_MAX: usize = 255;

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
    /// When it was built, in seconds since 1970; 0 where that is not said.
    pub built: u64,
}

/// What is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generation {
    /// The packages that its index names, by their paths; where one is from the directory, its path there.
    pub live: BTreeMap<TreePath, Option<TreePath>>,
    /// The files that stay although the index does not name them.
    pub retired: Retired,
    /// The packages of the directory that are left out, because the index has a later build of the same name.
    pub passed_over: Vec<TreePath>,
    /// The packages for which no name is left.
    pub nameless: Vec<TreePath>,
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
///
/// Of two builds of one name, of which one is published, the later one counts: two build hosts that have one each do not
/// undo each other. A directory that is all there is to be counts as it is.
pub fn plan(
    found: &BTreeMap<TreePath, Build>,
    current: &Current,
    absent: Absent,
    now: UnixTime,
) -> Generation {
    let mut retired = current.retired.clone();
    retired.retain(|_, since| !is_over(*since, now));
    let held: HashMap<&Build, &TreePath> = current.live.iter().map(|(path, build)| (build, path)).collect();
    let mut newest: HashMap<Name<'_>, u64> = HashMap::new();
    for build in current.live.values().filter(|_| absent == Absent::Stays) {
        let newest = newest.entry(name_of(build)).or_default();
        *newest = build.built.max(*newest);
    }
    let mut live: BTreeMap<TreePath, Option<TreePath>> = BTreeMap::new();
    let (mut rebuilt, mut passed_over, mut nameless) = (HashSet::new(), Vec::new(), Vec::new());
    for (source, build) in found {
        let is_known = |path: &TreePath| {
            current.live.contains_key(path) || retired.contains_key(path) || live.contains_key(path)
        };
        let path = match (held.get(build), newest.get(&name_of(build))) {
            (Some(path), _) => Some((*path).clone()),
            (None, Some(newest)) if *newest >= build.built => {
                passed_over.push(source.clone());
                continue;
            }
            (None, _) => free_path(source, build, is_known),
        };
        match path {
            Some(path) => {
                // One that is published already takes the place of none.
                if !held.contains_key(build) {
                    rebuilt.insert(name_of(build));
                }
                live.insert(path, Some(source.clone()));
            }
            None => nameless.push(source.clone()),
        }
    }
    for (path, build) in &current.live {
        if live.contains_key(path) {
            continue;
        }
        if absent == Absent::Stays && !rebuilt.contains(&name_of(build)) {
            live.insert(path.clone(), None);
        } else {
            retired.insert(path.clone(), now.seconds());
        }
    }
    retired.retain(|path, _| !live.contains_key(path));
    Generation { live, retired, passed_over, nameless }
}

/// The next generation, without some of the packages.
pub fn without(current: &Current, gone: &BTreeSet<TreePath>, now: UnixTime) -> Generation {
    let mut retired = current.retired.clone();
    retired.retain(|_, since| !is_over(*since, now));
    let (gone, live): (Vec<&TreePath>, Vec<&TreePath>) =
        current.live.keys().partition(|path| gone.contains(*path));
    retired.extend(gone.into_iter().map(|path| (path.clone(), now.seconds())));
    let live = live.into_iter().map(|path| (path.clone(), None)).collect();
    Generation { live, retired, ..Generation::default() }
}

/// What builds of one package have in common: category, name and version, and the number of the build.
type Name<'b> = (&'b str, &'b str);

fn name_of(build: &Build) -> Name<'_> {
    (&build.cpv, &build.build_id)
}

/// The path of a package in the directory, or one beside it that nobody knows yet. None where that would be too long.
fn free_path(source: &TreePath, build: &Build, is_known: impl Fn(&TreePath) -> bool) -> Option<TreePath> {
    if !is_known(source) {
        return Some(source.clone());
    }
    let bytes = source.as_bytes();
    let mut extensions = Container::EXTENSIONS.iter().map(|(extension, _)| extension.as_bytes());
    let extension = extensions.find(|extension| bytes.ends_with(extension)).unwrap_or_default();
    let stem = &bytes[..bytes.len() - extension.len()];
    let beside = |digits: usize| {
        let digest = build.sha1.get(..digits).unwrap_or(&build.sha1);
        let name = [stem, b"~", digest.as_bytes(), extension].concat();
        TreePath::new(name).ok().filter(|path| path.file_name().len() <= NAME_BYTES_MAX)
    };
    let [short, long] = DIGEST_LENGTHS;
    // A path that has the whole digest in it never holds anything else.
    beside(short).filter(|path| !is_known(path)).or_else(|| beside(long))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::retired::GRACE_SECONDS;

    const NOW: u64 = 1_000_000_000;

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    /// `PATH CPV BUILD-ID DIGIT`, the digit standing for the content and for when it was built.
    fn builds(lines: &[&str]) -> BTreeMap<TreePath, Build> {
        let build = |line: &&str| {
            let [at, cpv, build_id, digit] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let build_id = build_id.trim_start_matches('-').to_owned();
            let built = digit.parse().unwrap();
            (path(at), Build { cpv: cpv.to_owned(), build_id, sha1: digit.repeat(40), size: 1, built })
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
        assert_eq!((planned.live, planned.retired), (expected, retired(gone)));
        assert_eq!(planned.nameless, []);
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
    fn two_hosts_that_have_built_the_same_do_not_undo_each_other() {
        let now = UnixTime::new(NOW).unwrap();
        let (one, other) = (builds(&["a.xpak c/a-1 - 1"]), builds(&["a.xpak c/a-1 - 2"]));
        let mut current = Current { live: one.clone(), retired: Retired::new() };
        let mut published = 0;
        for found in [&other, &one, &other, &one, &other] {
            let next = plan(found, &current, Absent::Stays, now);
            let all: BTreeMap<&str, &Build> =
                [("1", &one), ("2", &other)].map(|(digit, all)| (digit, all.values().next().unwrap())).into();
            let live: BTreeMap<TreePath, Build> = (next.live.iter())
                .map(|(path, source)| {
                    let build =
                        source.as_ref().map_or_else(|| current.live[path].clone(), |at| found[at].clone());
                    assert!(all.values().any(|known| **known == build));
                    (path.clone(), build)
                })
                .collect();
            assert!(next.retired.keys().all(|path| !live.contains_key(path)));
            published += usize::from(live != current.live);
            current = Current { live, retired: next.retired };
        }
        assert_eq!(published, 1, "the later build is published once");
        assert_eq!(current.live.values().next().map(|build| build.built), Some(2));
        // What somebody says is all there is to be counts all the same.
        let forced = plan(&one, &current, Absent::Goes, now);
        assert_eq!(forced.live.values().flatten().next(), Some(&path("a.xpak")));
        assert!(forced.passed_over.is_empty());
    }

    #[test]
    fn a_package_for_which_no_name_is_left_is_named() {
        let long = format!("{}.xpak", "a".repeat(249));
        let current = Current { live: builds(&[&format!("{long} c/a-1 - 1")]), retired: Retired::new() };
        let found = builds(&[&format!("{long} c/a-1 - 2")]);
        let next = plan(&found, &current, Absent::Stays, UnixTime::new(NOW).unwrap());
        assert_eq!(next.nameless, [path(&long)]);
    }

    #[test]
    fn what_is_taken_out_stays_for_a_week_as_a_file() {
        let live = builds(&["a.xpak c/a-1 - 1", "b.xpak c/b-1 - 2"]);
        let current =
            Current { live, retired: retired(&[("c.xpak", NOW - 1), ("d.xpak", NOW - GRACE_SECONDS)]) };
        let gone = BTreeSet::from([path("a.xpak"), path("not-there.xpak")]);
        let next = without(&current, &gone, UnixTime::new(NOW).unwrap());
        assert_eq!(next.live, BTreeMap::from([(path("b.xpak"), None)]));
        assert_eq!(next.retired, retired(&[("a.xpak", NOW), ("c.xpak", NOW - 1)]));
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
