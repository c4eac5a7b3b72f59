//! What a host has of this program, and what is to be done about it. Pure.
//!
//! What the host says is text from outside: it is compared, and shown in bounded parts.

use smart_sync_store::manifest::path::Shown;

use crate::failure::Exit;
use crate::hosts::heard::shortened;

/// What the lines of an answer begin with.
const PREFIX: &str = "smart-sync:";

/// A file that is this program, or another version of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct There {
    kind: String,
    path: String,
    sum: String,
    version: String,
    owner: String,
}

/// What a host has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Had {
    system: String,
    machine: String,
    can_sum: bool,
    is_whole: bool,
    /// At the path where it is to be.
    there: There,
    /// Where a shell finds it, if that is elsewhere.
    found: There,
}

/// What this program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// The SHA-256 of its file, in hexadecimal digits.
    pub(super) sum: String,
    /// The machine that it was built for, as Rust calls it.
    pub(super) machine: &'static str,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is there, at this path.
    IsThere(String),
    /// It has to be carried there; in place of this version, if it says which it is.
    Carry { replaced: Option<String>, has_other: bool },
}

/// Why nothing is carried to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) exit: Exit,
    pub(super) reason: String,
    pub(super) hint: Option<String>,
}

impl Had {
    /// Reads an answer. Whatever else a login shell says is left out.
    pub(super) fn parse(answer: &[u8]) -> Self {
        let mut had = Self::default();
        for line in String::from_utf8_lossy(answer).lines() {
            let Some((word, value)) = line.strip_prefix(PREFIX).and_then(|line| line.split_once(' ')) else {
                continue;
            };
            let value = Shown(shortened(value.trim()).as_bytes()).to_string();
            let of = |there: &mut There, what: &str, value: String| match what {
                "kind" => there.kind = value,
                "path" => there.path = value,
                "sum" => there.sum = value,
                "version" => there.version = value,
                "owner" => there.owner = value,
                _ => {}
            };
            match word.split_once('-') {
                Some(("there", what)) => of(&mut had.there, what, value),
                Some(("found", what)) => of(&mut had.found, what, value),
                _ => match word {
                    "system" => had.system = value,
                    "machine" => had.machine = value,
                    "sums" => had.can_sum = true,
                    "end" => had.is_whole = true,
                    _ => {}
                },
            }
        }
        had
    }

    /// Decides what is to be done so that the program is at this path.
    pub(super) fn decide(&self, path: &str, own: &Own, may_replace: bool) -> Result<Decision, Refusal> {
        let refused = |exit, reason: String| Err(Refusal { exit, reason, hint: None });
        if !self.is_whole {
            return refused(
                Exit::General,
                "what it has could not be found out: no POSIX shell answers there".to_owned(),
            );
        }
        for had in [&self.there, &self.found] {
            if had.kind == "file" && had.sum == own.sum {
                return Ok(Decision::IsThere(had.path.clone()));
            }
        }
        if self.system != "Linux" || !machine_names(own.machine).contains(&self.machine.as_str()) {
            let reason = format!(
                "it is a machine of another kind: {} {}, and this program is built for Linux {}",
                self.system, self.machine, own.machine
            );
            let hint = Some(
                "install smart-sync there as it is built for it, or deploy from a machine of that kind"
                    .to_owned(),
            );
            return Err(Refusal { exit: Exit::General, reason, hint });
        }
        if !self.can_sum {
            let reason = "there is no sha256sum there, by which it is seen that the program arrived whole";
            return refused(Exit::MissingDependency, reason.to_owned());
        }
        if matches!(self.there.kind.as_str(), "directory" | "other") {
            return refused(Exit::General, format!("{path} is there already, and is not a file"));
        }
        if let Some(owned) =
            [&self.there, &self.found].into_iter().find(|had| !had.owner.is_empty()).filter(|_| !may_replace)
        {
            let reason = format!("{} belongs to the package {}: {}", owned.path, owned.owner, owned.said());
            let hint = Some(format!(
                "update that package, or add --replace, which makes {path} this program all the same"
            ));
            return Err(Refusal { exit: Exit::General, reason, hint });
        }
        let is_file = self.there.kind == "file";
        Ok(Decision::Carry {
            replaced: is_file.then(|| self.there.said()),
            has_other: self.found.kind == "file",
        })
    }

    /// Where it is now, in any version, as a shell would find it.
    pub(super) fn any(&self, path: &str) -> Option<String> {
        let is_file = |had: &There| had.kind == "file";
        is_file(&self.there)
            .then(|| path.to_owned())
            .or_else(|| is_file(&self.found).then(|| self.found.path.clone()))
    }

    /// Where a shell finds another one.
    pub(super) fn other(&self) -> &str {
        &self.found.path
    }
}

