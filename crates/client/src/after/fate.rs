//! What is to be done about a version that is not confirmed: decided here, and nowhere else.
//!
//! The run that applies a version, the next run, the command of the boot unit, whoever confirms, and what stands by to
//! go back all ask the same question, each at its own time, and must not get different answers. The versions of targets
//! that are switched together are asked about as one.

use std::time::Duration;

use super::moment::Moment;
use super::pending::{By, Pending, Phase, Return};

/// Who works on the target while the question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hands {
    /// Somebody else: the run that applied the version, or one that settles it.
    Others,
    /// Nobody else.
    None,
}

/// What the target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// The version that is not confirmed.
    It,
    /// Another one: readers were not switched, or were switched back.
    Another,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing: somebody is at it.
    Leave,
    /// The note is forgotten.
    Forget,
    /// Nothing before the machine has been up for so long: somebody may still confirm it.
    Wait(Duration),
    /// Nothing before the machine is started again.
    AwaitReboot,
    /// The checks that were put off until the machine was started again.
    Prove,
    /// The target goes back, for this reason.
    GoBack(String),
    /// It is back, and the commands for that are run to their end.
    Finish(Return),
}

/// Decides.
pub(crate) fn fate(pending: &Pending, holds: Holds, hands: Hands, now: &Moment) -> Fate {
    let is_same_start = pending.boot == now.boot;
    match (hands, holds, &pending.phase) {
        (Hands::Others, ..) => Fate::Leave,
        (Hands::None, Holds::Another, Phase::Returning(back)) => Fate::Finish(back.clone()),
        (Hands::None, Holds::Another, _) => Fate::Forget,
        // Somebody was about to leave it, and has not; where it is on trial, the reason says so.
        (Hands::None, Holds::It, Phase::Returning(back))
            if back.by == By::Somebody && back.reason.is_empty() =>
        {
            Fate::Forget
        }
        (Hands::None, Holds::It, Phase::Returning(back)) => Fate::GoBack(back.reason.clone()),
        (Hands::None, Holds::It, Phase::Proving) => {
            Fate::GoBack("the run that applied it ended before it was confirmed".to_owned())
        }
        (Hands::None, Holds::It, Phase::Waiting(window)) if !is_same_start => Fate::GoBack(format!(
            "it was not confirmed within {}: the machine was started again",
            super::moment::shown(window.within)
        )),
        (Hands::None, Holds::It, Phase::Waiting(window)) if now.since_boot < window.until => {
            Fate::Wait(window.until)
        }
        (Hands::None, Holds::It, Phase::Waiting(window)) => {
            Fate::GoBack(format!("it was not confirmed within {}", super::moment::shown(window.within)))
        }
        (Hands::None, Holds::It, Phase::Rebooting) if is_same_start => Fate::AwaitReboot,
        (Hands::None, Holds::It, Phase::Rebooting) => Fate::Prove,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::after::pending::{Run, Window};
    use crate::after::trigger::nixos::Override;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check(phase: Phase, holds: Holds, hands: Hands, boot: &str, since_boot: u32, expected: &Fate) {
        let pending = Pending {
            manifest: "m".to_owned(),
            previous: None,
            since: 0,
            boot: "this".to_owned(),
            phase,
            run: Run::Update,
            said: Override::default(),
        };
        let now = Moment { boot: boot.to_owned(), since_boot: SECOND * since_boot };
        assert_eq!(&fate(&pending, holds, hands, &now), expected);
    }

    fn back(reason: &str) -> Fate {
        Fate::GoBack(reason.to_owned())
    }

    #[test]
    fn every_note_has_one_fate() {
        let waiting =
            || Phase::Waiting(Window { until: SECOND * 100, within: SECOND * 60, connection: None });
        let returning = || Return { reason: "why".to_owned(), attempts: 1, by: By::Itself };
        let chosen = || Return { by: By::Somebody, reason: String::new(), ..returning() };
        let left_on_trial = || Return { by: By::Somebody, ..returning() };
        let ended = back("the run that applied it ended before it was confirmed");
        let late = back("it was not confirmed within 1 min");
        let restarted = back("it was not confirmed within 1 min: the machine was started again");
        let wait = Fate::Wait(SECOND * 100);
        let (it, other) = (Holds::It, Holds::Another);
        let (none, others) = (Hands::None, Hands::Others);
        for (phase, holds, hands, boot, since_boot, expected) in [
            // A run at work is left alone, whatever the clock says and the target holds.
            (Phase::Proving, it, others, "this", 500, &Fate::Leave),
            (Phase::Proving, other, others, "this", 1, &Fate::Leave),
            (Phase::Rebooting, it, others, "next", 1, &Fate::Leave),
            (waiting(), it, others, "this", 500, &Fate::Leave),
            (waiting(), it, others, "this", 50, &Fate::Leave),
            // A run that ended is one that was killed, at whatever time.
            (Phase::Proving, it, none, "this", 1, &ended),
            (Phase::Proving, it, none, "next", 1, &ended),
            // Readers are where they shall be, and what belongs to that is not.
            (Phase::Returning(returning()), other, none, "this", 1, &Fate::Finish(returning())),
            (Phase::Returning(returning()), other, none, "next", 1, &Fate::Finish(returning())),
            (Phase::Returning(returning()), other, others, "this", 1, &Fate::Leave),
            (Phase::Returning(returning()), it, none, "this", 1, &back("why")),
            (Phase::Returning(chosen()), other, none, "next", 1, &Fate::Finish(chosen())),
            (Phase::Returning(chosen()), it, none, "this", 1, &Fate::Forget),
            (Phase::Returning(left_on_trial()), other, none, "this", 1, &Fate::Finish(left_on_trial())),
            (Phase::Returning(left_on_trial()), it, none, "this", 1, &back("why")),
            // Readers were never switched.
            (Phase::Proving, other, none, "this", 1, &Fate::Forget),
            (waiting(), other, none, "next", 500, &Fate::Forget),
            (Phase::Rebooting, other, none, "next", 1, &Fate::Forget),
            // The end of the window belongs to what comes after it.
            (waiting(), it, none, "this", 99, &wait),
            (waiting(), it, none, "this", 100, &late),
            (waiting(), it, none, "next", 1, &restarted),
            (Phase::Rebooting, it, none, "this", 500, &Fate::AwaitReboot),
            (Phase::Rebooting, it, none, "next", 1, &Fate::Prove),
        ] {
            check(phase, holds, hands, boot, since_boot, expected);
        }
    }
}
