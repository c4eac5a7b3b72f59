//! How a run ends: an exit status, and for a failure its causes and what to do about it.
//!
//! The status is part of the error from where it arises on, because only there is it known whether a missing file
//! is a wrong argument, a wrong configuration or a fault.

use std::fmt;
use std::io;

/// How a run ends, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or there was nothing to do.
    Success = 0,
    /// A fault without a status of its own.
    General = 1,
    /// A program or a library that is needed is not installed.
    MissingDependency = 2,
    /// The operating system or the server does not allow it.
    Permission = 3,
    /// The command line contradicts itself or cannot be understood.
    Arguments = 4,
    /// The network, or the server behind it, does not answer as it should.
    Network = 5,
    /// A configuration file is wrong.
    Configuration = 6,
    /// What was received is not what was signed or named: nothing of it was used.
    Refused = 7,
    /// The update was applied, found unhealthy, and taken back.
    RolledBack = 8,
    /// Going back failed.
    RollbackFailed = 9,
    /// Only asked: there is an update.
    UpdateAvailable = 10,
    /// Only asked: local files differ from what was applied.
    Drift = 11,
    /// Applied; a reboot is pending.
    RebootPending = 12,
    /// Ended by Ctrl-C or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    /// The number that the operating system is given.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// How a run ends that did this and something else later: as the first of them that did not end well.
    #[must_use]
    pub const fn and(self, later: Self) -> Self {
        if matches!(self, Self::Success) { later } else { self }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What to do about bytes that are not what was signed.
pub const DAMAGED_HINT: &str =
    "another mirror may have it unharmed; the server's operator should run `smart-sync-server check`";

/// An error with the exit status it leads to and advice on what to do.
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    reasons: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    /// An error that ends the run with this status.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        // Wherever it was noticed, there is one thing to do about a full disk.
        let mut failure = Self { exit, error, reasons: Vec::new(), hints: Vec::new() };
        if failure.is_full() {
            failure.hints.push(MAKE_ROOM.to_owned());
        }
        failure
    }

    /// A failure that no other error caused.
    pub fn message(exit: Exit, message: impl fmt::Display) -> Self {
        Self::new(exit, anyhow::Error::msg(message.to_string()))
    }

    /// Puts in front what was being done.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.error = self.error.context(doing.to_string());
        self
    }

    /// Adds reasons that stand side by side: none of them is the cause of another one.
    #[must_use]
    pub fn because(mut self, reasons: impl IntoIterator<Item = String>) -> Self {
        self.reasons.extend(reasons);
        self
    }

    /// Adds a sentence that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Ends the run with another status: what was being done says more than what went wrong.
    #[must_use]
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        self.error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_full))
    }

    /// The cause of this type, if there is one.
    pub fn cause<T: std::error::Error + Send + Sync + 'static>(&self) -> Option<&T> {
        self.error.chain().find_map(|cause| cause.downcast_ref())
    }

    /// The status that the run ends with.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The error, the outermost message first, and then the reasons that stand side by side. A cause that the message
    /// before it ends with is not said twice.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        self.chain().chain(self.reasons.iter().cloned())
    }

    /// The same in one line, as a reason within another message.
    pub fn in_one_line(&self) -> String {
        let mut line = self.chain().collect::<Vec<_>>().join(": ");
        if !self.reasons.is_empty() {
            line = format!("{line}: {}", self.reasons.join("; "));
        }
        line
    }

    fn chain(&self) -> impl Iterator<Item = String> {
        let mut before = String::new();
        self.error.chain().map(ToString::to_string).filter(move |message| {
            let is_said = before.ends_with(message.as_str());
            before.clone_from(message);
            !is_said
        })
    }

    /// What to do about it.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }
}

/// What to do where there is no room.
pub const MAKE_ROOM: &str = "make room, and run this again; it goes on with what is here already";

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exit, error, reasons, hints } = self;
        write!(f, "exit {}: {error:?}, reasons: {reasons:?}, hints: {hints:?}", exit.code())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::Permission,
            _ => Exit::General,
        };
        Self::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order of their numbers; a status that is added has to be added here and to the page.
    const ALL: [Exit; 14] = [
        Exit::Success,
        Exit::General,
        Exit::MissingDependency,
        Exit::Permission,
        Exit::Arguments,
        Exit::Network,
        Exit::Configuration,
        Exit::Refused,
        Exit::RolledBack,
        Exit::RollbackFailed,
        Exit::UpdateAvailable,
        Exit::Drift,
        Exit::RebootPending,
        Exit::Interrupted,
    ];

    #[test]
    fn the_documentation_lists_every_status_and_no_other() {
        let page = include_str!("../../../docs/messages.md");
        let rows =
            page.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
        assert_eq!(rows.collect::<Vec<_>>(), ALL.map(Exit::code));
    }

    #[test]
    fn several_end_as_the_first_of_them_that_did_not_end_well() {
        let all = [Exit::Success, Exit::RebootPending, Exit::Success, Exit::General];
        assert_eq!(all.into_iter().fold(Exit::Success, Exit::and), Exit::RebootPending);
        assert_eq!(Exit::Success.and(Exit::Success), Exit::Success);
    }

    #[test]
    fn the_outermost_message_comes_first() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::PermissionDenied))
            .context("opening the lock")
            .hint("run it as root");
        assert_eq!(failure.exit(), Exit::Permission);
        assert_eq!(failure.messages().collect::<Vec<_>>(), ["opening the lock", "permission denied"]);
        assert_eq!(failure.hints(), ["run it as root"]);
        let repeated = Failure::message(Exit::General, "no").context("it says no").context("asking");
        assert_eq!(repeated.messages().collect::<Vec<_>>(), ["asking", "it says no"]);
        assert_eq!(repeated.in_one_line(), "asking: it says no");
    }

    #[test]
    fn reasons_that_stand_side_by_side_come_after_the_causes() {
        let failure = Failure::message(Exit::Refused, "two are wrong").context("looking");
        let failure = failure.because(["one".to_owned(), "other".to_owned()]);
        assert_eq!(failure.messages().collect::<Vec<_>>(), ["looking", "two are wrong", "one", "other"]);
        assert_eq!(failure.in_one_line(), "looking: two are wrong: one; other");
    }

    #[test]
    fn a_full_disk_is_told_what_to_do_about_wherever_it_was_noticed() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Failure::from(full()).context("writing a").hints(), [MAKE_ROOM]);
        let inside = anyhow::Error::from(full()).context("keeping the cache");
        assert_eq!(Failure::new(Exit::General, inside).hints(), [MAKE_ROOM]);
        assert!(Failure::from(io::Error::from(io::ErrorKind::NotFound)).hints().is_empty());
    }
}
