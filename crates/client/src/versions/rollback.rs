//! Going back to a version, or on to one, and running what is configured for that.

use std::path::Path;

use smart_sync_store::manifest::path::Shown;
use smart_sync_store::manifest::{Manifest, diff};
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::scan::Scan;
use smart_sync_sync::apply::versions::{Kept, Kind, VersionName};

use super::choose::{Earlier, newest};
use super::hold::Hold;
use super::{described, keeps_none, not_kept};
use crate::after::chosen::{Leaving, decide_for, foreseen, run_for_chosen};
use crate::after::pending::Failed;
use crate::after::trigger::{After, Changed};
use crate::after::verdict::Verdict;
use crate::args::versions::RollbackArgs;
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::output::{Output, count};
use crate::profile;
use crate::realm::remote::Remote;
use crate::realm::resolve::Realm;
use crate::realm::trust_store::TrustStore;
use crate::settings::{self, SyncMode, TargetPolicy, Validation};
use crate::sync::Surroundings;
use crate::sync::elsewhere::Elsewhere;
use crate::sync::original::bring_original;
use crate::sync::pages::Pages;
use crate::sync::place::{Label, Place};
use crate::sync::session::{Purpose, Session, Wanted, seconds_now, stamp};
use crate::token::Tokens;

/// Damaged paths that are named.
const SHOWN: usize = 10;

/// Switches a target to a version that is kept: the one of this number, else the last one before the current one that
/// nothing speaks against. It stays there until it is told to follow its ref again.
pub fn rollback(
    target: &Path,
    args: &RollbackArgs,
    policy: &TargetPolicy,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let place = Place::find(target, surroundings.state_dir)?;
    if !place.kind.keeps_versions() {
        return Err(keeps_none(&place.target));
    }
    profile::between::check_alone(&place)?;
    let session = Session::begin(&place, policy, Validation::TrustStat, output)?;
    // A set may have begun before the target was taken.
    profile::between::check_alone(&place)?;
    let kept = session.ready().target().kept()?;
    let (current, left) = (session.applied.as_ref().and_then(|applied| applied.name()), session.manifest());
    let chosen = choose(&kept, current, args.generation, &place, output)?;
    if current == Some(chosen.name()) {
        if !args.dry_run {
            hold(&place, chosen.number)?;
            if decide_for(&session)? {
                output.info("it does not wait any more, and is not taken back by itself");
            }
        }
        output.info(&format!("{} is at generation {} already", place.target.display(), chosen.number));
        return Ok(Exit::Success);
    }
    let after = if args.skip_rebuild { After::default() } else { policy.after.clone() };
    let paths = if after.run.is_empty() { None } else { changes(&session, chosen) };
    let changed = paths.as_deref().map_or(Changed::Unknown, Changed::Paths);
    if args.dry_run {
        show(chosen, &place, &after, changed, output);
        return Ok(Exit::Success);
    }
    // Where nothing is to run, there is nothing to be brought to its end.
    let leaving = (!args.skip_rebuild).then(|| Leaving::note(&session, &after, changed, surroundings));
    let number = go_back(&session, chosen, surroundings).inspect_err(|_| {
        if let Some(leaving) = leaving {
            leaving.stays_after_all(&place, surroundings);
        }
    })?;
    hold(&place, number)?;
    let target = place.target.display();
    output.info(&format!("{target} is at generation {number} now: {}", described(chosen)));
    output.info("it stays there until `smart-sync resume`");
    output.event(&serde_json::json!({
        "event": "rolled-back",
        "target": place.target.to_string_lossy(),
        "generation": number,
        "manifest": format!("blake3:{}", chosen.version.manifest()),
    }));
    run_for_chosen(&session.reopened()?, &after, changed, left, surroundings)
}

/// Says what would be done.
fn show(chosen: &Kept, place: &Place, after: &After, changed: Changed<'_>, output: &Output) {
    let target = place.target.display();
    output.info(&format!("{target} would be at generation {}: {}", chosen.number, described(chosen)));
    for line in foreseen(place, after, changed, chosen.version.manifest()) {
        output.info(&line);
    }
    output.info("nothing was changed");
}

/// The paths at which a version differs from what the target holds, where that is known.
pub(crate) fn changes(session: &Session<'_>, chosen: &Kept) -> Option<Vec<Box<[u8]>>> {
    let manifest = chosen.version.manifest();
    let pages = Pages::load(&session.place().state, manifest).ok()?;
    let old = Manifest::open(&session.pages, session.manifest()?, None).ok()?;
    let new = Manifest::open(&pages, manifest, None).ok()?;
    diff(&old, &new).map(|change| Some(change.ok()?.path().as_bytes().into())).collect()
}

