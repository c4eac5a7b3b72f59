//! Looking at targets without changing them: what they hold, and how they differ from that.

use std::path::Path;

use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::scan::Finding;

use super::place::{Label, Place};
use super::session::Session;
use crate::after::pending::Pending;
use crate::after::subject::Subject;
use crate::after::verdict::Health;
use crate::failure::{Exit, Failure};
use crate::output::{Output, count};
use crate::profile::between::OnTrial;
use crate::settings::{TargetPolicy, Validation};
use crate::versions::hold::Hold;
use serde::Serialize;

/// What a target holds, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "status")]
struct Status<'a> {
    target: &'a str,
    origin: &'a str,
    channel: &'a str,
    r#ref: &'a str,
    seq: u64,
    commit: Option<&'a str>,
    manifest: String,
    applied: u64,
    drift: usize,
    generation: Option<u64>,
    held: bool,
    health: &'static str,
    reason: Option<&'a str>,
}

/// A path that differs from what was applied, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "drift")]
struct DriftEvent<'a> {
    path: &'a str,
    how: &'a str,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// How the run ends.
    pub exit: Exit,
    /// The number of local changes; nothing where nothing was applied yet.
    pub drift: Option<u64>,
}

/// Says what a target holds and whether it was changed since.
pub fn status(
    target: &Path,
    policy: &TargetPolicy,
    state_dir: &Path,
    output: &Output,
) -> Result<Looked, Failure> {
    let place = Place::find(target, state_dir)?;
    let session = Session::begin(&place, policy, Validation::TrustStat, output)?;
    let Some(version) = &session.applied else {
        output.info(&format!("nothing was applied to {} yet", place.target.display()));
        return Ok(Looked { exit: Exit::Success, drift: None });
    };
    let scan = session.scan(session.fidelity())?;
    let manifest = format!("blake3:{}", version.manifest());
    if let Some(label) = Label::of(version) {
        let from = if label.channel.is_empty() {
            label.origin.clone()
        } else {
            format!("{} {} number {}", label.channel, label.r#ref, label.seq)
        };
        output.info(&format!("{} holds {from}", place.target.display()));
        if let Some(commit) = &label.commit {
            output.info(&format!("commit {commit}"));
        }
        output.info(&format!("manifest {manifest}"));
        let kept = session.ready().target().kept()?;
        let generation = kept.iter().find(|kept| Some(kept.name()) == version.name()).map(|kept| kept.number);
        let held = Hold::read(&place.state)?;
        if let Some(generation) = generation {
            let kept = count(kept.len() as u64, "is kept", "are kept");
            let held = if held.is_some() { "; it is held there until `smart-sync resume`" } else { "" };
            output.info(&format!("generation {generation}; {kept}{held}"));
        }
        let set = OnTrial::of(&place)?;
        let (health, subject) = if let Some(set) = &set {
            (set.health()?, set.subject())
        } else {
            let health = Health::of(&place.state, &version.manifest().to_string())?;
            let (subject, pending) = (Subject::target(&place), Pending::read(&place.state)?);
            // Where the tree stays, what becomes of it is something else.
            (health, pending.map_or(subject, |pending| subject.noted(&pending)))
        };
        if let Some(sentence) = health.sentence(&subject) {
            output.info(&sentence);
        }
        output.event(&Status {
            target: &place.target.to_string_lossy(),
            origin: &label.origin,
            channel: &label.channel,
            r#ref: &label.r#ref,
            seq: label.seq,
            commit: label.commit.as_deref(),
            manifest,
            applied: label.applied,
            drift: scan.findings.len(),
            generation,
            held: held.is_some(),
            health: health.name(),
            reason: health.reason(),
        });
    }
    if scan.is_clean() {
        output.info("no local changes");
    } else {
        let changes = count(scan.findings.len() as u64, "local change", "local changes");
        let typed = Subject::target(&place).typed();
        output.info(&format!("{changes}; `smart-sync verify {typed}` lists them"));
    }
    Ok(Looked { exit: Exit::Success, drift: Some(scan.findings.len() as u64) })
}

/// Lists how a target differs from its manifest.
pub fn verify(
    target: &Path,
    policy: &TargetPolicy,
    is_full: bool,
    state_dir: &Path,
    output: &Output,
) -> Result<Looked, Failure> {
    let place = Place::find(target, state_dir)?;
    let validation = if is_full { Validation::Full } else { Validation::Sample };
    let session = Session::begin(&place, policy, validation, output)?;
    if session.applied.is_none() {
        return Err(Failure::message(
            Exit::General,
            format!("nothing was applied to {} yet", place.target.display()),
        )
        .hint("run `smart-sync` first"));
    }
    let scan = session.scan(session.fidelity())?;
    for finding in &scan.findings {
        tell(finding, output);
    }
    if scan.is_clean() {
        let how =
            if is_full { "every file was read" } else { "what changed and a sample of the rest were read" };
        output.info(&format!("{} is as it was applied; {how}", place.target.display()));
        return Ok(Looked { exit: Exit::Success, drift: Some(0) });
    }
    let number = scan.findings.len() as u64;
    let (differ, them) =
        (count(number, "path differs", "paths differ"), if number == 1 { "it" } else { "them" });
    output.info(&format!("{differ} from what was applied; the next sync restores {them}"));
    Ok(Looked { exit: Exit::Drift, drift: Some(number) })
}

fn tell(finding: &Finding, output: &Output) {
    let path = Shown(&finding.path).to_string();
    let how = finding.drift.name();
    output.info(&format!("{how}: {path}"));
    output.event(&DriftEvent { path: &path, how });
}
