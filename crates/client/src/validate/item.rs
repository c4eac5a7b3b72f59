//! A check of the host, as it is configured: data, and whether it makes sense.
//!
//! The checks that come with the program are written in the same way, so that whoever looks for how to write one finds
//! plenty.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use smart_sync_sync::exclude::Exclusions;

use super::values::{FileMode, Size};
use crate::config::Span;

/// How long a command may take that does not say otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A check. Exactly one of the kinds is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Item {
    /// What it is called in messages.
    pub name: Option<String>,
    /// What it means when it is not well.
    #[serde(default)]
    pub severity: Severity,
    /// Whether it is also made with `--quick`; decided by its kind when left out.
    pub quick: Option<bool>,

    /// A directory that is there.
    pub directory: Option<String>,
    /// A file that is there.
    pub file: Option<String>,
    /// A symbolic link that leads to something.
    pub link: Option<String>,
    /// Files that are executable, by a pattern.
    pub executable: Option<String>,
    /// A path that, with everything below it, belongs to `owner`.
    pub owned: Option<String>,
    /// A device.
    pub device: Option<String>,
    /// A file that holds JSON.
    pub json: Option<String>,
    /// A directory with a flake of Nix.
    pub flake: Option<String>,
    /// A program that is found by its name.
    pub program: Option<String>,
    /// A program and its arguments, which ends with 0 where all is well.
    pub command: Option<Vec<String>>,
    /// A unit of systemd that is active.
    pub unit: Option<String>,
    /// A path on a file system with room.
    pub space: Option<String>,
    /// The least memory.
    pub memory: Option<Size>,
    /// Abilities of the processor of which it has one.
    pub processor: Option<Vec<String>>,

    /// Permission bits that a directory has.
    pub mode: Option<FileMode>,
    /// Permission bits that a directory is made with where it is missing; those of one that is there are its owner's.
    pub make: Option<FileMode>,
    /// A user, or `USER:GROUP`.
    pub owner: Option<String>,
    /// An input that a flake has.
    pub input: Option<String>,
    /// A configuration of NixOS that a flake has.
    pub host: Option<String>,
    /// The least room.
    pub at_least: Option<Size>,
    /// Less room is worth a warning.
    pub warn_below: Option<Size>,
    /// A command that repairs it.
    pub fix: Option<Vec<String>>,
    /// What to do about it, for people.
    pub hint: Option<String>,
    /// How long a command may take.
    pub timeout: Option<Span>,
}

/// What it means when a check is not well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The host is not fit for an update.
    #[default]
    Fail,
    /// Somebody should look at it.
    Warn,
}

