//! Kernels of an upstream that is followed: which of the files that it names are which version, and which versions are
//! wanted. Pure: paths in, paths out.
//!
//! An upstream lays them out as they may be published: a directory for each version, in one for its state or not; or all
//! together, with the release in each name. Whatever its states are, what comes from it is current here only where the
//! operator wants that: upstream does not decide what hosts boot.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::manifest::TreePath;

use super::members;
use super::shelf::State;
use super::version::Version;
use crate::kinds::follow::{Arriving, Versions, Wanted};

/// How kernels of an upstream are told apart.
#[derive(Debug)]
pub(super) struct KernelVersions;

/// A version that an upstream has.
struct Found<'a> {
    state: Option<State>,
    /// The directory that its files lie in upstream.
    home: &'a str,
    /// Another directory in which there is a kernel of this version.
    other_home: Option<&'a str>,
    /// Its files, by their paths in the tree of it.
    files: BTreeMap<&'a str, &'a TreePath>,
}

impl Versions for KernelVersions {
    fn check(&self, wanted: &Wanted<'_>) -> Result<(), String> {
        match wanted.architectures {
            [] | [_] => Ok(()),
            _ => Err("a channel holds the kernels of one architecture: have a mirror for each".to_owned()),
        }
    }

    fn choose(
        &self,
        files: &mut dyn Iterator<Item = &TreePath>,
        wanted: &Wanted<'_>,
        arriving: Arriving,
    ) -> Result<BTreeMap<TreePath, TreePath>, String> {
        let files: Vec<&TreePath> = files.collect();
        let mut found = find(&files, wanted.architectures.first().map(String::as_str));
        if !wanted.variants.is_empty() {
            found.retain(|version, _| wanted.variants.contains(&variant(version.as_str())));
        }
        if let Some(newest) = wanted.newest {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            let mut is_kept: BTreeSet<Version> = BTreeSet::new();
            for version in found.keys().rev() {
                let count = counts.entry(variant(version.as_str())).or_default();
                *count += 1;
                if *count <= newest {
                    is_kept.insert(version.clone());
                }
            }
            found.retain(|version, _| is_kept.contains(version));
        }
        if found.is_empty() {
            return Err(format!(
                "none of the {} files that it names is a part of a kernel that is wanted; they lie in VERSION or STATE/VERSION, \
                 below the architecture where one is configured",
                files.len()
            ));
        }
        let mut chosen = BTreeMap::new();
        for (version, found) in found {
            if let Some(other) = found.other_home {
                let shown = |home: &str| if home.is_empty() { "." } else { home }.to_owned();
                return Err(format!(
                    "the kernel {version} lies in {} and in {}, and a version is built once",
                    shown(found.home),
                    shown(other)
                ));
            }
            let directory = match (found.state, arriving) {
                (Some(state @ (State::Deprecated | State::Compat)), _) => format!("{state}/{version}"),
                (_, Arriving::Newest) => version.to_string(),
                (_, Arriving::Offered) => format!("{}/{version}", State::Offered),
            };
            for (below, path) in found.files {
                let place = format!("{directory}/{below}");
                let place = TreePath::new(place.as_bytes()).map_err(|error| format!("{place}: {error}"))?;
                chosen.insert(place, path.clone());
            }
        }
        Ok(chosen)
    }

    fn version_of(&self, path: &TreePath) -> Option<String> {
        let (_, version, _) = placed(str::from_utf8(path.as_bytes()).ok()?)?;
        Some(version.to_string())
    }

    fn went_back(&self, before: &BTreeSet<String>, now: &BTreeSet<String>) -> Option<String> {
        let newest = |versions: &BTreeSet<String>| {
            versions.iter().filter_map(|text| text.parse::<Version>().ok()).max()
        };
        let before = newest(before)?;
        match newest(now) {
            Some(now) if now >= before => None,
            Some(now) => Some(format!("the newest kernel of upstream was {before}, and is {now}")),
            None => Some(format!("upstream had {before}, and has no kernel")),
        }
    }
}

/// All versions of an upstream.
fn find<'a>(files: &[&'a TreePath], architecture: Option<&str>) -> BTreeMap<Version, Found<'a>> {
    let mut found: BTreeMap<Version, Found<'a>> = BTreeMap::new();
    for path in files {
        let Ok(text) = str::from_utf8(path.as_bytes()) else { continue };
        let text = match architecture {
            Some(architecture) => {
                match text.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('/')) {
                    Some(below) => below,
                    None => continue,
                }
            }
            None => text,
        };
        let (state, version, below) = match placed(text) {
            Some(placed) => placed,
            None => match members::release_of(text).and_then(|release| release.parse().ok()) {
                Some(version) => (None, version, text),
                None => continue,
            },
        };
        if !members::is_part(below) {
            continue;
        }
        let home = text[..text.len() - below.len()].trim_end_matches('/');
        let nothing = || Found { state, home, other_home: None, files: BTreeMap::new() };
        let found = found.entry(version).or_insert_with(nothing);
        if found.home != home {
            found.other_home = Some(home);
        }
        found.files.insert(below, path);
    }
    found
}

