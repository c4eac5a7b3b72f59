//! Looking at what a check is about. Nothing is changed here: what could be done is returned as data.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use indicatif::HumanBytes;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::exclude::Exclusions;

use super::item::{Item, Severity, Subject, split_pattern};
use super::owners::Owner;
use super::repair::Repair;
use super::walk::walk;
use super::{flake, machine};
use crate::after::process;
use crate::interrupt::Interrupt;
use crate::output::count;
use crate::programs;

/// Lines of a failed command that are shown.
const LINES: usize = 5;
/// Paths that are named where several are not as they should be.
const NAMED: usize = 3;
/// The largest file that is read as a whole.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All is well, and why.
    Well(String),
    /// There was nothing to look at, and why.
    Skipped(String),
    /// It is not.
    Wrong {
        /// Why.
        text: String,
        /// What it means, where that is not for the check to say.
        severity: Option<Severity>,
        /// What would repair it.
        repairs: Vec<Repair>,
    },
}

/// How thoroughly it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only what takes no time.
    Quick,
    /// At everything.
    Full,
}

/// Where paths are looked for, and what may be done about them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    /// What paths that are not absolute lie below.
    pub(super) base: &'a Path,
    /// Whether files below may be repaired: those of versions that are kept may not.
    pub(super) is_changeable: bool,
    /// How thoroughly it is looked.
    pub(super) depth: Depth,
    /// Whether to go on.
    pub(super) interrupt: &'a Interrupt,
}

/// Looks at what a check is about.
pub(super) fn look(item: &Item, ground: Ground<'_>) -> Verdict {
    let Some(subject) = item.subject() else { return wrong("it says nothing to look at") };
    let verdict = match subject {
        Subject::Directory(path) => directory(&ground.base.join(path), item),
        Subject::File(path) => of_kind(&ground.base.join(path), "a file", fs::Metadata::is_file),
        Subject::Device(path) => of_kind(&ground.base.join(path), "a device", |found| {
            found.file_type().is_char_device() || found.file_type().is_block_device()
        }),
        Subject::Link(path) => link(&ground.base.join(path)),
        Subject::Executable(pattern) => executable(pattern, ground.base),
        Subject::Owned(path) => owned(&ground.base.join(path), item.owner.as_deref().unwrap_or_default()),
        Subject::Json(path) => json(&ground.base.join(path)),
        Subject::Flake(path) => flake::look(&ground.base.join(path), item, ground),
        Subject::Program(name) => match programs::find(name) {
            Some(path) => Verdict::Well(format!("it is {}", shown(&path))),
            None => wrong("it is not in the PATH"),
        },
        Subject::Command(words) => command(words, item, ground),
        Subject::Unit(name) => unit(name, item, ground),
        Subject::Space(path) => machine::space(&ground.base.join(path), item),
        Subject::Memory(least) => machine::memory(least, &read("/proc/meminfo")),
        Subject::Processor(abilities) => machine::processor(abilities, &read("/proc/cpuinfo")),
    };
    repairable(verdict, item, ground)
}

pub(super) fn wrong(text: impl Into<String>) -> Verdict {
    Verdict::Wrong { text: text.into(), severity: None, repairs: Vec::new() }
}

fn repaired_by(text: String, repairs: Vec<Repair>) -> Verdict {
    Verdict::Wrong { text, severity: None, repairs }
}

/// Adds the command that is configured, and takes away what would change a version that is kept.
fn repairable(verdict: Verdict, item: &Item, ground: Ground<'_>) -> Verdict {
    let Verdict::Wrong { mut text, severity, mut repairs } = verdict else { return verdict };
    if let Some(words) = &item.fix {
        repairs = vec![Repair::Run {
            words: words.clone(),
            directory: ground.base.to_owned(),
            timeout: item.timeout(),
        }];
    }
    if !ground.is_changeable && !repairs.is_empty() {
        repairs.clear();
        text.push_str("; a version that is kept is not changed: publish it as it should be");
    }
    Verdict::Wrong { text, severity, repairs }
}

