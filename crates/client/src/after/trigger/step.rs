//! A step of a trigger, as plain data: it is shown by `--dry-run`, or done.
//!
//! The one decision: a step is complete when it is made. What a command line says does not depend on when it is run, so
//! that what was shown is what happens.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::path::Shown;

use super::{emerge, kernel, note, portage, snapshot};
use crate::output::Output;

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is called in messages.
    pub title: String,
    /// What it does.
    pub act: Act,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Runs a program.
    Run(CommandLine),
    /// Something that this program does itself.
    BuiltIn(BuiltIn),
}

/// A program and what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// Variables beside those that every command is given.
    pub variables: Vec<(&'static str, &'static str)>,
    /// Where it runs, if not in the tree.
    pub directory: Option<PathBuf>,
    /// A last argument that is only known when the steps before are done.
    pub grub_entry: Option<kernel::GrubEntry>,
    /// Who is shown what it prints when it succeeds.
    pub shown: ShownTo,
}

/// Who is shown what a command prints when it succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownTo {
    /// Those who asked for details.
    Curious,
    /// Everybody.
    All,
}

/// What this program does itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuiltIn {
    /// Notes durably what a link leads to.
    Note {
        /// The link.
        link: PathBuf,
        /// Where it is noted.
        file: PathBuf,
    },
    /// Notes durably which system a tree became.
    Remember {
        /// The system.
        system: PathBuf,
        /// The directory of such notes.
        directory: PathBuf,
        /// The tree.
        manifest: ManifestId,
    },
    /// Removes notes.
    Forget(Vec<PathBuf>),
    /// Warns.
    Warn(String),
    /// Says which configuration waits to be merged by a person.
    Report(emerge::Pending),
    /// Writes the configuration of Portage.
    Render(portage::Render),
    /// Places kernels.
    Install(kernel::Install),
    /// Removes kernels.
    Remove(kernel::Remove),
    /// Notes that kernels which were placed stay.
    Settle(kernel::Settle),
    /// Forgets which snapshot was taken for an earlier update.
    Begin(snapshot::Begin),
    /// Takes a snapshot of a root.
    Snapshot(snapshot::Take),
    /// Says how to get back to it.
    Tell(snapshot::Tell),
    /// Destroys older ones.
    Thin(snapshot::Thin),
}

impl Step {
    /// A step that runs a program.
    pub fn run(title: impl Into<String>, words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let line = CommandLine {
            words: words.into_iter().map(Into::into).collect(),
            variables: Vec::new(),
            directory: None,
            grub_entry: None,
            shown: ShownTo::Curious,
        };
        Self { title: title.into(), act: Act::Run(line) }
    }

    /// A step that runs a program, and is called what would be typed.
    pub fn titled<'w>(words: impl IntoIterator<Item = &'w str>) -> Self {
        let words: Vec<&str> = words.into_iter().collect();
        Self::run(words.join(" "), words)
    }

    /// A step that this program does itself.
    pub fn built_in(title: impl Into<String>, built_in: BuiltIn) -> Self {
        Self { title: title.into(), act: Act::BuiltIn(built_in) }
    }

    /// The same, called by the name of its trigger as well.
    #[must_use]
    pub fn of(self, trigger: &str) -> Self {
        Self { title: format!("{trigger}: {}", self.title), ..self }
    }

    /// The same with something else about its command line.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut CommandLine)) -> Self {
        if let Act::Run(line) = &mut self.act {
            change(line);
        }
        self
    }
}

impl BuiltIn {
    /// Does it. Returns why it could not be done.
    pub fn perform(&self, output: &Output) -> Result<(), String> {
        match self {
            Self::Note { link, file } => note::write(link, file),
            Self::Remember { system, directory, manifest } => {
                note::remember(system, directory, &manifest.to_string())
            }
            Self::Forget(files) => note::remove(files),
            Self::Warn(text) => {
                output.warning(text);
                Ok(())
            }
            Self::Report(pending) => {
                pending.report(output);
                Ok(())
            }
            Self::Render(render) => render.perform(output),
            Self::Install(install) => install.perform(output),
            Self::Remove(remove) => remove.perform(output),
            Self::Settle(settle) => settle.perform(),
            Self::Begin(begin) => begin.perform(),
            Self::Snapshot(take) => take.perform(output),
            Self::Tell(tell) => {
                tell.perform(output);
                Ok(())
            }
            Self::Thin(thin) => thin.perform(output),
        }
    }
}