/// Switches readers to a version, or makes it again where it was damaged. Returns the number that it has then.
pub(crate) fn go_back(
    session: &Session<'_>,
    chosen: &Kept,
    surroundings: &Surroundings<'_>,
) -> Result<u64, Failure> {
    if session.ready().target().is_changed_in_place() {
        return change_back(session, chosen, surroundings);
    }
    // What readers see is known to be as it was where nothing changed since they were switched to it.
    let scan =
        if session.ready().may_have_changed()? { Some(session.scan(session.fidelity())?) } else { None };
    match damage(session, chosen)? {
        None => {
            switch(session, chosen, scan.as_ref(), surroundings.output)?;
            Ok(chosen.number)
        }
        Some(damaged) => {
            tell_damage(chosen, &damaged, surroundings.output);
            let scan = match scan {
                Some(scan) => scan,
                None => session.scan(session.fidelity())?,
            };
            make_again(session, &chosen.version, &called(chosen), scan, None, surroundings)?;
            Ok(session.ready().target().kept()?.last().map_or(chosen.number, |kept| kept.number))
        }
    }
}

/// Changes what readers see to what a version was, with what is kept of it.
fn change_back(
    session: &Session<'_>,
    chosen: &Kept,
    surroundings: &Surroundings<'_>,
) -> Result<u64, Failure> {
    let is_snapshot = session.place().kind == Kind::Zfs;
    if is_snapshot && session.ready().target().version_tree(chosen.name())?.is_none() {
        let number = chosen.number;
        surroundings.output.warning(&format!(
            "the snapshot of generation {number} is gone; the version is made again from what others have"
        ));
    }
    let scan = session.scan(session.fidelity())?;
    make_again(session, &chosen.version, &called(chosen), scan, Some(chosen.name()), surroundings)?;
    Ok(chosen.number)
}

/// Holds a target at a version.
pub(crate) fn hold(place: &Place, generation: u64) -> Result<(), Failure> {
    let since = u64::try_from(seconds_now()).unwrap_or_default();
    Hold { generation, since }.write(&place.state)
}

/// The version that is gone to, with a word on those that it is not.
fn choose<'k>(
    kept: &'k [Kept],
    current: Option<&VersionName>,
    number: Option<u64>,
    place: &Place,
    output: &Output,
) -> Result<&'k Kept, Failure> {
    let target = place.target.display();
    let reason = |kept: &Kept| {
        let failed = Failed::find(&place.state, kept.version.manifest())?;
        Ok::<_, Failure>(failed.map(|failed| failed.reason))
    };
    if let Some(number) = number {
        let chosen = kept.iter().find(|kept| kept.number == number);
        let chosen = chosen.ok_or_else(|| not_kept(number, &place.target))?;
        // Who names one has decided: what is known of it keeps nobody from going there, and neither does a note that
        // cannot be read.
        if let Some(reason) = reason(chosen).unwrap_or_default() {
            output.warning(&format!("generation {number} was not healthy when it was tried: {reason}"));
        }
        return Ok(chosen);
    }
    let verdict = Verdict::read(&place.state)?;
    let at = kept.iter().position(|kept| Some(kept.name()) == current).unwrap_or_default();
    let earlier = kept[..at].iter().map(|kept| {
        let is_confirmed = verdict.was_confirmed(kept.name());
        Ok(Earlier { kept, unhealthy: reason(kept)?, is_confirmed })
    });
    let earlier = earlier.collect::<Result<Vec<_>, Failure>>()?;
    let (chosen, passed_over) = newest(&earlier);
    for (kept, why) in passed_over {
        output.info(&format!("generation {} is passed over: {why}", kept.number));
    }
    chosen.ok_or_else(|| {
        let which = if earlier.is_empty() { "" } else { " that was healthy" };
        Failure::message(
            Exit::Arguments,
            format!("no generation of {target} before the current one{which} is kept"),
        )
        .hint(
            "`smart-sync generations` lists those that are; `smart-sync rollback NUMBER` goes to any of them",
        )
    })
}

fn switch(session: &Session<'_>, chosen: &Kept, scan: Option<&Scan>, output: &Output) -> Result<(), Failure> {
    let (own, changed) = scan.map_or_else(Default::default, |scan| {
        let own = scan.untracked.iter().chain(&scan.excluded).map(|found| found.path.clone()).collect();
        let there = scan.findings.iter().filter(|finding| finding.found.is_some());
        (own, there.map(|finding| finding.path.clone()).collect::<Vec<_>>())
    });
    let own: Vec<Box<[u8]>> = own;
    let saved = session.ready().switch_to(chosen, &own, &changed, &stamp())?;
    if !saved.backed_up.is_empty() {
        output.info(&crate::sync::session::kept_in_backup(saved.backed_up.len(), session.place()));
    }
    session.tell_left(saved.left.as_deref());
    Ok(())
}