pub(super) fn shown(path: &Path) -> String {
    Shown(path.as_os_str().as_encoded_bytes()).to_string()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A file of any size is not read as a whole.
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let found = fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a file".to_owned());
    }
    if found.len() > FILE_BYTES_MAX {
        return Err(format!("it is larger than {}", HumanBytes(FILE_BYTES_MAX)));
    }
    fs::read(path).map_err(|error| error.to_string())
}

fn directory(path: &Path, item: &Item) -> Verdict {
    let mode = item.mode.map(|mode| mode.0);
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A directory of another program is not made: that would be an empty one in the place of what is missing.
            let mode = item.make.map(|mode| mode.0).or(mode);
            let repair = mode.map(|mode| Repair::MakeDirectory { path: path.to_owned(), mode });
            repaired_by("it is not there".to_owned(), repair.into_iter().collect())
        }
        Err(error) => wrong(error.to_string()),
        Ok(found) if !found.is_dir() => wrong("it is not a directory"),
        Ok(found) => match mode {
            Some(mode) if found.mode() & 0o7777 != mode => repaired_by(
                format!("its mode is {:04o} and not {mode:04o}", found.mode() & 0o7777),
                vec![Repair::SetMode { path: path.to_owned(), mode }],
            ),
            _ => Verdict::Well("it is there".to_owned()),
        },
    }
}

fn of_kind(path: &Path, kind: &str, is: impl Fn(&fs::Metadata) -> bool) -> Verdict {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => wrong("it is not there"),
        Err(error) => wrong(error.to_string()),
        Ok(found) if is(&found) => Verdict::Well("it is there".to_owned()),
        Ok(_) => wrong(format!("it is not {kind}")),
    }
}

fn link(path: &Path) -> Verdict {
    match fs::read_link(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => wrong("it is not there"),
        Err(_) => wrong("it is not a symbolic link"),
        Ok(target) if path.exists() => Verdict::Well(format!("it leads to {}", shown(&target))),
        Ok(target) => wrong(format!("it leads to {}, which is not there", shown(&target))),
    }
}

fn executable(pattern: &str, base: &Path) -> Verdict {
    let (directory, rest) = split_pattern(pattern);
    let directory = base.join(directory);
    let found = if rest.is_empty() {
        fs::symlink_metadata(&directory).map(|found| vec![(directory.clone(), found)]).unwrap_or_default()
    } else {
        let Ok(patterns) = Exclusions::new([rest.as_str()]) else { return wrong("the pattern is not one") };
        let files = walk(&directory, |path| patterns.names(path.as_os_str().as_encoded_bytes(), false));
        match files {
            Ok(files) => files,
            Err(reason) => return wrong(reason),
        }
    };
    let files: Vec<_> = found.into_iter().filter(|(_, found)| found.is_file()).collect();
    if files.is_empty() {
        return if rest.is_empty() {
            wrong("it is not there")
        } else {
            Verdict::Skipped("no file is named so".to_owned())
        };
    }
    let number = files.len() as u64;
    // Who may read it may run it.
    let wanted = |mode: u32| mode | ((mode & 0o444) >> 2) | 0o100;
    let repairs: Vec<Repair> = (files.into_iter())
        .filter(|(_, found)| found.mode() & 0o100 == 0)
        .map(|(path, found)| Repair::SetMode { path, mode: wanted(found.mode() & 0o7777) })
        .collect();
    if repairs.is_empty() {
        return Verdict::Well(count(number, "file is", "files are"));
    }
    repaired_by(format!("not so: {}", named(&repairs)), repairs)
}