/// The state and the version that a path says by its directories, and what stands below them.
fn placed(path: &str) -> Option<(Option<State>, Version, &str)> {
    let (first, rest) = path.split_once('/')?;
    if let Ok(version) = first.parse() {
        return Some((None, version, rest));
    }
    let state = first.parse().ok()?;
    let (version, rest) = rest.split_once('/')?;
    Some((Some(state), version.parse().ok()?, rest))
}

/// What tells versions apart that are built of one source: the words of a name that are neither numbers nor revisions.
fn variant(version: &str) -> String {
    let is_number = |text: &str| text.starts_with(|letter: char| letter.is_ascii_digit());
    let is_word = |word: &&str| {
        let number = word.strip_prefix("rc").or_else(|| word.strip_prefix('r')).unwrap_or(word);
        !is_number(number)
    };
    version.split(['-', '_']).filter(is_word).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::UnixTime;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn wanted<'a>(architectures: &'a [String], variants: &'a [String], newest: Option<usize>) -> Wanted<'a> {
        Wanted { architectures, variants, newest, key_ring: None, now: UnixTime::EPOCH }
    }

    fn choose(files: &[&str], wanted: &Wanted<'_>, arriving: Arriving) -> Result<Vec<String>, String> {
        let paths: Vec<TreePath> = files.iter().map(|text| TreePath::new(text.as_bytes()).unwrap()).collect();
        let chosen = KernelVersions.choose(&mut paths.iter(), wanted, arriving)?;
        Ok(chosen.iter().map(|(place, path)| format!("{place} < {path}")).collect())
    }

    #[track_caller]
    fn check(files: &[&str], arriving: Arriving, expected: &[&str]) {
        assert_eq!(choose(files, &wanted(&[], &[], None), arriving), Ok(texts(expected)));
    }

    #[test]
    fn every_layout_becomes_directories_of_versions() {
        let nested = ["README", "6.9.1/vmlinuz", "6.9.1/vmlinuz.sig", "current/6.10.1-gentoo/Kernel.Config"];
        check(
            &nested,
            Arriving::Offered,
            &[
                "offered/6.10.1-gentoo/Kernel.Config < current/6.10.1-gentoo/Kernel.Config",
                "offered/6.9.1/vmlinuz < 6.9.1/vmlinuz",
            ],
        );
        check(
            &nested,
            Arriving::Newest,
            &[
                "6.10.1-gentoo/Kernel.Config < current/6.10.1-gentoo/Kernel.Config",
                "6.9.1/vmlinuz < 6.9.1/vmlinuz",
            ],
        );
        // A state that keeps hosts from a kernel is upstream's to give.
        let states = ["deprecated/6.8.1/modules.tar.gz", "compat/6.1.1/boot/vmlinuz-6.1.1"];
        for arriving in [Arriving::Offered, Arriving::Newest] {
            check(
                &states,
                arriving,
                &[
                    "compat/6.1.1/boot/vmlinuz-6.1.1 < compat/6.1.1/boot/vmlinuz-6.1.1",
                    "deprecated/6.8.1/modules.tar.gz < deprecated/6.8.1/modules.tar.gz",
                ],
            );
        }
        check(
            &["vmlinuz-6.9.1", "vmlinuz-6.9.2", "modules-6.9.2.tar.xz", "config", "lib/modules/6.9.1/a.ko"],
            Arriving::Newest,
            &[
                "6.9.1/lib/modules/6.9.1/a.ko < lib/modules/6.9.1/a.ko",
                "6.9.1/vmlinuz-6.9.1 < vmlinuz-6.9.1",
                "6.9.2/modules-6.9.2.tar.xz < modules-6.9.2.tar.xz",
                "6.9.2/vmlinuz-6.9.2 < vmlinuz-6.9.2",
            ],
        );
    }

    #[test]
    fn what_is_wanted_is_chosen_by_architecture_variant_and_version() {
        #[track_caller]
        fn check(architectures: &[&str], variants: &[&str], newest: Option<usize>, expected: &str) {
            let files = [
                "amd64/6.10.1-gentoo/vmlinuz",
                "amd64/6.9.1-gentoo-r1/vmlinuz",
                "amd64/6.9.1-gentoo/vmlinuz",
                "amd64/6.10.0-rc2/vmlinuz",
                "amd64/6.8.1-gentoo-dist/vmlinuz",
                "arm64/6.11.1-gentoo/vmlinuz",
            ];
            let (architectures, variants) = (texts(architectures), texts(variants));
            let wanted = wanted(&architectures, &variants, newest);
            let found = choose(&files, &wanted, Arriving::Newest);
            let shown = found.map(|lines| {
                let version = |line: &String| line.split('/').next().unwrap_or_default().to_owned();
                lines.iter().map(version).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(shown.unwrap_or_else(|error| error), expected);
        }
        check(&["amd64"], &["gentoo"], None, "6.10.1-gentoo 6.9.1-gentoo-r1 6.9.1-gentoo");
        check(&["amd64"], &["gentoo"], Some(2), "6.10.1-gentoo 6.9.1-gentoo-r1");
        check(&["amd64"], &["", "gentoo-dist"], None, "6.10.0-rc2 6.8.1-gentoo-dist");
        check(&["amd64"], &[], Some(1), "6.10.0-rc2 6.10.1-gentoo 6.8.1-gentoo-dist");
        check(&["arm64"], &[], None, "6.11.1-gentoo");
        let none = "none of the 6 files that it names is a part of a kernel that is wanted; they lie in VERSION or \
                    STATE/VERSION, below the architecture where one is configured";
        check(&[], &[], None, none);
        check(&["amd64"], &["hardened"], None, none);
        let both = texts(&["amd64", "arm64"]);
        assert!(KernelVersions.check(&wanted(&both, &[], None)).is_err());
        assert_eq!(KernelVersions.check(&wanted(&both[..1], &[], None)), Ok(()));
    }

    #[test]
    fn one_version_in_two_places_is_none_that_can_be_relied_on() {
        #[track_caller]
        fn check(files: &[&str], expected: &str) {
            let found = choose(files, &wanted(&[], &[], None), Arriving::Offered).unwrap_err();
            assert_eq!(found, expected);
        }
        check(
            &["current/6.9.1/vmlinuz", "deprecated/6.9.1/vmlinuz"],
            "the kernel 6.9.1 lies in current/6.9.1 and in deprecated/6.9.1, and a version is built once",
        );
        check(
            &["6.9.1/vmlinuz", "config-6.9.1"],
            "the kernel 6.9.1 lies in 6.9.1 and in ., and a version is built once",
        );
    }

    #[test]
    fn an_upstream_whose_newest_kernel_is_gone_went_back() {
        #[track_caller]
        fn check(before: &[&str], now: &[&str], expected: Option<&str>) {
            let of = |versions: &[&str]| texts(versions).into_iter().collect();
            assert_eq!(KernelVersions.went_back(&of(before), &of(now)).as_deref(), expected);
        }
        check(&[], &["6.9.1"], None);
        check(&["6.9.1"], &["6.9.1"], None);
        check(&["6.8.1", "6.9.1"], &["6.10.1"], None);
        let back = "the newest kernel of upstream was 6.10.1, and is 6.9.1";
        check(&["6.9.1", "6.10.1"], &["6.9.1"], Some(back));
        check(&["6.9.1"], &[], Some("upstream had 6.9.1, and has no kernel"));
    }

    proptest! {
        #[test]
        fn a_place_tells_its_version_and_nothing_that_is_no_part_comes(
            paths in prop::collection::btree_set(
                "((current|compat|deprecated|offered|x)/)?(6\\.[0-9]{1,2}(-gentoo)?/)?(vmlinuz|config-6\\.[0-9]|lib/modules/6\\.1/a|b\\.sig)",
                1..12,
            ),
            newest in prop::option::of(1..3usize),
        ) {
            let paths: Vec<TreePath> = paths.iter().map(|text| TreePath::new(text.as_bytes()).unwrap()).collect();
            for arriving in [Arriving::Offered, Arriving::Newest] {
                let Ok(chosen) = KernelVersions.choose(&mut paths.iter(), &wanted(&[], &[], newest), arriving) else {
                    continue;
                };
                let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                for (place, path) in &chosen {
                    let version = KernelVersions.version_of(place).unwrap();
                    prop_assert!(!place.as_bytes().starts_with(b"current/"));
                    prop_assert!(paths.contains(path) && !path.as_bytes().ends_with(b".sig"));
                    versions.entry(variant(&version)).or_default().insert(version);
                }
                if let Some(newest) = newest {
                    prop_assert!(versions.values().all(|versions| versions.len() <= newest));
                }
            }
        }
    }
}
