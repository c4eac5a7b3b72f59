//! `deploy`: smart-sync on other hosts, some of them first.
//!
//! The canaries come one after the other, and the first that is not well ends it before any other host is touched. Of
//! the rest, one that fails does not keep the others from their turn.

use futures::StreamExt as _;
use futures::stream;

use super::carry::{self, Carried, Program};
use super::choose::{DeploySettings, Host, command_line};
use super::heard::{Level, Message};
use super::outcome::{Outcome, State, summary, worst};
use super::ssh::{self, Connection, Ran};
use crate::failure::{Exit, Failure};
use crate::interrupt;
use crate::output::Output;
use crate::sync::Surroundings;

/// Brings hosts up to date, or has them say what that would change.
pub fn run(settings: &DeploySettings, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let outcomes = surroundings.runtime.block_on(async {
        let program = if settings.is_installed { Some(Program::open().await?) } else { None };
        all(program.as_ref(), settings, surroundings).await
    })?;
    let output = surroundings.output;
    output.info(&summary(&outcomes));
    let exit = worst(&outcomes);
    if surroundings.interrupt.is_requested() {
        return Err(interrupted(&outcomes));
    }
    Ok(exit)
}

async fn all(
    program: Option<&Program>,
    settings: &DeploySettings,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<Outcome>, Failure> {
    let (canaries, others) = settings.hosts.split_at(settings.canaries);
    let output = surroundings.output;
    let mut outcomes = Vec::new();
    for canary in canaries {
        let outcome = one(canary, program, settings, surroundings).await?;
        let is_well = outcome.state.is_well();
        outcomes.push(outcome);
        if !is_well {
            let rest = settings.hosts.iter().skip(outcomes.len());
            outcomes.extend(rest.map(Outcome::not_tried));
            if !surroundings.interrupt.is_requested() {
                output.warning(&format!("{} is not well: no other host was touched", canary.name));
            }
            break;
        }
    }
    if outcomes.len() == settings.canaries {
        let running = others.iter().map(|host| one(host, program, settings, surroundings));
        let mut running = stream::iter(running).buffer_unordered(settings.parallel);
        while let Some(outcome) = running.next().await {
            outcomes.push(outcome?);
        }
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.state == State::NotTried) {
        tell(outcome, output);
    }
    Ok(outcomes)
}

/// Does what is to be done on one host, and says what came of it.
async fn one(
    host: &Host,
    program: Option<&Program>,
    settings: &DeploySettings,
    surroundings: &Surroundings<'_>,
) -> Result<Outcome, Failure> {
    if surroundings.interrupt.is_requested() {
        return Ok(Outcome::not_tried(host));
    }
    let outcome = match program {
        None => command(host, None, settings, surroundings).await?,
        Some(program) => match carry::carry(program, host, settings, surroundings).await? {
            Carried::There(path) | Carried::WouldCarry(Some(path)) => {
                command(host, Some(&path), settings, surroundings).await?
            }
            Carried::WouldCarry(None) => {
                Outcome::done(host, "smart-sync is not there yet, and cannot say what it would do".to_owned())
            }
            Carried::Ended(outcome) => outcome,
        },
    };
    tell(&outcome, surroundings.output);
    Ok(outcome)
}

/// Runs the program on a host, and confirms what that applied.
async fn command(
    host: &Host,
    carried: Option<&str>,
    settings: &DeploySettings,
    surroundings: &Surroundings<'_>,
) -> Result<Outcome, Failure> {
    let line = command_line(host, carried, &settings.words);
    let ran = reach(host, &line, Connection::Any, settings, surroundings).await?;
    let outcome = Outcome::of(host, ran.ended, &ran.heard, ran.complaint.as_deref());
    match &settings.confirmation {
        // A host that waits for its reboot cannot be confirmed before.
        Some(words) if outcome.exit == Exit::Success => {
            let line = command_line(host, carried, words);
            let ran = reach(host, &line, Connection::New, settings, surroundings).await?;
            Ok(outcome.confirmed(Outcome::of(host, ran.ended, &ran.heard, ran.complaint.as_deref())))
        }
        _ => Ok(outcome),
    }
}

async fn reach(
    host: &Host,
    line: &std::ffi::OsStr,
    connection: Connection,
    settings: &DeploySettings,
    surroundings: &Surroundings<'_>,
) -> Result<Ran, Failure> {
    let output = surroundings.output;
    let show = |message: Message| {
        let text = format!("{}: {}", host.name, message.text);
        match message.level {
            Level::Warning => output.warning(&text),
            // What hosts would do is what was asked for.
            Level::Info if settings.is_dry_run => output.info(&text),
            Level::Info | Level::Detail => output.detail(&text),
        }
    };
    ssh::run(host, line, connection, settings.timeout, surroundings.interrupt, show)
        .await
        .map_err(|error| ssh::not_run(error, host))
}

fn tell(outcome: &Outcome, output: &Output) {
    if outcome.state.is_well() || outcome.state == State::NotTried {
        output.info(&outcome.line());
    } else {
        output.warning(&outcome.line());
    }
    if let Some(hint) = &outcome.hint {
        output.info(&format!("{}: {hint}", outcome.host.name));
    }
    output.event(&outcome.event());
}

/// Says of which hosts nobody knows how they stand.
fn interrupted(outcomes: &[Outcome]) -> Failure {
    let unknown = outcomes.iter().filter(|outcome| outcome.state == State::Unknown);
    let names: Vec<&str> = unknown.map(|outcome| outcome.host.name.as_str()).collect();
    if names.is_empty() {
        return interrupt::interrupted();
    }
    let text =
        format!("interrupted while these were at work, and are in an unknown state: {}", names.join(", "));
    Failure::message(Exit::Interrupted, text)
        .hint("run the same again: what is there already is not done twice; or look with `-- status`")
}