fn owned(path: &Path, owner: &str) -> Verdict {
    let owner = match Owner::find(owner, &read("/etc/passwd"), &read("/etc/group")) {
        Ok(owner) => owner,
        Err(reason) => return wrong(reason),
    };
    let top = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return wrong("it is not there"),
        Err(error) => return wrong(error.to_string()),
        Ok(found) => (path.to_owned(), found),
    };
    let below = match walk(path, |_| true) {
        Ok(below) => below,
        Err(reason) => return wrong(reason),
    };
    // A link has an owner that nobody asks for.
    let all = std::iter::once(top).chain(below).filter(|(_, found)| !found.is_symlink());
    let mut number = 0;
    let repairs: Vec<Repair> = all
        .inspect(|_| number += 1)
        .filter(|(_, found)| !owner.is_of(found.uid(), found.gid()))
        .map(|(path, _)| Repair::SetOwner { path, owner: owner.clone() })
        .collect();
    if repairs.is_empty() {
        let paths = count(number, "path belongs", "paths belong");
        return Verdict::Well(format!("{paths} to {owner}"));
    }
    repaired_by(format!("not so: {}", named(&repairs)), repairs)
}

/// The first paths of several, and how many more there are.
fn named(repairs: &[Repair]) -> String {
    let paths = repairs.iter().filter_map(Repair::path).map(shown);
    let first: Vec<String> = paths.take(NAMED).collect();
    let more = repairs.len().saturating_sub(NAMED) as u64;
    let more = if more > 0 { format!(", and {}", count(more, "other", "others")) } else { String::new() };
    format!("{}{more}", first.join(", "))
}

fn json(path: &Path) -> Verdict {
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(reason) => return wrong(reason),
    };
    match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        Ok(_) => Verdict::Well("it is".to_owned()),
        Err(error) => wrong(format!("it is not: {error}")),
    }
}

fn command(words: &[String], item: &Item, ground: Ground<'_>) -> Verdict {
    match run(words, item, ground) {
        Ok(_) => Verdict::Well("it ended with status 0".to_owned()),
        Err(reason) => wrong(reason),
    }
}

fn unit(name: &str, item: &Item, ground: Ground<'_>) -> Verdict {
    let words = ["systemctl", "is-active", "--", name].map(str::to_owned);
    match run(&words, item, ground) {
        Ok(_) => Verdict::Well("it is active".to_owned()),
        Err(reason) => wrong(format!("it is not active: {reason}")),
    }
}