/// What a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'i> {
    /// A directory.
    Directory(&'i str),
    /// A file.
    File(&'i str),
    /// A symbolic link.
    Link(&'i str),
    /// A pattern of files.
    Executable(&'i str),
    /// A path and what is below it.
    Owned(&'i str),
    /// A device.
    Device(&'i str),
    /// A file of JSON.
    Json(&'i str),
    /// A flake.
    Flake(&'i str),
    /// A program.
    Program(&'i str),
    /// A command.
    Command(&'i [String]),
    /// A unit.
    Unit(&'i str),
    /// A file system.
    Space(&'i str),
    /// The memory.
    Memory(Size),
    /// The processor.
    Processor(&'i [String]),
}

/// Where a check stands: that of a target looks at paths below its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the list of the host.
    Host,
    /// In the table of a target.
    Target,
}

impl Item {
    /// What it looks at; nothing if that is none or several things.
    pub fn subject(&self) -> Option<Subject<'_>> {
        let mut subjects = self.subjects();
        let subject = subjects.next()?;
        subjects.next().is_none().then_some(subject)
    }

    fn subjects(&self) -> impl Iterator<Item = Subject<'_>> {
        type Kind<'i> = fn(&'i str) -> Subject<'i>;
        let texts: [(&Option<String>, Kind<'_>); 10] = [
            (&self.directory, Subject::Directory),
            (&self.file, Subject::File),
            (&self.link, Subject::Link),
            (&self.executable, Subject::Executable),
            (&self.owned, Subject::Owned),
            (&self.device, Subject::Device),
            (&self.json, Subject::Json),
            (&self.flake, Subject::Flake),
            (&self.program, Subject::Program),
            (&self.unit, Subject::Unit),
        ];
        texts
            .into_iter()
            .filter_map(|(text, kind)| text.as_deref().map(kind))
            .chain(self.space.as_deref().map(Subject::Space))
            .chain(self.command.as_deref().map(Subject::Command))
            .chain(self.memory.map(Subject::Memory))
            .chain(self.processor.as_deref().map(Subject::Processor))
    }

    /// Why this is not a check, if it is not.
    pub fn mistake(&self, standing: Standing) -> Option<String> {
        let Some(subject) = self.subject() else {
            return Some(
                "each `validate` looks at one thing: `directory`, `file`, `link`, `executable`, `owned`, `device`, \
                 `json`, `flake`, `program`, `command`, `unit`, `space`, `memory` or `processor`"
                    .to_owned(),
            );
        };
        let title = self.title();
        let mistake = self.particulars(subject).or_else(|| match subject {
            Subject::Command([]) => Some("the command names a program".to_owned()),
            Subject::Processor([]) => Some("`processor` names an ability".to_owned()),
            Subject::Executable(pattern) => wrong_pattern(pattern),
            _ => None,
        });
        let mistake = mistake.or_else(|| subject.path().and_then(|path| wrong_path(path, standing)));
        let mistake = mistake.or_else(|| {
            self.fix.as_ref().filter(|fix| fix.is_empty()).map(|_| "`fix` names a program".to_owned())
        });
        mistake.map(|mistake| format!("validate {title}: {mistake}"))
    }

    /// A key that means nothing here, or one that is missing.
    fn particulars(&self, subject: Subject<'_>) -> Option<String> {
        let given = [
            (self.mode.is_some(), "mode", matches!(subject, Subject::Directory(_))),
            (self.make.is_some(), "make", matches!(subject, Subject::Directory(_))),
            (self.owner.is_some(), "owner", matches!(subject, Subject::Owned(_))),
            (self.input.is_some(), "input", matches!(subject, Subject::Flake(_))),
            (self.host.is_some(), "host", matches!(subject, Subject::Flake(_))),
            (self.at_least.is_some(), "at-least", matches!(subject, Subject::Space(_))),
            (self.warn_below.is_some(), "warn-below", matches!(subject, Subject::Space(_))),
            (self.timeout.is_some(), "timeout", matches!(subject, Subject::Command(_) | Subject::Flake(_))),
            (self.fix.is_some(), "fix", !matches!(subject, Subject::Executable(_) | Subject::Owned(_))),
        ];
        let stray = given.iter().find(|(is_given, _, belongs)| *is_given && !belongs);
        if let Some((_, key, _)) = stray {
            return Some(format!("`{key}` has nothing to do with what it looks at"));
        }
        match subject {
            Subject::Owned(_) if self.owner.is_none() => Some("`owner` says whose it has to be".to_owned()),
            Subject::Space(_) if self.at_least.is_none() && self.warn_below.is_none() => {
                Some("`at-least` or `warn-below` says how much room there has to be".to_owned())
            }
            _ => None,
        }
    }

    /// What it is called.
    pub fn title(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        match self.subject() {
            Some(
                Subject::Directory(path) | Subject::File(path) | Subject::Link(path) | Subject::Device(path),
            ) => path.to_owned(),
            Some(Subject::Executable(pattern)) => format!("{pattern} is executable"),
            Some(Subject::Owned(path)) => {
                format!("{path} belongs to {}", self.owner.as_deref().unwrap_or_default())
            }
            Some(Subject::Json(path)) => format!("{path} is JSON"),
            Some(Subject::Flake(path)) => format!("the flake in {path}"),
            Some(Subject::Program(name)) => format!("the program {name}"),
            Some(Subject::Command(words)) => words.join(" "),
            Some(Subject::Unit(name)) => name.to_owned(),
            Some(Subject::Space(path)) => format!("room in {path}"),
            Some(Subject::Memory(_)) => "memory".to_owned(),
            Some(Subject::Processor(abilities)) => format!("a processor with {}", abilities.join(" or ")),
            None => "?".to_owned(),
        }
    }

    /// Whether `--quick` makes it as well: services, tools and what may take long are left out.
    pub fn is_quick(&self) -> bool {
        self.quick.unwrap_or_else(|| {
            !matches!(
                self.subject(),
                Some(
                    Subject::Command(_)
                        | Subject::Unit(_)
                        | Subject::Program(_)
                        | Subject::Flake(_)
                        | Subject::Owned(_)
                )
            )
        })
    }

    /// How long a command may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(TIMEOUT, |span| span.0)
    }
}

impl<'i> Subject<'i> {
    /// The path or pattern that it looks at.
    const fn path(self) -> Option<&'i str> {
        match self {
            Self::Directory(path)
            | Self::File(path)
            | Self::Link(path)
            | Self::Executable(path)
            | Self::Owned(path)
            | Self::Device(path)
            | Self::Json(path)
            | Self::Flake(path)
            | Self::Space(path) => Some(path),
            _ => None,
        }
    }
}

fn wrong_path(path: &str, standing: Standing) -> Option<String> {
    let is_odd = |part: &str| matches!(part, "." | "..") || part.chars().any(char::is_control);
    if path.is_empty() || path.split('/').any(is_odd) {
        return Some(format!("`{}` is not a plain path", path.escape_debug()));
    }
    (standing == Standing::Host && !Path::new(path).is_absolute())
        .then(|| format!("`{path}` is not absolute; paths below a tree stand in the table of its target"))
}

fn wrong_pattern(pattern: &str) -> Option<String> {
    let (_, rest) = split_pattern(pattern);
    if rest.is_empty() {
        return None;
    }
    Exclusions::new([rest.as_str()]).err().map(|error| error.to_string())
}

/// The directory that a pattern begins with, and what is a pattern below it, tied to that directory; the latter is
/// empty where it is a plain path.
pub(super) fn split_pattern(pattern: &str) -> (&str, String) {
    let Some(wild) = pattern.find(['*', '?', '[', '{', '\\']) else { return (pattern, String::new()) };
    let end = pattern[..wild].rfind('/').map_or(0, |slash| slash + 1);
    (&pattern[..end], format!("/{}", &pattern[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, standing: Standing, expected: Option<&str>) {
        let item: Item = toml::from_str(text).unwrap();
        let mistake = item.mistake(standing);
        assert_eq!(mistake.is_some(), expected.is_some(), "{text}: {mistake:?}");
        assert!(mistake.is_none_or(|mistake| mistake.contains(expected.unwrap_or_default())), "{text}");
    }

    #[test]
    fn a_check_looks_at_one_thing_and_says_nothing_about_others() {
        let host = Standing::Host;
        check("directory = \"/a\"\nmode = \"0750\"", host, None);
        check("directory = \"/a\"\nmake = \"0750\"", host, None);
        check("device = \"/a\"\nmake = \"0750\"", host, Some("`make`"));
        check("space = \"/\"\nat-least = \"5G\"", host, None);
        check("json = \"/a\"\nfix = [\"make\"]", host, None);
        check("name = \"nothing\"", host, Some("looks at one thing"));
        check("directory = \"/a\"\nfile = \"/a\"", host, Some("looks at one thing"));
        check("file = \"/a\"\nmode = \"0750\"", host, Some("`mode`"));
        check("owned = \"/a\"", host, Some("`owner`"));
        check("space = \"/\"", host, Some("`at-least`"));
        check("command = []", host, Some("names a program"));
        check("file = \"/a\"\nfix = []", host, Some("`fix`"));
        check("executable = \"/a\"\nfix = [\"x\"]", host, Some("`fix`"));
    }

    #[test]
    fn paths_are_plain_and_those_of_a_host_absolute() {
        check("file = \"a/b\"", Standing::Target, None);
        check("file = \"a/b\"", Standing::Host, Some("not absolute"));
        for path in ["", "../x", "/a/../b", "/a/./b", "a\\nb"] {
            check(&format!("file = \"{path}\""), Standing::Target, Some("not a plain path"));
        }
        check("executable = \"scripts/[a\"", Standing::Target, Some("[a"));
        assert_eq!(split_pattern("/a/b/*.sh"), ("/a/b/", "/*.sh".to_owned()));
        assert_eq!(split_pattern("**/x/*.sh"), ("", "/**/x/*.sh".to_owned()));
        assert_eq!(split_pattern("/a/b"), ("/a/b", String::new()));
    }
}
