//! Packages that a host has or wants, and whether an index has them: decided here, read elsewhere.

use std::collections::BTreeSet;

use smart_sync_sync::kinds::binpkgs::cpv::Cpv;

/// The longest line of what `emerge` prints that is looked at.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A package that somebody has or wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) cpv: Cpv,
    /// The flags that are enabled, of those that are said; none where nothing is said of them.
    pub(super) flags: Option<Flags>,
    /// The number of the build that is installed.
    pub(super) build_id: Option<u64>,
}

/// Flags of a package: those that are said to be enabled, and all that are said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) enabled: BTreeSet<String>,
    pub(super) said: BTreeSet<String>,
}

/// A package that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Built {
    pub(super) cpv: Cpv,
    pub(super) enabled: BTreeSet<String>,
    pub(super) build_id: Option<u64>,
}

/// Which builds are as good as the one that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builds {
    /// That one.
    Same,
    /// Any of the same version and flags.
    Any,
}

/// Why a package has to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lack {
    /// There is no such package.
    Package,
    /// There are only other versions, this one being the newest.
    Version(String),
    /// The version is there with other flags: those that differ, as they are wanted.
    Flags(Vec<String>),
    /// The version is there with these flags, as another build.
    Build(Vec<u64>),
}

/// Decides what is lacking; nothing where the package is there.
pub(super) fn lack(wanted: &Wanted, built: &[Built], builds: Builds) -> Option<Lack> {
    let is_same_name =
        |found: &&Built| found.cpv.category == wanted.cpv.category && found.cpv.name == wanted.cpv.name;
    let of_name: Vec<&Built> = built.iter().filter(is_same_name).collect();
    let Some(newest) = of_name.iter().map(|found| &found.cpv.version).max() else {
        return Some(Lack::Package);
    };
    let of_version: Vec<&&Built> =
        of_name.iter().filter(|found| found.cpv.version == wanted.cpv.version).collect();
    if of_version.is_empty() {
        return Some(Lack::Version(newest.to_string()));
    }
    let differing = |found: &Built| -> Vec<String> {
        let Some(flags) = &wanted.flags else { return Vec::new() };
        let is_other = |flag: &&String| flags.enabled.contains(*flag) != found.enabled.contains(*flag);
        let shown = |flag: &String| {
            if flags.enabled.contains(flag) { flag.clone() } else { format!("-{flag}") }
        };
        flags.said.iter().filter(is_other).map(shown).collect()
    };
    let with_flags: Vec<&&&Built> = of_version.iter().filter(|found| differing(found).is_empty()).collect();
    if with_flags.is_empty() {
        let nearest = of_version.iter().map(|found| differing(found)).min_by_key(Vec::len);
        return nearest.map(Lack::Flags);
    }
    let is_build = |found: &&&&Built| found.build_id == wanted.build_id;
    if builds == Builds::Any || wanted.build_id.is_none() || with_flags.iter().any(is_build) {
        return None;
    }
    Some(Lack::Build(with_flags.iter().filter_map(|found| found.build_id).collect()))
}

/// The packages that `emerge --pretend --verbose` lists: lines as `[ebuild  N     ] app-misc/hello-2.10::gentoo
/// USE="nls -static"`. Every other line is passed over.
pub(super) fn of_emerge(text: &str) -> Vec<Wanted> {
    text.lines().filter(|line| line.len() <= LINE_BYTES_MAX).filter_map(of_line).collect()
}

fn of_line(line: &str) -> Option<Wanted> {
    let line = line.trim_start();
    let rest = line.strip_prefix("[ebuild").or_else(|| line.strip_prefix("[binary"))?;
    let (_, rest) = rest.split_once(']')?;
    let mut words = rest.split_ascii_whitespace();
    let name = words.next()?;
    let name = name.split_once("::").map_or(name, |(name, _)| name);
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    // The number of a build stands behind the version, as in hello-2.10-3, where no revision could.
    let (cpv, build_id) = if let Ok(cpv) = name.parse::<Cpv>() {
        (cpv, None)
    } else {
        let (name, build_id) = name.rsplit_once('-')?;
        (name.parse().ok()?, Some(build_id.parse().ok()?))
    };
    Some(Wanted { cpv, flags: flags_of_line(rest), build_id })
}

