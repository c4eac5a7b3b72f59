//! The configuration of Portage, rendered from lists in the tree.
//!
//! ```text
//! common.uses     17.1/desktop.uses     package.use/smart-sync
//! common.keys     17.1/desktop.keys     package.accept_keywords/smart-sync
//! common.mask     …                     package.mask/smart-sync
//! common.unmask                         package.unmask/smart-sync
//! common.license                        package.license/smart-sync
//! common.pkgs                           sets/smart-sync
//! common.conf                           make.conf/smart-sync, or make.conf.smart-sync
//! ```
//!
//! What is common comes first and what the profile says behind it. Only files of our own name are ever written, and
//! everything is read and judged before the first of them is: what has a program run, or is not what Portage would take,
//! is refused as a whole. Scripts that lie beside the lists are not looked at.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use smart_sync_store::manifest::TreePath;
use smart_sync_sync::apply::step::Steps;
use smart_sync_sync::apply::tree_dir::{RootLink, TreeDir};

use super::emerge::{is_atom, is_set};
use super::place::{place, remove};
use super::step::{BuiltIn, Step};
use super::{Stage, shown};
use crate::config::AbsolutePath;
use crate::output::Output;

/// Where Portage is configured.
const INTO: &str = "/etc/portage";
/// The name of every file that is written.
const NAME: &str = "smart-sync";
/// The longest list.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// What stands at the top of every file.
const HEADER: &str = "# Written by smart-sync; the next update writes it again.\n";

/// How Portage is configured from the tree, as it is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Portage {
    /// The lists beside those that are common, such as `17.1/desktop`.
    pub profile: Option<String>,
    /// The directory of the tree that the lists are in; the tree itself where it is left out.
    pub from: Option<String>,
    /// Where they go: `/etc/portage` where it is left out.
    pub into: Option<AbsolutePath>,
}

/// Configuration that is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Render {
    from: PathBuf,
    profile: Option<String>,
    into: PathBuf,
}

/// A list, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct List {
    end: &'static str,
    directory: &'static str,
    holds: Holds,
}

/// What a line of a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A package.
    Package,
    /// A package or a set.
    PackageOrSet,
    /// A package, and words for it.
    PackageAndWords,
}

const LISTS: [List; 6] = [
    List { end: "uses", directory: "package.use", holds: Holds::PackageAndWords },
    List { end: "keys", directory: "package.accept_keywords", holds: Holds::PackageAndWords },
    List { end: "mask", directory: "package.mask", holds: Holds::Package },
    List { end: "unmask", directory: "package.unmask", holds: Holds::Package },
    List { end: "license", directory: "package.license", holds: Holds::PackageAndWords },
    List { end: "pkgs", directory: "sets", holds: Holds::PackageOrSet },
];
/// The end of the name of lines for `make.conf`.
const CONF: &str = "conf";

impl Portage {
    /// Why this cannot be done.
    pub(super) fn mistake(&self) -> Option<String> {
        let wrong = |path: &String| TreePath::new(path.as_bytes()).is_err() || path.is_empty();
        let path = [&self.profile, &self.from].into_iter().flatten().find(|path| wrong(path))?;
        Some(format!("`{path}` is no path of a tree"))
    }

    /// What it is called.
    pub(super) const fn title() -> &'static str {
        "configuring Portage"
    }

    /// What is done; for a tree that is gone back to as for a new one.
    pub(super) fn steps(&self, stage: Stage, tree: &Path) -> Vec<Step> {
        if stage == Stage::Confirmed {
            return Vec::new();
        }
        let render = Render {
            from: self.from.as_ref().map_or_else(|| tree.to_owned(), |from| tree.join(from)),
            profile: self.profile.clone(),
            into: self.into.as_ref().map_or_else(|| PathBuf::from(INTO), |into| into.0.clone()),
        };
        vec![Step::built_in(Self::title(), BuiltIn::Render(render))]
    }
}

impl Render {
    /// Writes what the tree says, and removes what it does not say any more.
    pub(super) fn perform(&self, output: &Output) -> Result<(), String> {
        let tree = TreeDir::open(&self.from, RootLink::Follow, Steps::default())
            .map_err(|error| error.to_string())?;
        let texts = |end: &str| self.read(&tree, end);
        let mut is_profile_known = false;
        let mut rendered = Vec::new();
        for list in LISTS {
            let texts = texts(list.end)?;
            is_profile_known |= texts.iter().any(|(_, of)| *of == Of::Profile);
            rendered.push((list, joined(&texts, |text| judge_list(text, list.holds))?));
        }
        let conf = texts(CONF)?;
        is_profile_known |= conf.iter().any(|(_, of)| *of == Of::Profile);
        let conf = joined(&conf, judge_conf)?;
        if let Some(profile) = self.profile.as_ref().filter(|_| !is_profile_known) {
            return Err(format!("the tree has nothing of the profile {profile}"));
        }
        let make_conf = self.into.join("make.conf");
        let (conf_directory, conf_name) = if make_conf.is_dir() {
            (make_conf.clone(), NAME.to_owned())
        } else {
            (self.into.clone(), format!("make.conf.{NAME}"))
        };
        for (list, text) in &rendered {
            self.check_place(list.directory, text.as_deref())?;
        }
        for (list, text) in &rendered {
            write(&self.into.join(list.directory), NAME, text.as_deref())?;
        }
        write(&conf_directory, &conf_name, conf.as_deref())?;
        if conf.is_some() && conf_directory == self.into {
            self.tell_source(&make_conf, &conf_name, output);
        }
        Ok(())
    }