impl There {
    fn said(&self) -> String {
        if self.version.is_empty() {
            "a version that does not say which it is".to_owned()
        } else {
            self.version.clone()
        }
    }
}

/// What kernels call the machines that a program runs on.
fn machine_names(built_for: &str) -> &[&str] {
    match built_for {
        "x86" => &["i386", "i486", "i586", "i686", "x86_64"],
        "x86_64" => &["x86_64"],
        "aarch64" => &["aarch64"],
        "arm" => &["armv6l", "armv7l", "armv8l"],
        "powerpc64" => &["ppc64", "ppc64le"],
        "riscv64" => &["riscv64"],
        "s390x" => &["s390x"],
        "loongarch64" => &["loongarch64"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/usr/local/bin/smart-sync";

    fn decided(lines: &str, may_replace: bool) -> Result<Decision, Refusal> {
        let own = Own { sum: "aa".to_owned(), machine: "x86_64" };
        let lines: Vec<String> = lines.lines().map(|line| format!("smart-sync:{line}\n")).collect();
        let answer = lines.concat();
        Had::parse(format!("Last login: today\n{answer}smart-sync:end yes\n").as_bytes()).decide(
            PATH,
            &own,
            may_replace,
        )
    }

    #[track_caller]
    fn check_refused(lines: &str, exit: Exit, expected: &str) {
        let refusal = decided(lines, false).unwrap_err();
        assert_eq!(refusal.exit, exit, "{refusal:?}");
        assert!(refusal.reason.contains(expected), "{refusal:?}");
    }

    const LINUX: &str = "system Linux\nmachine x86_64\nsums yes\n";

    #[test]
    fn it_is_carried_where_it_is_not_there() {
        let carried = |replaced: Option<&str>, has_other| {
            Ok(Decision::Carry { replaced: replaced.map(str::to_owned), has_other })
        };
        assert_eq!(decided(LINUX, false), carried(None, false));
        let there = format!("{LINUX}there-kind file\nthere-path {PATH}\nthere-sum bb\n");
        assert_eq!(
            decided(&format!("{there}there-version smart-sync 0.1.0"), false),
            carried(Some("smart-sync 0.1.0"), false)
        );
        assert_eq!(decided(&there, false), carried(Some("a version that does not say which it is"), false));
        let other = format!("{LINUX}found-kind file\nfound-path /opt/bin/smart-sync\nfound-sum bb\n");
        assert_eq!(decided(&other, false), carried(None, true));
        // What is the same needs nothing, wherever it is and whatever machine it says that it is.
        for path in [PATH, "/usr/bin/smart-sync"] {
            let same = format!("there-kind file\nthere-path {path}\nthere-sum aa\nthere-owner smart-sync");
            assert_eq!(decided(&same, false), Ok(Decision::IsThere(path.to_owned())));
        }
    }

    #[test]
    fn what_would_not_run_or_is_not_ours_is_left_alone() {
        check_refused(
            "system Linux\nmachine aarch64\nsums yes",
            Exit::General,
            "Linux aarch64, and this program is built for Linux x86_64",
        );
        check_refused("system FreeBSD\nmachine x86_64\nsums yes", Exit::General, "FreeBSD x86_64");
        check_refused("system Linux\nmachine x86_64", Exit::MissingDependency, "no sha256sum");
        check_refused(&format!("{LINUX}there-kind directory"), Exit::General, "is not a file");
        let owned = format!(
            "{LINUX}found-kind file\nfound-path /usr/bin/smart-sync\nfound-sum bb\nfound-version smart-sync 0.0.9\nfound-owner app-admin/smart-sync-0.0.9"
        );
        check_refused(
            &owned,
            Exit::General,
            "/usr/bin/smart-sync belongs to the package app-admin/smart-sync-0.0.9: smart-sync 0.0.9",
        );
        assert_eq!(decided(&owned, true), Ok(Decision::Carry { replaced: None, has_other: true }));
        let cut = Had::parse(b"smart-sync:system Linux\nsmart-sync:machine x86_64\n");
        let own = Own { sum: "aa".to_owned(), machine: "x86_64" };
        assert!(cut.decide(PATH, &own, true).unwrap_err().reason.contains("no POSIX shell"));
    }

    #[test]
    fn what_a_host_says_is_bounded_and_cannot_move_the_cursor() {
        let long = "y".repeat(100_000);
        let lines =
            format!("{LINUX}there-kind file\nthere-path {PATH}\nthere-sum bb\nthere-version \u{1b}[2J{long}");
        let Ok(Decision::Carry { replaced: Some(version), .. }) = decided(&lines, false) else { panic!() };
        assert!(version.len() < 2000 && !version.contains('\u{1b}'), "{version}");
    }
}
