//! What came of a run on another host, and of all of them together.

use serde::Serialize;

use super::choose::Host;
use super::heard::{Applied, Heard, shortened};
use crate::failure::Exit;
use crate::output::count;

/// The digits of a manifest that are shown.
const MANIFEST_DIGITS: usize = 8;

/// How a run of ssh ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this status: that of the program on the host, or 255 where ssh itself failed.
    Exited(i32),
    /// By a signal that did not come from here.
    Signalled,
    /// It took longer than it may.
    TimedOut,
    /// This run was asked to end.
    Interrupted,
}

/// How a host stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    Applied,
    UpToDate,
    /// Something else than a sync, or a sync that only looked, went well.
    Done,
    UpdateAvailable,
    LocalChanges,
    RebootPending,
    /// Applied, and the confirmation failed.
    NotConfirmed,
    RolledBack,
    NotHealthy,
    Refused,
    Failed,
    NotReached,
    /// Nobody saw the end.
    Unknown,
    /// It was not its turn before all ended.
    NotTried,
}

impl State {
    const ALL: [Self; 14] = [
        Self::Applied,
        Self::UpToDate,
        Self::Done,
        Self::UpdateAvailable,
        Self::LocalChanges,
        Self::RebootPending,
        Self::NotConfirmed,
        Self::RolledBack,
        Self::NotHealthy,
        Self::Refused,
        Self::Failed,
        Self::NotReached,
        Self::Unknown,
        Self::NotTried,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::UpToDate => "up to date",
            Self::Done => "done",
            Self::UpdateAvailable => "an update is available",
            Self::LocalChanges => "local changes",
            Self::RebootPending => "a reboot is pending",
            Self::NotConfirmed => "not confirmed",
            Self::RolledBack => "rolled back",
            Self::NotHealthy => "not healthy",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::NotReached => "not reached",
            Self::Unknown => "in an unknown state",
            Self::NotTried => "not tried",
        }
    }

    /// Whether others may follow a host that ended so.
    pub(super) const fn is_well(self) -> bool {
        matches!(
            self,
            Self::Applied
                | Self::UpToDate
                | Self::Done
                | Self::UpdateAvailable
                | Self::LocalChanges
                | Self::RebootPending
        )
    }
}

/// What came of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) host: Host,
    pub(super) state: State,
    /// The status that this host alone would end the whole run with.
    pub(super) exit: Exit,
    applied: Option<Applied>,
    changes: u64,
    is_confirmed: bool,
    /// Why it did not go well; of what only looks, what it found.
    pub(super) reason: Option<String>,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

/// What came of one host, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "host")]
pub(super) struct HostEvent<'a> {
    host: &'a str,
    ssh: &'a str,
    state: State,
    exit: u8,
    channel: Option<&'a str>,
    r#ref: Option<&'a str>,
    seq: Option<u64>,
    manifest: Option<&'a str>,
    changes: u64,
    confirmed: bool,
    reason: Option<&'a str>,
}

impl Outcome {
    /// Judges a run by its end, and by what was heard of it. `complaint` is what ssh said last.
    pub(super) fn of(host: &Host, ended: Ended, heard: &Heard, complaint: Option<&str>) -> Self {
        let (state, exit) = judged(ended, heard);
        let said = || {
            let reason = heard.unhealthy.as_ref().or(heard.error.as_ref()).cloned();
            // The command line is refused before anybody knows of JSON.
            reason.or_else(|| complaint.map(shortened)).or_else(|| heard.others.last().cloned())
        };
        let (reason, hint) = match (state, ended) {
            (State::Done | State::UpdateAvailable | State::LocalChanges, _) => (heard.last.clone(), None),
            _ if state.is_well() => (None, None),
            (_, Ended::Exited(127)) if !heard.is_running => (
                Some("smart-sync was not found there".to_owned()),
                Some(
                    "`--install` carries it there; or install it where a shell without login finds it"
                        .to_owned(),
                ),
            ),
            (State::NotReached, _) => (said(), Some(format!("try: ssh {}", host.destination))),
            (State::Unknown, Ended::TimedOut) => (Some("it took longer than it may".to_owned()), None),
            (State::Unknown, Ended::Interrupted) => (Some("interrupted".to_owned()), None),
            (State::Unknown, _) => (Some("the connection ended before the run".to_owned()), None),
            _ => (said(), heard.hint.clone()),
        };
        let hint = match state {
            State::Unknown => Some(format!(
                "what was begun there may go on; see: ssh {} smart-sync status",
                host.destination
            )),
            _ => hint,
        };
        let (applied, changes) = (heard.applied.clone(), heard.changes);
        Self { host: host.clone(), state, exit, applied, changes, is_confirmed: false, reason, hint }
    }

