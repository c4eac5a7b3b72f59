//! `profile.toml`: what a publisher says that a machine follows.
//!
//! It comes from outside and is read as such: a bounded length, the shape of a target's table in the configuration and
//! nothing else, directories that are meant as they are written. What it may do on this host is decided in
//! [`super::permit`], not here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::name::{Channel, RefQuery};

use super::merge::{Given, Layer, Section};
use crate::after::check::Check;
use crate::after::trigger::Trigger;
use crate::config::{TargetConfig, place_of};
use crate::failure::{Exit, Failure};
use crate::reference;

/// The file of a profile's tree.
pub const FILE: &str = "profile.toml";
/// The largest one that is read.
pub const BYTES_MAX: u64 = 256 << 10;
/// The most targets of one profile.
const TARGETS_MAX: usize = 64;
/// The most profiles that one names.
const EXTENDS_MAX: usize = 16;
/// The longest path of a target.
const PATH_BYTES_MAX: usize = 1024;
/// How much of a message is shown that may repeat what is in the file.
const MESSAGE_CHARS_MAX: usize = 500;

/// A profile that another one builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    /// Its channel.
    pub channel: Channel,
    /// Its ref.
    pub reference: RefQuery,
}

/// A profile, as its publisher wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it builds on, in the order in which later ones go before earlier ones.
    pub extends: Vec<Extended>,
    /// What it says itself.
    pub layer: Layer,
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    extends: Vec<Extended>,
    #[serde(default)]
    targets: BTreeMap<TargetPath, TargetConfig>,
}

/// A directory as a profile may name it: the path that is written is the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TargetPath(PathBuf);

impl Document {
    /// Parses the file of a profile. `name` is what it is called in messages.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Failure> {
        let at = |line: usize, key: &dyn fmt::Display, message: &str| {
            let text = format!("{name}, {FILE} line {line}{key}: {message}");
            wrong(&text.chars().take(MESSAGE_CHARS_MAX).collect::<String>())
        };
        if bytes.len() as u64 > BYTES_MAX {
            return Err(too_large(name));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            at(bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count(), &"", "it is not UTF-8")
        })?;
        let file: File = toml::from_str(text).map_err(|error| {
            let (line, key) = place_of(text, &error);
            at(line, &key, error.message())
        })?;
        if file.targets.len() > TARGETS_MAX || file.extends.len() > EXTENDS_MAX {
            return Err(wrong(&format!(
                "{name}: a profile names at most {TARGETS_MAX} targets and {EXTENDS_MAX} other profiles"
            )));
        }
        let layer = Layer::read(name, text);
        for section in &layer.sections {
            if let Some(given) = section.keys.get("realm").or_else(|| section.keys.get("source")) {
                return Err(at(
                    given.from.line,
                    &"",
                    "a profile names channels of its own realm and no servers",
                ));
            }
            check_values(section, &file.targets[&TargetPath(section.directory.clone())])
                .map_err(|(line, mistake)| at(line, &"", &mistake))?;
        }
        Ok(Self { extends: file.extends, layer })
    }
}

/// Refuses a directory that is about to be published as a profile, and is none.
pub fn check_directory(path: &Path) -> Result<(), Failure> {
    let file = path.join(FILE);
    let bytes = std::fs::read(&file)
        .map_err(|error| Failure::from(error).context(format!("reading {}", file.display())))?;
    Document::parse(&path.display().to_string(), &bytes).map(drop)
}

/// What the types do not tell of the values of a target.
fn check_values(section: &Section, config: &TargetConfig) -> Result<(), (usize, String)> {
    let line = |key: &str| section.keys.get(key).map_or(section.line, |given: &Given| given.from.line);
    let run = config.run.iter().filter_map(Trigger::mistake).map(|mistake| (line("run"), mistake));
    let check = config.check.iter().filter_map(Check::mistake).map(|mistake| (line("check"), mistake));
    run.chain(check).next().map_or(Ok(()), Err)
}

/// The refusal of a file that is too large to be a profile.
pub(super) fn too_large(name: &str) -> Failure {
    wrong(&format!("{name}, {FILE}: it is larger than {} KiB", BYTES_MAX >> 10))
}

fn wrong(message: &str) -> Failure {
    Failure::message(Exit::Configuration, Shown(message.as_bytes()).to_string())
        .hint("nothing was changed; whoever publishes the profile has to repair it")
}

