//! Profiles of Portage: directories with `parent`, `make.defaults`, `package.use` and the like, each of which builds on
//! others.
//!
//! A profile that cannot be read breaks every `emerge` of the hosts that have it, so its lines are read before it is
//! published, and it is looked whether what it builds on is there. Scripts among the files are data here; Portage runs
//! them on hosts, which is said.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::count::counted;
use smart_sync_store::manifest::Shown;

use super::lists::List;
use super::{ArtifactKind, AsItIs, Judged, KindError, Refusal, Whole};
use crate::source::listed::Listing;

/// The largest file that is read.
const BYTES_MAX: u64 = 4 << 20;
/// The most profiles that one builds on itself.
const PARENTS_MAX: usize = 64;
/// The most names that are said one by one.
const NAMES_SHOWN: usize = 10;

/// The kind.
#[derive(Debug)]
pub(super) struct Profiles;

/// What is in a file of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// What it builds on.
    Parent,
    /// The version of the format.
    Eapi,
    Lines(List),
    /// A script that Portage runs.
    Script,
    /// What has no rule: descriptions, and lists of names.
    Text,
}

/// What a profile builds on, by one line of its `parent`.
#[derive(Debug, PartialEq, Eq)]
enum Parent {
    /// A directory of the same tree.
    Here(Vec<u8>),
    /// One of another repository, or of the host.
    Elsewhere(String),
}

impl ArtifactKind for Profiles {
    fn name(&self) -> &'static str {
        "profiles"
    }

    fn as_it_is(&self) -> Option<&dyn AsItIs> {
        Some(self)
    }
}

impl AsItIs for Profiles {
    fn judge(&self, tree: Whole<'_>) -> Result<Judged, KindError> {
        let (mut refused, mut others, mut scripts) = (Vec::new(), Vec::new(), Vec::new());
        let mut profiles = BTreeSet::new();
        let mut parents = BTreeMap::new();
        for (entry, _) in tree.listing.files() {
            let path = entry.path.as_bytes();
            let Some((directory, part)) = part_at(path) else {
                others.push(entry.path.to_string());
                continue;
            };
            if part != Part::Text {
                profiles.insert(directory.to_owned());
            }
            if part == Part::Script {
                scripts.push(entry.path.to_string());
            }
            // What has no rule may be as large as it likes.
            if matches!(part, Part::Text | Part::Script) {
                continue;
            }
            let mistake = match tree.listing.read_small(path, BYTES_MAX)?.map(String::from_utf8) {
                None => Some(format!("it has more than {} MiB", BYTES_MAX >> 20)),
                Some(Err(_)) => Some("it is not UTF-8".to_owned()),
                Some(Ok(text)) => match part {
                    Part::Parent => parents_of(directory, &text)
                        .map(|found| {
                            parents.insert(entry.path.clone(), (directory.to_owned(), found));
                        })
                        .err(),
                    Part::Eapi => mistake_of_eapi(&text),
                    Part::Lines(list) => list.mistake(&text),
                    Part::Script | Part::Text => None,
                },
            };
            refused.extend(mistake.map(|reason| Refusal::new(&entry.path, &reason)));
        }
        let mut elsewhere = BTreeSet::new();
        for (path, (_, found)) in &parents {
            for (line, parent) in found {
                match parent {
                    Parent::Elsewhere(name) => {
                        elsewhere.insert(name.as_str());
                    }
                    Parent::Here(directory) if is_there(tree.listing, directory) => {}
                    Parent::Here(directory) => {
                        let reason = format!("line {line}: {} is no directory of the tree", Shown(directory));
                        refused.push(Refusal::new(path, &reason));
                    }
                }
            }
        }
        let builds_on: BTreeMap<&[u8], Vec<&[u8]>> =
            parents.values().map(|(directory, found)| (&directory[..], here(found))).collect();
        let endless = without_end(&builds_on);
        for (path, (directory, _)) in &parents {
            if endless.contains(&directory[..]) {
                refused.push(Refusal::new(path, "the profile builds on itself, or on one that does"));
            }
        }
        if !refused.is_empty() {
            return Err(KindError::Refused(refused));
        }
        let mut notes =
            vec![format!("the tree has {}", counted(profiles.len() as u64, "profile", "profiles"))];
        let elsewhere: Vec<String> = elsewhere.into_iter().map(str::to_owned).collect();
        let said = |what: &str, names: &[String]| {
            super::names_said(names, NAMES_SHOWN).map(|names| format!("{what}: {names}"))
        };
        notes.extend(said("has to be there on hosts as well", &elsewhere));
        notes.extend(said("run by Portage on hosts", &scripts));
        notes.extend(super::said_of_others(&others, NAMES_SHOWN));
        Ok(Judged { notes, ..Judged::default() })
    }
}