    /// A host that was not touched.
    pub(super) fn not_tried(host: &Host) -> Self {
        let (state, exit) = (State::NotTried, Exit::Success);
        let host = host.clone();
        Self { host, state, exit, applied: None, changes: 0, is_confirmed: false, reason: None, hint: None }
    }

    /// A host on which nothing could be run.
    pub(super) fn failed(host: &Host, exit: Exit, reason: String, hint: Option<String>) -> Self {
        Self { state: State::Failed, exit, reason: Some(reason), hint, ..Self::not_tried(host) }
    }

    /// A host on which there was nothing to run, and why.
    pub(super) fn done(host: &Host, reason: String) -> Self {
        Self { state: State::Done, reason: Some(reason), ..Self::not_tried(host) }
    }

    /// The same, when it is known what came of the confirmation.
    pub(super) fn confirmed(self, confirmation: Self) -> Self {
        if confirmation.state.is_well() {
            return Self { is_confirmed: true, ..self };
        }
        let hint = "what is not confirmed in time is taken back by the host itself".to_owned();
        let reason = confirmation.reason.or_else(|| Some(confirmation.state.words().to_owned()));
        let exit = confirmation.exit;
        Self { state: State::NotConfirmed, exit, reason, hint: Some(hint), ..self }
    }

    /// The line for people.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{}: {}", self.host.name, self.state.words());
        if !self.state.is_well() && self.state != State::NotTried {
            line = format!("{line} (status {})", self.exit.code());
        }
        if let Some(applied) = &self.applied {
            line = format!("{line}: {}", applied.described());
            if self.changes > 0 {
                line = format!("{line}, {}", count(self.changes, "change", "changes"));
            }
        }
        if self.is_confirmed {
            line.push_str(", confirmed");
        }
        if let Some(reason) = &self.reason {
            // What the host said last may begin with the same words.
            let words = format!("{}: ", self.state.words());
            line = format!("{line}: {}", reason.strip_prefix(&words).unwrap_or(reason));
        }
        line
    }

    /// The event for programs.
    pub(super) fn event(&self) -> HostEvent<'_> {
        let applied = self.applied.as_ref();
        HostEvent {
            host: &self.host.name,
            ssh: self.host.destination.as_str(),
            state: self.state,
            exit: self.exit.code(),
            channel: applied.map(|applied| applied.channel.as_str()),
            r#ref: applied.map(|applied| applied.reference.as_str()),
            seq: applied.map(|applied| applied.seq),
            manifest: applied.map(|applied| applied.manifest.as_str()),
            changes: self.changes,
            confirmed: self.is_confirmed,
            reason: self.reason.as_deref(),
        }
    }
}

impl Applied {
    fn described(&self) -> String {
        let digits = self.manifest.rsplit(':').next().unwrap_or_default();
        let digits: String = digits.chars().take(MANIFEST_DIGITS).collect();
        // Repositories behind GitHub's API count nothing.
        let number = if self.seq > 0 { format!(" number {}", self.seq) } else { String::new() };
        format!("{} {}{number}, manifest {digits}", self.channel, self.reference)
    }
}

