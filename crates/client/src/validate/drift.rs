//! Whether targets are what was applied to them, and making them that again.
//!
//! It is the look that `verify` has. What differs makes no host unfit: the next update keeps what was changed in the
//! backup, and restores what was published. Restoring does that at once, for the version that the target holds, and
//! neither follows its ref nor runs commands.

use std::path::Path;

use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::error::ApplyError;
use smart_sync_sync::apply::scan::Scan;

use super::item::Severity;
use super::look::{Depth, Verdict};
use super::repair::Repair;
use crate::after::pending::Pending;
use crate::failure::{Exit, Failure};
use crate::output::count;
use crate::profile::between::check_alone;
use crate::settings::{self, Validation};
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::Session;
use crate::versions::rollback::restore_applied;

/// Paths that are named where several differ.
const NAMED: usize = 3;

/// Compares a target with what was applied to it: by what the file system says of its files, or by reading them all.
pub(super) fn look(
    place: Option<&Place>,
    depth: Depth,
    surroundings: &Surroundings<'_>,
) -> Result<Verdict, Failure> {
    let nothing = || Verdict::Skipped("nothing was applied to the target yet".to_owned());
    let Some(place) = place else { return Ok(nothing()) };
    let (_, policy) = settings::target(Some(&place.target), surroundings.config)?;
    let validation = if depth == Depth::Quick { Validation::TrustStat } else { Validation::Full };
    let session = match Session::begin(place, &policy, validation, surroundings.output) {
        Ok(session) => session,
        Err(failure) => match failure.cause::<ApplyError>() {
            Some(ApplyError::Locked(holder)) => {
                return Ok(Verdict::Skipped(format!("it is being worked on by {holder}")));
            }
            _ => return Err(failure),
        },
    };
    if session.applied.is_none() {
        return Ok(nothing());
    }
    let scan = session.scan(session.fidelity())?;
    if scan.is_clean() {
        let how = if depth == Depth::Quick { "no file looks otherwise" } else { "every file was read" };
        return Ok(Verdict::Well(format!("it is as it was applied; {how}")));
    }
    let number = scan.findings.len();
    Ok(Verdict::Wrong {
        text: told(&scan),
        severity: Some(Severity::Warn),
        repairs: vec![Repair::Restore { target: place.target.clone(), paths: number as u64 }],
    })
}

/// The first paths that differ, and how many there are.
fn told(scan: &Scan) -> String {
    let number = scan.findings.len() as u64;
    let first = scan.findings.iter().take(NAMED);
    let first: Vec<String> =
        first.map(|finding| format!("{}: {}", finding.drift.name(), Shown(&finding.path))).collect();
    let more = number.saturating_sub(NAMED as u64);
    let more = if more > 0 { format!(", and {}", count(more, "other", "others")) } else { String::new() };
    let differ = count(number, "path differs", "paths differ");
    format!("{differ} from what was applied ({}{more})", first.join(", "))
}

/// Makes a target what was applied to it. What was changed by hand is kept in the backup.
pub(super) fn restore(target: &Path, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let place = Place::find(target, surroundings.state_dir)?;
    check_alone(&place)?;
    let (_, policy) = settings::target(Some(&place.target), surroundings.config)?;
    let session = Session::begin(&place, &policy, Validation::TrustStat, surroundings.output)?;
    // A set may have begun before the target was taken.
    check_alone(&place)?;
    // The version that waits has a name of its own, under which it is confirmed or taken back.
    if Pending::read(&place.state)?.is_some() {
        return Err(Failure::message(Exit::General, "what is applied there was not confirmed yet"));
    }
    restore_applied(&session, surroundings)
}