/// What stands in `USE="…"`, and in the variables like it that extend it: `PYTHON_TARGETS="python3_12"` is the flag
/// `python_targets_python3_12`.
fn flags_of_line(line: &str) -> Option<Flags> {
    let mut flags = Flags::default();
    let mut rest = line;
    let mut is_said = false;
    while let Some((before, after)) = rest.split_once("=\"") {
        let (values, after) = after.split_once('"')?;
        let variable =
            before.rsplit(|character: char| character.is_ascii_whitespace()).next().unwrap_or_default();
        let prefix = if variable == "USE" { String::new() } else { format!("{}_", variable.to_lowercase()) };
        is_said = true;
        for value in values.split_ascii_whitespace() {
            // Parentheses and braces say that it cannot be chosen, stars and percent signs that it changes.
            let value = value.trim_matches(['(', ')', '{', '}']).trim_end_matches(['*', '%']);
            let value = value.trim_matches(['(', ')', '{', '}']);
            let name = value.strip_prefix('-').unwrap_or(value);
            if name.is_empty() {
                continue;
            }
            flags.said.insert(format!("{prefix}{name}"));
            if name.len() == value.len() {
                flags.enabled.insert(format!("{prefix}{name}"));
            }
        }
        rest = after;
    }
    is_said.then_some(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(flags: &str) -> BTreeSet<String> {
        flags.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn built(cpv: &str, enabled: &str, build_id: u64) -> Built {
        Built { cpv: cpv.parse().unwrap(), enabled: set(enabled), build_id: Some(build_id) }
    }

    fn wanted(cpv: &str, enabled: &str, said: &str, build_id: Option<u64>) -> Wanted {
        let flags = Some(Flags { enabled: set(enabled), said: set(said) });
        Wanted { cpv: cpv.parse().unwrap(), flags, build_id }
    }

    #[test]
    fn a_package_is_there_or_it_is_said_what_is_lacking() {
        let index = [
            built("a/b-1.9", "x", 1),
            built("a/b-1.10", "x y", 2),
            built("a/b-1.10", "x", 3),
            built("a/bb-2", "", 1),
        ];
        for (wanted, builds, expected) in [
            (wanted("a/b-1.10", "x", "x y", Some(3)), Builds::Same, None),
            (wanted("a/b-1.10", "x", "x y", None), Builds::Same, None),
            (wanted("a/b-1.10", "x", "x y", Some(9)), Builds::Same, Some(Lack::Build(vec![3]))),
            (wanted("a/b-1.10", "x", "x y", Some(9)), Builds::Any, None),
            (wanted("a/b-1.10", "y", "x y", None), Builds::Any, Some(Lack::Flags(vec!["-x".to_owned()]))),
            (wanted("a/b-1.11", "", "", None), Builds::Any, Some(Lack::Version("1.10".to_owned()))),
            (wanted("a/c-1", "", "", None), Builds::Any, Some(Lack::Package)),
            (Wanted { flags: None, ..wanted("a/b-1.9", "", "", None) }, Builds::Same, None),
        ] {
            assert_eq!(lack(&wanted, &index, builds), expected, "{wanted:?}");
        }
    }

    #[test]
    fn what_emerge_prints_is_read() {
        let text = "These are the packages that would be merged, in order:\n\n\
            [ebuild  N     ] app-misc/hello-2.10-r1::gentoo  USE=\"nls* -static%\" PYTHON_TARGETS=\"python3_12 (-python3_13)\" 0 KiB\n\
            [binary   R   ~] app-misc/thing-1.0-3:0/2::gentoo  USE=\"(split-usr) {-test}\" 12 KiB\n\
            [blocks B      ] app-misc/other (\"app-misc/other\" is soft blocking app-misc/hello-2.10)\n\
            [ebuild     U  ] dev-lang/bare-3 [2]\n\
            Total: 3 packages\n";
        let found = of_emerge(text);
        assert_eq!(found.len(), 3);
        assert_eq!(
            found[0],
            wanted(
                "app-misc/hello-2.10-r1",
                "nls python_targets_python3_12",
                "nls static python_targets_python3_12 python_targets_python3_13",
                None
            )
        );
        assert_eq!(found[1], wanted("app-misc/thing-1.0", "split-usr", "split-usr test", Some(3)));
        assert_eq!((found[2].cpv.to_string().as_str(), &found[2].flags), ("dev-lang/bare-3", &None));
    }
}