fn judged(ended: Ended, heard: &Heard) -> (State, Exit) {
    let status = match ended {
        // ssh says 255 for itself, also where the program on the host was killed.
        Ended::Exited(255) if heard.is_running => return (State::Unknown, Exit::Network),
        Ended::Exited(255) => return (State::NotReached, Exit::Network),
        Ended::Signalled | Ended::TimedOut => return (State::Unknown, Exit::Network),
        Ended::Interrupted => return (State::Unknown, Exit::Interrupted),
        Ended::Exited(status) => status,
    };
    match status {
        0 if heard.changes > 0 => (State::Applied, Exit::Success),
        0 if heard.applied.is_some() => (State::UpToDate, Exit::Success),
        0 => (State::Done, Exit::Success),
        2 | 127 => (State::Failed, Exit::MissingDependency),
        3 | 126 => (State::Failed, Exit::Permission),
        4 => (State::Failed, Exit::Arguments),
        5 => (State::Failed, Exit::Network),
        6 => (State::Failed, Exit::Configuration),
        7 => (State::Refused, Exit::Refused),
        8 => (State::RolledBack, Exit::RolledBack),
        9 => (State::NotHealthy, Exit::RollbackFailed),
        10 => (State::UpdateAvailable, Exit::UpdateAvailable),
        11 => (State::LocalChanges, Exit::Drift),
        12 => (State::RebootPending, Exit::RebootPending),
        _ => (State::Failed, Exit::General),
    }
}

/// From the worst: hosts that stay at something bad, then those that went back from it, then what somebody has to look
/// at, then what may be over when it is tried again, and last what is no failure.
const WORST_FIRST: [Exit; 13] = [
    Exit::RollbackFailed,
    Exit::RolledBack,
    Exit::Refused,
    Exit::Permission,
    Exit::Configuration,
    Exit::Arguments,
    Exit::MissingDependency,
    Exit::General,
    Exit::Network,
    Exit::Drift,
    Exit::RebootPending,
    Exit::UpdateAvailable,
    Exit::Success,
];

/// The status that a run ends with, where it was not interrupted.
pub(super) fn worst(outcomes: &[Outcome]) -> Exit {
    let found = |exit: &Exit| outcomes.iter().any(|outcome| outcome.exit == *exit);
    WORST_FIRST.into_iter().find(found).unwrap_or(Exit::Success)
}