    fn read(&self, tree: &TreeDir, end: &str) -> Result<Vec<(Text, Of)>, String> {
        let common = (format!("common.{end}"), Of::All);
        let profile = self.profile.as_ref().map(|profile| (format!("{profile}.{end}"), Of::Profile));
        let mut texts = Vec::new();
        for (path, of) in [Some(common), profile].into_iter().flatten() {
            let failed = |error: &dyn std::fmt::Display| format!("{path}: {error}");
            if tree.stat(path.as_bytes()).map_err(|error| failed(&error))?.is_none() {
                continue;
            }
            let file = tree.open_file(path.as_bytes()).map_err(|error| failed(&error))?;
            let mut text = String::new();
            file.take(LIST_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
            if text.len() as u64 > LIST_BYTES_MAX {
                return Err(failed(&"it is longer than 1 MiB"));
            }
            texts.push((Text { path, text }, of));
        }
        Ok(texts)
    }

    /// A directory is what several can write into; a file belongs to somebody else.
    fn check_place(&self, directory: &str, text: Option<&str>) -> Result<(), String> {
        let place = self.into.join(directory);
        if text.is_none() || !place.is_file() {
            return Ok(());
        }
        let shown = shown(&place);
        Err(format!(
            "{shown} is a file: make it a directory (mv {shown} {shown}.own && mkdir {shown} && mv {shown}.own {shown}/own)"
        ))
    }

    fn tell_source(&self, make_conf: &Path, name: &str, output: &Output) {
        let path = self.into.join(name);
        let is_read = fs::read_to_string(make_conf).is_ok_and(|text| text.contains(name));
        if !is_read {
            let (path, make_conf) = (shown(&path), shown(make_conf));
            output.warning(&format!("nothing reads {path} yet: add the line `source {path}` to {make_conf}"));
        }
    }

    pub(super) fn shown(&self) -> String {
        let profile =
            self.profile.as_deref().map_or_else(String::new, |profile| format!(" and of {profile}"));
        format!("write what is common{profile} in {} to {}", shown(&self.from), shown(&self.into))
    }
}

/// A list as it is in the tree.
struct Text {
    path: String,
    text: String,
}

/// For whom a list is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    Profile,
}

/// The texts one behind the other, if all are what they have to be; nothing if there are none.
fn joined(
    texts: &[(Text, Of)],
    judge: impl Fn(&str) -> Result<(), String>,
) -> Result<Option<String>, String> {
    let mut joined = HEADER.to_owned();
    for (Text { path, text }, _) in texts {
        judge(text).map_err(|reason| format!("{path}: {reason}"))?;
        joined.push_str(text);
        joined.push_str(if text.ends_with('\n') { "" } else { "\n" });
    }
    Ok((!texts.is_empty()).then_some(joined))
}

fn write(directory: &Path, name: &str, text: Option<&str>) -> Result<(), String> {
    let Some(text) = text else { return remove(directory, &[name.to_owned()]) };
    if fs::read(directory.join(name)).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let made = fs::create_dir_all(directory);
    made.map_err(|error: io::Error| format!("{} cannot be made: {error}", shown(directory)))?;
    place(directory, name, 0o644, text.as_bytes())
}

/// Whether a list is what Portage takes, line by line.
fn judge_list(text: &str, holds: Holds) -> Result<(), String> {
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| Err(format!("line {}: {what}", number + 1));
        if line.chars().any(|letter| letter.is_control() && letter != '\t') {
            return wrong("it has a control character");
        }
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(first) = words.next() else { continue };
        let is_taken = match holds {
            Holds::PackageOrSet => is_atom(first) || is_set(first),
            // What is masked can be unmasked again.
            Holds::Package => is_atom(first.strip_prefix('-').unwrap_or(first)),
            Holds::PackageAndWords => is_atom(first),
        };
        if !is_taken {
            return wrong(&format!("`{first}` is not a package, such as app-editors/vim"));
        }
        let wrong_word = words.find(|word| holds != Holds::PackageAndWords || !is_word(word));
        if let Some(word) = wrong_word {
            return wrong(&format!("`{word}` does not belong there"));
        }
    }
    Ok(())
}

/// A USE flag, a keyword, a license, or the group of flags that those behind it are of.
fn is_word(word: &str) -> bool {
    word.len() <= 200
        && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "_+-.@*~:".contains(letter))
}

