//! Versions that are well as far as this host can tell, and wait: for somebody who confirms them, or for the machine to be
//! started again.

use std::time::Duration;

use super::confirm::Over;
use super::connection;
use super::moment::{Moment, shown};
use super::pending::{Pending, Phase, Window};
use super::subject::Subject;
use super::way_back::{Due, WayBack, disarm};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::sync::Surroundings;

/// Has versions wait for somebody, for so long, and sees to it that they go back then.
pub(crate) fn wait(
    subject: &Subject<'_>,
    pending: &Pending,
    within: Duration,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let now = Moment::now()?;
    let (until, connection) = (now.since_boot + within, connection::this_one());
    let phase = Phase::Waiting(Window { until, within, connection });
    pending.clone().in_phase(phase, &now).write(subject.state)?;
    WayBack::of(surroundings).arm(subject, Due::After(within))?;
    surroundings.output.warning(&format!(
        "{subject} is not confirmed yet: type `smart-sync confirm {}` over a new connection within {}, else {}",
        subject.typed(),
        shown(within),
        subject.goes_back()
    ));
    Ok(())
}

/// Says that versions wait, and sees to it that they do not wait for ever: what stood by may be gone, for instance with
/// the container that it ran in.
pub(crate) fn still_waits(
    subject: &Subject<'_>,
    window: &Window,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let left = window.until.saturating_sub(Moment::now()?.since_boot);
    WayBack::of(surroundings).arm(subject, Due::After(left))?;
    tell_waits(subject, left, surroundings.output);
    Ok(())
}

/// Says that versions wait for somebody, and for how long yet.
pub(crate) fn tell_waits(subject: &Subject<'_>, left: Duration, output: &Output) {
    output.warning(&format!(
        "{subject} is not confirmed yet, and nothing is done before: type `smart-sync confirm {}` within {}, else {}",
        subject.typed(),
        shown(left),
        subject.goes_back()
    ));
}

/// Has versions wait until the machine is started again.
pub(crate) fn await_reboot(
    subject: &Subject<'_>,
    pending: &Pending,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    pending.clone().in_phase(Phase::Rebooting, &Moment::now()?).write(subject.state)?;
    // What stands by ends with this start of the machine; the command of the boot unit comes after it.
    disarm(subject.state);
    surroundings.output.warning(&format!(
        "{subject}: a reboot is pending; {} looked at after it, and confirmed or taken back then",
        subject.versions_are()
    ));
    Ok(())
}

/// Says that versions wait for that.
pub(crate) fn tell_awaits_reboot(subject: &Subject<'_>, output: &Output) {
    output.warning(&format!(
        "{subject} waits for a reboot: {} looked at when the machine is started again, and nothing is done before",
        subject.versions_are()
    ));
}

/// Refuses a confirmation that says nothing: over the connection that was there before.
pub(crate) fn check_connection(subject: &Subject<'_>, window: &Window, over: Over) -> Result<(), Failure> {
    let is_same = window.connection.is_some() && window.connection == connection::this_one();
    if over == Over::Any || !is_same {
        return Ok(());
    }
    Err(Failure::message(
        Exit::Arguments,
        format!("{subject}: this is the connection over which the update was applied"),
    )
    .hint("open a new connection to this host and type it there, so that it is known to be reachable")
    .hint("--same-connection confirms it all the same"))
}