/// How a version differs from what it was, if it does.
fn damage(session: &Session<'_>, chosen: &Kept) -> Result<Option<Vec<Box<[u8]>>>, Failure> {
    let Some(tree) = session.ready().target().version_tree(chosen.name())? else {
        return Ok(Some(vec![Box::default()]));
    };
    // Nobody can write to a snapshot.
    if session.place().kind == Kind::Btrfs {
        return Ok(None);
    }
    let scan = session.scan_version(chosen, &tree)?;
    let damaged: Vec<_> = scan.findings.iter().map(|finding| finding.path.clone()).collect();
    Ok((!damaged.is_empty()).then_some(damaged))
}

fn tell_damage(chosen: &Kept, damaged: &[Box<[u8]>], output: &Output) {
    let number = chosen.number;
    if damaged.iter().all(|path| path.is_empty()) {
        output.warning(&format!(
            "the directory of generation {number} is gone; it is made again from what others have"
        ));
        return;
    }
    let paths = count(damaged.len() as u64, "path of it differs", "paths of it differ");
    output.warning(&format!("generation {number} was changed since it was left: {paths}; it is made again"));
    for path in damaged.iter().take(SHOWN) {
        output.warning(&format!("changed: {}", Shown(path)));
    }
}

fn called(chosen: &Kept) -> String {
    format!("generation {}", chosen.number)
}

/// Makes a target what was applied to it last. What was changed by hand is kept in the backup.
pub(crate) fn restore_applied(session: &Session<'_>, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let Some(version) = &session.applied else { return Ok(()) };
    let scan = session.scan(session.fidelity())?;
    let is_changed_in_place = session.ready().target().is_changed_in_place();
    let name = version.name().filter(|_| is_changed_in_place);
    make_again(session, version, "what was applied", scan, name, surroundings)
}

/// Makes a version again, as a new one or under its name, from what other versions and targets have, else from the
/// realm that it is of.
fn make_again(
    session: &Session<'_>,
    version: &Version,
    called: &str,
    scan: Scan,
    name: Option<&VersionName>,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let Surroundings { state_dir, interrupt, output, config, .. } = *surroundings;
    let manifest = version.manifest();
    let pages = Pages::load(&session.place().state, manifest)?;
    let fidelity = Manifest::open(&pages, manifest, None)?.fidelity();
    let label = Label::of(version).ok_or_else(|| {
        Failure::message(Exit::RollbackFailed, format!("it is not known what {called} was"))
    })?;
    let origin = label.origin.clone();
    let wanted = Wanted { pages, manifest, fidelity, label, purpose: Purpose::GoingBack(name.cloned()) };
    let elsewhere = Elsewhere {
        targets: config.targets.keys().map(|path| path.0.clone()).collect(),
        repositories: config.bytes_from.iter().map(|path| path.0.clone()).collect(),
    };
    let made = session.apply(&wanted, scan, SyncMode::Apply, None, |needs, stage| {
        let missing = elsewhere.bring(needs, stage, session.place(), state_dir, interrupt, output)?;
        if missing.is_empty() {
            return Ok(());
        }
        output.info(&format!(
            "{} nowhere on this host, and asked for",
            count(missing.len() as u64, "file is", "files are")
        ));
        let asked = remotes(&origin, surroundings).and_then(|remotes| {
            missing.iter().try_for_each(|need| bring_original(&remotes, need, stage, surroundings))
        });
        asked.map_err(|failure| cannot_repair(version, called, missing.len(), &failure))
    });
    made.map(|_| ())
}

fn remotes(origin: &str, surroundings: &Surroundings<'_>) -> Result<Vec<Remote>, Failure> {
    let origin = origin.parse().map_err(|_| {
        Failure::message(
            Exit::General,
            format!("{origin} is a repository, which is not asked for single files"),
        )
    })?;
    let options =
        settings::realm_options(&origin, surroundings.config, &Tokens::of_servers()?, surroundings.network);
    Ok(Realm::open(&TrustStore::new(surroundings.state_dir), &options)?.remotes().to_vec())
}

fn cannot_repair(version: &Version, called: &str, missing: usize, failure: &Failure) -> Failure {
    if failure.exit() == Exit::Interrupted {
        return interrupted();
    }
    let files = count(missing as u64, "file", "files");
    let reason = failure.in_one_line();
    let text = format!(
        "{called} cannot be made again, and nothing was changed: {files} of it cannot be had: {reason}"
    );
    let failure = Failure::message(Exit::RollbackFailed, text);
    match Label::of(version) {
        Some(label) => failure.hint(format!(
            "run this again when {} can be reached, or choose another with `smart-sync generations`",
            label.origin
        )),
        None => failure,
    }
}