/// The profile that a file belongs to, and what it is of it. Each list can be a directory of such lists.
fn part_at(path: &[u8]) -> Option<(&[u8], Part)> {
    let mut begin = 0;
    for name in path.split(|byte| *byte == b'/') {
        let end = begin + name.len();
        if let Some(part) = part_of_name(name) {
            let is_single = matches!(part, Part::Parent | Part::Eapi);
            let below = path.get(end + 1..).unwrap_or_default();
            // What an editor leaves behind is not read by Portage either.
            let file = below.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let is_ignored = file.starts_with(b".") || file.ends_with(b"~");
            if is_single && end < path.len() {
                return None;
            }
            return Some((&path[..begin.saturating_sub(1)], if is_ignored { Part::Text } else { part }));
        }
        begin = end + 1;
    }
    None
}

fn part_of_name(name: &[u8]) -> Option<Part> {
    let part = match name {
        b"parent" => Part::Parent,
        b"eapi" => Part::Eapi,
        b"make.defaults" => Part::Lines(List::Settings),
        b"packages" => Part::Lines(List::System),
        b"package.provided" => Part::Lines(List::Provided),
        b"packages.build" | b"package.deprecated" | b"package.mask" | b"package.unmask" => {
            Part::Lines(List::Atoms)
        }
        b"package.use"
        | b"package.use.mask"
        | b"package.use.force"
        | b"package.use.stable"
        | b"package.use.stable.mask"
        | b"package.use.stable.force" => Part::Lines(List::Uses),
        b"use.mask" | b"use.force" | b"use.stable" | b"use.stable.mask" | b"use.stable.force" => {
            Part::Lines(List::Flags)
        }
        b"package.accept_keywords"
        | b"package.keywords"
        | b"package.license"
        | b"package.properties"
        | b"package.env"
        | b"package.bashrc" => Part::Lines(List::Words),
        b"profile.bashrc" | b"bashrc" => Part::Script,
        b"deprecated" | b"virtuals" | b"use.defaults" | b"soname.provided" | b"arch.list"
        | b"arches.desc" | b"categories" | b"desc" | b"info_pkgs" | b"info_vars" | b"license_groups"
        | b"profiles.desc" | b"repo_name" | b"thirdpartymirrors" | b"updates" | b"use.desc"
        | b"use.local.desc" => Part::Text,
        _ => return None,
    };
    Some(part)
}

/// What a profile builds on, with the number of each line.
fn parents_of(directory: &[u8], text: &str) -> Result<Vec<(usize, Parent)>, String> {
    let mut parents = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if parents.len() == PARENTS_MAX {
            return Err(format!("it names more than {PARENTS_MAX} profiles"));
        }
        if line.contains(|letter: char| letter.is_control()) {
            return Err(format!("line {number}: it is no path"));
        }
        parents.push((number, parent(directory, line)));
    }
    Ok(parents)
}

/// A path from the profile, or `:PATH` from the top of the tree; `REPOSITORY:PATH` and absolute paths are of the host.
fn parent(directory: &[u8], line: &str) -> Parent {
    let (mut names, below) = match line.split_once(':') {
        Some(("", below)) => (Vec::new(), below),
        Some(_) => return Parent::Elsewhere(line.to_owned()),
        None if line.starts_with('/') => return Parent::Elsewhere(line.to_owned()),
        None => (directory.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect(), line),
    };
    for name in below.split('/') {
        match name {
            ".." if names.pop().is_none() => return Parent::Elsewhere(line.to_owned()),
            "" | "." | ".." => {}
            name => names.push(name.as_bytes()),
        }
    }
    Parent::Here(names.join(&b'/'))
}

fn here(parents: &[(usize, Parent)]) -> Vec<&[u8]> {
    parents
        .iter()
        .filter_map(|(_, parent)| match parent {
            Parent::Here(directory) => Some(&directory[..]),
            Parent::Elsewhere(_) => None,
        })
        .collect()
}

/// Whether a directory is in the tree, perhaps behind a link.
fn is_there(listing: &Listing, directory: &[u8]) -> bool {
    let ends = (0..directory.len()).filter(|at| directory[*at] == b'/').chain([directory.len()]);
    let mut prefixes = ends.map(|end| &directory[..end]);
    let is_behind_link =
        prefixes.any(|prefix| listing.find(prefix).is_some_and(crate::source::SourceEntry::is_symlink));
    is_behind_link || directory.is_empty() || listing.has_below(directory)
}