impl FromStr for TargetPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = text.strip_prefix('/').ok_or("the path of a target is not absolute")?;
        if text.len() > PATH_BYTES_MAX || text.contains('\0') {
            return Err("the path of a target is too long, or holds a NUL");
        }
        // An overlay may be laid over all there is, where the host says so.
        if !names.is_empty() && names.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err("the path of a target is written without `.`, `..`, `//` and a slash at its end");
        }
        Ok(Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for TargetPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Extended {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (channel, reference) = match text.split_once('@') {
            Some((channel, reference)) => {
                (channel, reference::parse(reference).map_err(|error| error.to_string())?)
            }
            None => (text, reference::main()),
        };
        let channel = channel.parse().map_err(|error: smart_sync_sync::name::NameError| error.to_string())?;
        Ok(Self { channel, reference })
    }
}

impl<'de> Deserialize<'de> for Extended {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
extends = ["profiles/common", "profiles/server@v3", "profiles/dated@main@2026-11-01"]
[targets."/srv/site"]
channel = "repos/site"
ref = "v2"
kind = "generations"
exclude-also = ["*.log"]
[[targets."/srv/site".run]]
command = ["reload"]
[[targets."/srv/site".check]]
tcp = "localhost:80"
[targets."/etc/nixos"]
channel = "repos/nixos"
"#;

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let failure = Document::parse("profiles/x", text.as_bytes()).unwrap_err();
        let message = failure.in_one_line();
        assert_eq!(message, format!("profiles/x{expected}"));
        assert_eq!(failure.exit(), Exit::Configuration);
    }

    #[test]
    fn a_profile_is_read_with_its_lines_and_in_its_order() {
        let document = Document::parse("profiles/x", GOOD.as_bytes()).unwrap();
        let extends: Vec<_> =
            document.extends.iter().map(|one| format!("{} {}", one.channel, one.reference)).collect();
        assert_eq!(
            extends,
            ["profiles/common main", "profiles/server v3", "profiles/dated main@2026-11-01T23:59:59Z"]
        );
        let [site, nixos] = &document.layer.sections[..] else { panic!("there are two targets") };
        assert_eq!((site.directory.to_str(), site.line), (Some("/srv/site"), 3));
        assert_eq!(nixos.directory.to_str(), Some("/etc/nixos"));
        let lines: Vec<_> = site.keys.iter().map(|(key, given)| (&**key, given.from.line)).collect();
        assert_eq!(
            lines,
            [("channel", 4), ("check", 10), ("exclude-also", 7), ("kind", 6), ("ref", 5), ("run", 8)]
        );
    }

    #[test]
    fn what_is_not_a_profile_is_refused_with_its_place() {
        refused("a = 1", ", profile.toml line 1, `a`: unknown field `a`, expected `extends` or `targets`");
        let target = |text: &str| format!("[targets.\"/a\"]\n{text}");
        refused(
            &target("source = \"github:o/r\""),
            ", profile.toml line 2: a profile names channels of its own realm and no servers",
        );
        refused(
            &target("realm = \"lab.example.org\""),
            ", profile.toml line 2: a profile names channels of its own realm and no servers",
        );
        refused(
            &target("[[targets.\"/a\".run]]\ncommand = []"),
            ", profile.toml line 2: the command of `run` names a program",
        );
        refused(
            &target("[[targets.\"/a\".check]]\ntcp = \"nowhere\""),
            ", profile.toml line 2: `nowhere` is not HOST:PORT",
        );
        let path = "the path of a target is written without `.`, `..`, `//` and a slash at its end";
        for wrong in ["//", "/a/../b", "/a/./b", "/a//b", "/a/"] {
            refused(
                &format!("\n[targets.\"{wrong}\"]"),
                &format!(", profile.toml line 2, `targets.\"{wrong}\"`: {path}"),
            );
        }
        refused(
            "[targets.\"a\"]",
            ", profile.toml line 1, `targets.\"a\"`: the path of a target is not absolute",
        );
        let many: Vec<String> = (0..65).map(|number| format!("[targets.\"/{number}\"]\n")).collect();
        refused(&many.concat(), ": a profile names at most 64 targets and 16 other profiles");
        let large = format!("# {}", "x".repeat(300_000));
        refused(&large, ", profile.toml: it is larger than 256 KiB");
    }

    #[test]
    fn hostile_text_is_bounded_and_shown_safely() {
        for nested in [format!("a = {}1", "[".repeat(100_000)), "[a".repeat(100_000), "a.".repeat(100_000)] {
            Document::parse("profiles/x", nested.as_bytes()).unwrap_err();
        }
        let failure = Document::parse("profiles/x", b"\"\\u001b[31m\" = 1").unwrap_err();
        let message = failure.messages().collect::<String>();
        assert!(!message.contains('\u{1b}'), "{message:?}");
        let long = format!("{} = 1", "x".repeat(200_000));
        let failure = Document::parse("profiles/x", long.as_bytes()).unwrap_err();
        assert!(failure.messages().collect::<String>().len() < 2000);
        Document::parse("profiles/x", b"a = \xff").unwrap_err();
    }
}