/// What would be done, after the word "would".
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = Shown(self.title.as_bytes());
        match &self.act {
            Act::Run(line) => {
                let (title, line) = (title.to_string(), line.to_string());
                let is_said =
                    title.strip_suffix(&line).is_some_and(|name| name.is_empty() || name.ends_with(": "));
                if is_said { write!(f, "run {title}") } else { write!(f, "run {title}: {line}") }
            }
            Act::BuiltIn(BuiltIn::Warn(text)) => write!(f, "warn that {}", Shown(text.as_bytes())),
            Act::BuiltIn(BuiltIn::Note { link, .. }) => {
                write!(f, "note what {} leads to", Shown(link.as_os_str().as_bytes()))
            }
            Act::BuiltIn(BuiltIn::Report(pending)) => {
                write!(f, "look below {} for configuration to be merged", pending.shown())
            }
            Act::BuiltIn(BuiltIn::Render(render)) => f.write_str(&render.shown()),
            Act::BuiltIn(BuiltIn::Install(install)) => f.write_str(&install.shown()),
            Act::BuiltIn(BuiltIn::Remove(remove)) => f.write_str(&remove.shown()),
            Act::BuiltIn(BuiltIn::Begin(_)) => {
                f.write_str("forget which snapshot was taken for an earlier update")
            }
            Act::BuiltIn(BuiltIn::Snapshot(take)) => f.write_str(&take.shown()),
            Act::BuiltIn(BuiltIn::Tell(_)) => write!(f, "say how to get back to the snapshot"),
            Act::BuiltIn(BuiltIn::Thin(thin)) => f.write_str(&thin.shown()),
            Act::BuiltIn(BuiltIn::Settle(_)) => write!(f, "note which kernels are there"),
            Act::BuiltIn(BuiltIn::Remember { system, .. }) => {
                write!(f, "note that this version is {}", Shown(system.as_os_str().as_bytes()))
            }
            Act::BuiltIn(BuiltIn::Forget(_)) => write!(f, "forget what was noted"),
        }
    }
}

/// As it would be typed into a shell.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={value}"));
        let words = self.words.iter().map(|word| quoted(&Shown(word.as_bytes()).to_string()));
        let last = self.grub_entry.as_ref().map(kernel::GrubEntry::shown);
        f.write_str(&variables.chain(words).chain(last).collect::<Vec<_>>().join(" "))
    }
}

/// A word, in quotes where a shell would see something else than a word.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./=:@%+,#".contains(letter);
    if !word.is_empty() && !word.starts_with('#') && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_shown_as_it_would_be_typed() {
        #[track_caller]
        fn check(title: &str, words: &[&str], expected: &str) {
            assert_eq!(Step::run(title, words).to_string(), expected);
        }
        check("true", &["true"], "run true");
        check("reload", &["nginx", "-s", "reload"], "run reload: nginx -s reload");
        check("a", &["sh", "-c", "echo 'it is'", ""], r"run a: sh -c 'echo '\''it is'\''' ''");
        check("a\u{1b}[2J", &["x\ny"], r"run a\u{1b}[2J: 'x\ny'");
        let step = Step::run("boot", ["/nix/store/a/bin/switch-to-configuration", "boot"]);
        let step = step.with(|line| line.variables.push(("NIXOS_INSTALL_BOOTLOADER", "0")));
        let expected = "run boot: NIXOS_INSTALL_BOOTLOADER=0 /nix/store/a/bin/switch-to-configuration boot";
        assert_eq!(step.to_string(), expected);
    }
}