/// The profiles that what they build on never comes to an end of. Each line of each `parent` is looked at once.
fn without_end<'a>(builds_on: &BTreeMap<&'a [u8], Vec<&'a [u8]>>) -> BTreeSet<&'a [u8]> {
    let mut built_on_by: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    let mut open: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (profile, parents) in builds_on {
        let parents = parents.iter().filter(|parent| builds_on.contains_key(*parent));
        let count = parents.map(|parent| built_on_by.entry(parent).or_default().push(profile)).count();
        open.insert(profile, count);
    }
    let mut ended: Vec<&[u8]> =
        open.iter().filter(|(_, count)| **count == 0).map(|(profile, _)| *profile).collect();
    while let Some(profile) = ended.pop() {
        open.remove(profile);
        for child in built_on_by.get(profile).into_iter().flatten() {
            if let Some(count) = open.get_mut(child) {
                *count -= 1;
                if *count == 0 {
                    ended.push(child);
                }
            }
        }
    }
    open.into_keys().collect()
}

/// A file `eapi` is one word, on its first line.
fn mistake_of_eapi(text: &str) -> Option<String> {
    let mut lines = text.lines();
    let word = lines.next().unwrap_or_default().trim();
    let is_one = (1..=32).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte));
    (!is_one || lines.any(|line| !line.trim().is_empty())).then(|| "it is not one EAPI".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::judged;

    #[test]
    fn profiles_that_portage_could_read_are_published_and_what_they_need_is_said() {
        let found = judged(
            &Profiles,
            &[
                ("base/make.defaults", "USE=\"ipv6\"\n"),
                ("base/packages", "# system\n*sys-apps/baselayout\n"),
                ("base/profile.bashrc", "echo \"$PN\"\n"),
                ("server/parent", "# ours\n../base\ngentoo:default/linux/amd64/23.0\n../../elsewhere\n"),
                ("server/eapi", "8\n"),
                ("server/package.use/web", "www-servers/nginx -http2\n"),
                ("server/package.use/web~", "not read\n"),
                ("server/package.use/.keep", ""),
                ("server/web/parent", "..\n:base\n"),
                ("profiles.desc", "amd64 server stable\n"),
                ("NOTES", "ours\n"),
            ],
        )
        .unwrap();
        assert_eq!(
            found.notes,
            [
                "the tree has 3 profiles",
                "has to be there on hosts as well: ../../elsewhere, gentoo:default/linux/amd64/23.0",
                "run by Portage on hosts: base/profile.bashrc",
                "not known here, and published as it is: NOTES",
            ]
        );
    }

    #[test]
    fn profiles_that_would_break_hosts_are_refused_with_the_line() {
        #[track_caller]
        fn check(files: &[(&str, &str)], expected: &str) {
            assert_eq!(judged(&Profiles, files).unwrap_err().to_string(), expected);
        }
        check(&[("a/parent", "\n../b\n")], "a/parent: line 2: b is no directory of the tree");
        check(
            &[
                ("a/parent", "../b\n../d\n"),
                ("b/parent", "../a\n../a\n"),
                ("c/parent", "../b\n"),
                ("d/parent", "e\n"),
                ("d/e/eapi", "8\n"),
            ],
            "a/parent: the profile builds on itself, or on one that does; \
             b/parent: the profile builds on itself, or on one that does; \
             c/parent: the profile builds on itself, or on one that does",
        );
        check(&[("a/eapi", "8\n9\n")], "a/eapi: it is not one EAPI");
        check(&[("a/use.mask", "a;b\n")], "a/use.mask: line 1: \"a;b\" is no USE flag");
        check(&[("make.defaults", "rm -rf /\n")], "make.defaults: line 1: it is not NAME=VALUE");
        check(&[("a/package.mask/x", "$(id)\n")], "a/package.mask/x: line 1: \"$(id)\" is no atom");
    }

    #[test]
    fn what_a_line_of_parent_means() {
        for (directory, line, expected) in [
            ("a/b", "..", Parent::Here(b"a".to_vec())),
            ("a/b", "../..", Parent::Here(Vec::new())),
            ("a/b", "../../..", Parent::Elsewhere("../../..".to_owned())),
            ("a/b", "./c//d/", Parent::Here(b"a/b/c/d".to_vec())),
            ("a/b", ":c", Parent::Here(b"c".to_vec())),
            ("a/b", "gentoo:c", Parent::Elsewhere("gentoo:c".to_owned())),
            ("", "/c", Parent::Elsewhere("/c".to_owned())),
        ] {
            assert_eq!(parent(directory.as_bytes(), line), expected, "{directory} {line}");
        }
    }
}