/// Runs a command of a check; returns what it printed, or why it did not do what it was to do.
pub(super) fn run(words: &[String], item: &Item, ground: Ground<'_>) -> Result<String, String> {
    let [program, arguments @ ..] = words else { return Err("no program is named".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(ground.base).env_remove("SMART_SYNC_TOKEN");
    let timeout = item.timeout();
    let ran = process::run(&mut command, timeout, ground.interrupt)
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    if ran.is_success() {
        return Ok(String::from_utf8_lossy(&ran.output).into_owned());
    }
    let lines = ran.last_lines(LINES).join(" / ");
    let said = if lines.is_empty() { String::new() } else { format!(": {lines}") };
    Err(format!("it {}{said}", ran.how(timeout)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn item(text: &str) -> Item {
        let item: Item = toml::from_str(text).unwrap();
        assert_eq!(item.mistake(super::super::item::Standing::Target), None);
        item
    }

    fn look_at(base: &Path, text: &str) -> Verdict {
        let interrupt = Interrupt::quiet();
        look(&item(text), Ground { base, is_changeable: true, depth: Depth::Full, interrupt: &interrupt })
    }

    #[track_caller]
    fn check(base: &Path, text: &str, expected: &str) {
        let said = match look_at(base, text) {
            Verdict::Well(text) => format!("well: {text}"),
            Verdict::Skipped(text) => format!("skipped: {text}"),
            Verdict::Wrong { text, repairs, .. } => {
                let repairs: Vec<String> = repairs.iter().map(ToString::to_string).collect();
                let repairs = repairs.join("; ").replace(&shown(base), "BASE");
                format!("wrong: {}; repairs: {repairs}", text.replace(&shown(base), "BASE"))
            }
        };
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn files_directories_links_and_json() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        fs::create_dir(base.join("d")).unwrap();
        fs::set_permissions(base.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(base.join("f"), "{\"a\": [1]}").unwrap();
        fs::write(base.join("cut"), "{\"a\": [").unwrap();
        symlink("d", base.join("l")).unwrap();
        symlink("gone", base.join("broken")).unwrap();
        check(base, "directory = \"d\"", "well: it is there");
        check(base, "directory = \"l\"", "well: it is there");
        check(base, "directory = \"f\"", "wrong: it is not a directory; repairs: ");
        check(base, "directory = \"n\"", "wrong: it is not there; repairs: ");
        let repair = "make the directory BASE/n (mode 0750)";
        check(
            base,
            "directory = \"n\"\nmode = \"0750\"",
            &format!("wrong: it is not there; repairs: {repair}"),
        );
        let mode = "wrong: its mode is 0700 and not 0750; repairs: chmod 0750 BASE/d";
        check(base, "directory = \"d\"\nmode = \"0750\"", mode);
        check(base, "directory = \"d\"\nmake = \"0750\"", "well: it is there");
        check(
            base,
            "directory = \"n\"\nmake = \"0750\"",
            &format!("wrong: it is not there; repairs: {repair}"),
        );
        check(base, "file = \"f\"", "well: it is there");
        check(base, "file = \"d\"", "wrong: it is not a file; repairs: ");
        check(base, "link = \"l\"", "well: it leads to d");
        check(base, "link = \"broken\"", "wrong: it leads to gone, which is not there; repairs: ");
        check(base, "link = \"d\"", "wrong: it is not a symbolic link; repairs: ");
        check(base, "device = \"f\"", "wrong: it is not a device; repairs: ");
        check(base, "device = \"/dev/null\"", "well: it is there");
        check(base, "json = \"f\"", "well: it is");
        let cut = "wrong: it is not: EOF while parsing a list at line 1 column 7; repairs: run make lock";
        check(base, "json = \"cut\"\nfix = [\"make\", \"lock\"]", cut);
    }

    #[test]
    fn scripts_are_found_by_patterns_and_links_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path();
        let write = |path: &str, mode: u32| {
            fs::create_dir_all(base.join(path).parent().unwrap()).unwrap();
            fs::write(base.join(path), "#!/bin/sh\n").unwrap();
            fs::set_permissions(base.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        write("s/a.sh", 0o755);
        write("s/b [1]?#|.sh", 0o640);
        write("s/deep/c.sh", 0o600);
        write("s/data.txt", 0o644);
        write("other/d.sh", 0o644);
        symlink("../other", base.join("s/link")).unwrap();
        symlink("../other/d.sh", base.join("s/l.sh")).unwrap();
        check(
            base,
            "executable = \"s/*.sh\"",
            "wrong: not so: BASE/s/b [1]?#|.sh; repairs: chmod 0750 BASE/s/b [1]?#|.sh",
        );
        let both = "wrong: not so: BASE/s/b [1]?#|.sh, BASE/s/deep/c.sh; repairs: chmod 0750 BASE/s/b [1]?#|.sh; chmod 0700 BASE/s/deep/c.sh";
        check(base, "executable = \"s/**/*.sh\"", both);
        check(base, "executable = \"s/a.sh\"", "well: 1 file is");
        check(base, "executable = \"s/*.py\"", "skipped: no file is named so");
        check(base, "executable = \"s/no.sh\"", "wrong: it is not there; repairs: ");
        check(base, "executable = \"none/*.sh\"", "skipped: no file is named so");
    }

    #[test]
    fn a_version_that_is_kept_is_not_repaired() {
        let base = tempfile::tempdir().unwrap();
        let interrupt = Interrupt::quiet();
        let ground =
            Ground { base: base.path(), is_changeable: false, depth: Depth::Full, interrupt: &interrupt };
        let Verdict::Wrong { text, repairs, .. } = look(&item("directory = \"n\"\nmode = \"0755\""), ground)
        else {
            panic!("it is not there");
        };
        assert!(text.ends_with("publish it as it should be") && repairs.is_empty(), "{text}");
    }
}