/// Whether lines for `make.conf` are assignments, and none has a program run or is for the host to decide.
fn judge_conf(text: &str) -> Result<(), String> {
    if text.contains('\0') || text.chars().any(|letter| letter.is_control() && !"\t\n".contains(letter)) {
        return Err("it has a control character".to_owned());
    }
    if text.contains('`') || text.contains("$(") {
        return Err("it would have a program run".to_owned());
    }
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(());
        }
        if let Some(comment) = rest.strip_prefix('#') {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let line = rest.lines().next().unwrap_or_default();
        let (name, value) = rest.split_once('=').ok_or_else(|| format!("`{line}` is not NAME=\"value\""))?;
        let is_name = !name.is_empty()
            && name
                .chars()
                .all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_');
        if !is_name {
            return Err(format!("`{line}` is not NAME=\"value\""));
        }
        if is_for_the_host(name) {
            return Err(format!("{name} is for the host to decide"));
        }
        rest = behind_value(value).ok_or_else(|| format!("the value of {name} does not end"))?;
    }
}

fn is_for_the_host(name: &str) -> bool {
    let starts = ["PORTAGE_", "LD_", "BASH"];
    name.contains("COMMAND")
        || starts.iter().any(|start| name.starts_with(start))
        || matches!(name, "PATH" | "ROOT" | "SYSROOT")
}

/// What stands behind a value, which may have several lines where it is in quotes.
fn behind_value(value: &str) -> Option<&str> {
    let Some(quote) = value.chars().next().filter(|letter| matches!(letter, '"' | '\'')) else {
        let end = value.find(char::is_whitespace).unwrap_or(value.len());
        return (!value[..end].contains(['"', '\'', ';', '\\'])).then_some(&value[end..]);
    };
    let mut is_escaped = false;
    for (at, letter) in value.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if quote == '"' => is_escaped = true,
            _ if letter == quote => {
                let rest = &value[at + 1..];
                return rest
                    .starts_with(|letter: char| letter.is_whitespace())
                    .then_some(rest)
                    .or_else(|| rest.is_empty().then_some(rest));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_what_portage_takes() {
        #[track_caller]
        fn check(text: &str, holds: Holds, expected: Result<(), &str>) {
            assert_eq!(judge_list(text, holds), expected.map_err(ToOwned::to_owned), "{text}");
        }
        let uses = "# of all\n\n*/* -X VIDEO_CARDS: -* amdgpu\n>=dev-lang/rust-1.90 clippy # for work\n";
        check(uses, Holds::PackageAndWords, Ok(()));
        check("app-misc/a ~amd64 **", Holds::PackageAndWords, Ok(()));
        check("app-misc/a @FREE Some-1.0+", Holds::PackageAndWords, Ok(()));
        check("app-misc/a\n@smart-home", Holds::PackageOrSet, Ok(()));
        check("-app-misc/a", Holds::Package, Ok(()));
        check("app-misc/a b", Holds::Package, Err("line 1: `b` does not belong there"));
        let no_package = Err("line 2: `rm` is not a package, such as app-editors/vim");
        check("\nrm -rf /", Holds::PackageAndWords, no_package);
        let no_set = Err("line 1: `@world` is not a package, such as app-editors/vim");
        check("@world", Holds::Package, no_set);
        check("a/b $(id)", Holds::PackageAndWords, Err("line 1: `$(id)` does not belong there"));
        check("a/b \u{1b}[2J", Holds::PackageAndWords, Err("line 1: it has a control character"));
    }

    #[test]
    fn lines_for_make_conf_are_assignments() {
        #[track_caller]
        fn check(text: &str, expected: Result<(), &str>) {
            assert_eq!(judge_conf(text), expected.map_err(ToOwned::to_owned), "{text}");
        }
        check("# all\nUSE=\"a -b\n  c \\\" d\"\nMAKEOPTS=-j4 # here\nA='x' ", Ok(()));
        check("FEATURES=\"${FEATURES} buildpkg\"", Ok(()));
        check("source /etc/passwd", Err("`source /etc/passwd` is not NAME=\"value\""));
        check("rm -rf / ; A=b", Err("`rm -rf / ; A=b` is not NAME=\"value\""));
        check("A=\"$(id)\"", Err("it would have a program run"));
        check("FETCHCOMMAND=\"x\"", Err("FETCHCOMMAND is for the host to decide"));
        check("PORTAGE_BINHOST=\"http://x\"", Err("PORTAGE_BINHOST is for the host to decide"));
        check("A=\"b", Err("the value of A does not end"));
        check("A=b;C=d", Err("the value of A does not end"));
        check("A=\"b\"id", Err("the value of A does not end"));
    }

    #[test]
    fn paths_that_lead_out_of_the_tree_are_mistakes() {
        let mistake = |text: &str| toml::from_str::<Portage>(text).unwrap().mistake();
        assert_eq!(mistake("profile = '17.1/desktop'\nfrom = 'packages'"), None);
        assert_eq!(mistake("profile = '../x'").unwrap(), "`../x` is no path of a tree");
        assert_eq!(mistake("from = '/etc'").unwrap(), "`/etc` is no path of a tree");
    }
}