/// How many hosts ended in which way.
pub(super) fn summary(outcomes: &[Outcome]) -> String {
    let counted = State::ALL.into_iter().filter_map(|state| {
        let number = outcomes.iter().filter(|outcome| outcome.state == state).count();
        (number > 0).then(|| format!("{number} {}", state.words()))
    });
    let hosts = count(outcomes.len() as u64, "host", "hosts");
    format!("{hosts}: {}", counted.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host { name: name.to_owned(), destination: format!("root@{name}").parse().unwrap(), program: None }
    }

    fn heard(lines: &str) -> Heard {
        let mut heard = Heard::default();
        heard.feed(lines.as_bytes(), |_| {});
        heard
    }

    const APPLIED: &str = "{\"event\":\"applied\",\"channel\":\"repos/a\",\"ref\":\"branch:main\",\"seq\":7,\
         \"manifest\":\"blake3:ba649a1e2c83\",\"changes\":2}\n";
    const SAME: &str = "{\"event\":\"applied\",\"channel\":\"repos/a\",\"ref\":\"branch:main\",\"seq\":7,\
         \"manifest\":\"blake3:ba649a1e2c83\",\"changes\":0}\n";

    #[track_caller]
    fn check(ended: Ended, lines: &str, complaint: Option<&str>, exit: Exit, line: &str) {
        let outcome = Outcome::of(&host("web"), ended, &heard(lines), complaint);
        assert_eq!((outcome.line().as_str(), outcome.exit), (line, exit));
    }

    #[test]
    fn the_status_decides_and_what_was_said_explains_it() {
        use Ended::{Exited, Interrupted, Signalled, TimedOut};
        let version = "repos/a branch:main number 7, manifest ba649a1e";
        check(Exited(0), APPLIED, None, Exit::Success, &format!("web: applied: {version}, 2 changes"));
        check(Exited(0), SAME, None, Exit::Success, &format!("web: up to date: {version}"));
        check(Exited(0), "", None, Exit::Success, "web: done");
        let found =
            "{\"event\":\"message\",\"level\":\"info\",\"text\":\"an update is available: a number 8\"}\n";
        check(Exited(10), found, None, Exit::UpdateAvailable, "web: an update is available: a number 8");
        let unhealthy = "{\"event\":\"unhealthy\",\"reason\":\"the check a fails\"}\n";
        let lines = format!("{APPLIED}{unhealthy}");
        let expected = format!("web: rolled back (status 8): {version}, 2 changes: the check a fails");
        check(Exited(8), &lines, None, Exit::RolledBack, &expected);
        let error = "{\"event\":\"error\",\"exit\":7,\"message\":\"no\",\"causes\":[\"a fork\"]}\n";
        check(Exited(7), error, None, Exit::Refused, "web: refused (status 7): no: a fork");
        let refused = Some("[smart-sync ERROR] unexpected argument");
        let expected = "web: failed (status 4): [smart-sync ERROR] unexpected argument";
        check(Exited(4), "", refused, Exit::Arguments, expected);
        let missing = "web: failed (status 2): smart-sync was not found there";
        check(Exited(127), "", Some("sh: smart-sync: not found"), Exit::MissingDependency, missing);
        // A trigger that ends with 127 is another thing.
        check(Exited(99), "", None, Exit::General, "web: failed (status 1)");
        let closed = Some("ssh: connect to host web port 22: Connection refused");
        let expected = "web: not reached (status 5): ssh: connect to host web port 22: Connection refused";
        check(Exited(255), "", closed, Exit::Network, expected);
        let unknown = "web: in an unknown state (status 5): the connection ended before the run";
        let begun = "{\"event\":\"message\",\"level\":\"info\",\"text\":\"downloading\"}\n";
        check(Exited(255), begun, closed, Exit::Network, unknown);
        check(Signalled, begun, None, Exit::Network, unknown);
        let late = "web: in an unknown state (status 5): it took longer than it may";
        check(TimedOut, begun, None, Exit::Network, late);
        let interrupted = "web: in an unknown state (status 130): interrupted";
        check(Interrupted, begun, None, Exit::Interrupted, interrupted);
    }

    #[test]
    fn a_confirmation_that_fails_is_what_counts() {
        let well = || Outcome::of(&host("web"), Ended::Exited(0), &heard(APPLIED), None);
        let confirmed = well().confirmed(Outcome::of(&host("web"), Ended::Exited(0), &heard(""), None));
        assert!(confirmed.line().ends_with("2 changes, confirmed"), "{}", confirmed.line());
        let lost = Outcome::of(&host("web"), Ended::Exited(255), &heard(""), Some("no route"));
        let lost = well().confirmed(lost);
        assert_eq!((lost.state, lost.exit), (State::NotConfirmed, Exit::Network));
        assert!(lost.line().ends_with("2 changes: no route"), "{}", lost.line());
    }

    #[test]
    fn the_worst_host_decides() {
        let ended = |status| Outcome::of(&host("web"), Ended::Exited(status), &Heard::default(), None);
        let worst =
            |statuses: &[i32]| worst(&statuses.iter().map(|status| ended(*status)).collect::<Vec<_>>());
        assert_eq!(worst(&[]), Exit::Success);
        assert_eq!(worst(&[0, 10, 0]), Exit::UpdateAvailable);
        assert_eq!(worst(&[12, 0, 10]), Exit::RebootPending);
        assert_eq!(worst(&[0, 255, 12]), Exit::Network);
        assert_eq!(worst(&[5, 127, 1]), Exit::MissingDependency);
        assert_eq!(worst(&[7, 8, 3]), Exit::RolledBack);
        assert_eq!(worst(&[8, 9, 7]), Exit::RollbackFailed);
    }

    #[test]
    fn all_hosts_are_counted() {
        let ended = |status| Outcome::of(&host("web"), Ended::Exited(status), &heard(APPLIED), None);
        let outcomes = [ended(0), ended(8), ended(0), Outcome::not_tried(&host("db"))];
        assert_eq!(summary(&outcomes), "4 hosts: 2 applied, 1 rolled back, 1 not tried");
    }
}
