//! Reporting how this host stands, if the configuration says to whom.
//!
//! A report is a courtesy: it is short, it has seconds to arrive, and when it does not, that is a warning and nothing
//! else. What it says is read from the state of the target after the run, so that every command that changes a target
//! can end with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::Version;
use smart_sync_sync::wire::report::{Health, HostName, Report};
use tokio::time::timeout;

use crate::after::pending::{Failed, Pending, Phase};
use crate::after::verdict::{How, Verdict};
use crate::config::{Config, RealmName};
use crate::failure::{Exit, Failure};
use crate::hosts::config::ReportConfig;
use crate::profile::between::OnTrial;
use crate::realm::remote::{Remote, Traffic};
use crate::realm::trust_store::TrustStore;
use crate::server_url::ServerUrl;
use crate::settings::{SyncSettings, TreeSource};
use crate::sync::Surroundings;
use crate::sync::look::Looked;
use crate::sync::place::{Label, Place};
use crate::token::{Token, Tokens};

/// How long a report may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Reports after a run on a target, however it ended.
pub fn after(target: &Path, ended: &Result<Exit, Failure>, surroundings: &Surroundings<'_>) {
    courteously(surroundings, |config| tell(config, target, status_of(ended), None, None, surroundings));
}

/// The same after a sync, which is reported also where the target holds nothing yet.
pub(crate) fn after_sync(
    settings: &SyncSettings,
    ended: &Result<Exit, Failure>,
    surroundings: &Surroundings<'_>,
) {
    let exit = status_of(ended);
    // What was applied, or found to be here already, was looked at file by file.
    let drift = matches!(exit, Exit::Success | Exit::RebootPending).then_some(0);
    courteously(surroundings, |config| {
        tell(config, &settings.target, exit, drift, Some(empty(settings)), surroundings)
    });
}

/// Reports what was found in a target. Here it is what was asked for, so that it has to arrive.
pub fn looked(target: &Path, looked: Looked, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let config = surroundings.config.report.as_ref().ok_or_else(|| {
        Failure::message(Exit::Configuration, "nothing says to whom this host reports")
            .hint("add [report] with name = \"…\" to the configuration")
    })?;
    if tell(config, target, looked.exit, looked.drift, None, surroundings)? == Told::Nothing {
        surroundings.output.info("there is nothing to report yet");
    }
    Ok(looked.exit)
}

/// Whether something was reported.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Report,
    /// Nothing is known of the target.
    Nothing,
}

fn courteously(surroundings: &Surroundings<'_>, report: impl FnOnce(&ReportConfig) -> Result<Told, Failure>) {
    let Some(config) = &surroundings.config.report else { return };
    // Whoever wants it to end does not wait for this.
    if surroundings.interrupt.is_requested() {
        return;
    }
    if let Err(failure) = report(config) {
        let reasons: Vec<String> = failure.messages().collect();
        surroundings.output.warning(&format!("this run was not reported: {}", reasons.join(": ")));
    }
}

fn status_of(ended: &Result<Exit, Failure>) -> Exit {
    ended.as_ref().map_or_else(Failure::exit, |exit| *exit)
}

fn tell(
    config: &ReportConfig,
    target: &Path,
    exit: Exit,
    drift: Option<u64>,
    otherwise: Option<Report>,
    surroundings: &Surroundings<'_>,
) -> Result<Told, Failure> {
    let found = found(target, exit, drift, surroundings)?;
    let Some(report) = found.or_else(|| otherwise.map(|report| Report { exit: exit.code(), ..report }))
    else {
        return Ok(Told::Nothing);
    };
    let (server, token) = server(config.server.as_ref(), config.realm.as_ref(), surroundings)?;
    send(&config.name, &report, server, token, surroundings)?;
    Ok(Told::Report)
}

/// How a target stands; nothing where it holds nothing.
fn found(
    target: &Path,
    exit: Exit,
    drift: Option<u64>,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Report>, Failure> {
    let Some(place) = Place::known(target, surroundings.state_dir) else { return Ok(None) };
    let opened = place.open()?;
    let Some(version) = opened.applied()? else { return Ok(None) };
    let Some(label) = Label::of(&version) else { return Ok(None) };
    let is_failed =
        |version: &Version| Failed::find(&place.state, version.manifest()).map(|failed| failed.is_some());
    let newest = opened.kept()?.into_iter().max_by_key(|kept| kept.number);
    let stands = Stands {
        exit,
        waits_for: waits_for(&place)?,
        is_failed: is_failed(&version)?,
        is_newest_failed: newest.is_some_and(|newest| is_failed(&newest.version).unwrap_or(false)),
        ended: ended(&place, &version)?,
    };
    Ok(Some(Report {
        target: shown(&place.target),
        origin: label.origin,
        channel: label.channel,
        r#ref: label.r#ref,
        seq: label.seq,
        manifest: Some(format!("blake3:{}", version.manifest())),
        commit: label.commit,
        applied: label.applied,
        health: stands.health(),
        drift,
        exit: exit.code(),
    }))
}

/// What a version that is not confirmed yet waits for, by itself or with others of a profile.
fn waits_for(place: &Place) -> Result<Option<Phase>, Failure> {
    let own = Pending::read(&place.state)?.map(|pending| pending.phase);
    Ok(own.or(OnTrial::of(place)?.map(|set| set.pending.map_or(Phase::Proving, |pending| pending.phase))))
}

/// How the update has ended that left this version, if that was looked at.
fn ended(place: &Place, version: &Version) -> Result<Option<How>, Failure> {
    let last = Verdict::read(&place.state)?.last;
    Ok(last.filter(|last| last.manifest == version.manifest().to_string()).map(|last| last.how))
}

/// A target that holds nothing, and what it is to follow.
fn empty(settings: &SyncSettings) -> Report {
    let (origin, channel) = match &settings.tree.source {
        TreeSource::Channel { realm, channel, .. } => {
            (realm.as_ref().map(ToString::to_string).unwrap_or_default(), channel.to_string())
        }
        TreeSource::Repository(address) => (address.to_string(), String::new()),
    };
    Report {
        target: shown(&settings.target),
        origin,
        channel,
        r#ref: settings.tree.reference.to_string(),
        seq: 0,
        manifest: None,
        commit: None,
        applied: 0,
        health: Health::NothingApplied,
        drift: None,
        exit: 0,
    }
}

fn shown(path: &Path) -> String {
    Shown(path.as_os_str().as_encoded_bytes()).to_string()
}

/// What is known of a target that holds something.
struct Stands {
    exit: Exit,
    /// What its version waits for, if it is not confirmed yet.
    waits_for: Option<Phase>,
    /// Its version was found not to be healthy.
    is_failed: bool,
    /// The newest version that is kept was.
    is_newest_failed: bool,
    /// How the update has ended that left it.
    ended: Option<How>,
}

impl Stands {
    fn health(&self) -> Health {
        match self.exit {
            Exit::RebootPending => Health::RebootPending,
            Exit::RollbackFailed => Health::NotHealthy,
            Exit::RolledBack => Health::RolledBack,
            _ if self.is_failed => Health::NotHealthy,
            _ if self.waits_for == Some(Phase::Rebooting) => Health::RebootPending,
            _ if self.waits_for.is_some() => Health::Waiting,
            // What it holds is an older one, which was gone back to.
            _ if self.is_newest_failed => Health::RolledBack,
            // What was not healthy may have been another target of its profile.
            _ => match self.ended {
                Some(How::RolledBack(_) | How::TakenBack(_)) => Health::RolledBack,
                Some(How::RollbackFailed(_)) => Health::NotHealthy,
                Some(How::Confirmed) | None => Health::Healthy,
            },
        }
    }
}

/// The server that hosts report to, and the token for it.
pub(super) fn server(
    named: Option<&ServerUrl>,
    realm: Option<&RealmName>,
    surroundings: &Surroundings<'_>,
) -> Result<(ServerUrl, Option<Token>), Failure> {
    let config = surroundings.config;
    let tokens = Tokens::of_servers()?;
    let configured = |name: &RealmName| config.realms.get(name).and_then(|realm| realm.token.as_ref());
    if let Some(server) = named {
        let home = config.realms.iter().find(|(_, realm)| realm.servers.contains(server));
        let token = tokens.choose(home.and_then(|(name, _)| configured(name))).cloned();
        return Ok((server.clone(), token));
    }
    let realm = match (realm, config.realms.len()) {
        (Some(realm), _) => realm.clone(),
        (None, 1) => config.realms.keys().next().cloned().expect("there is one"),
        (None, _) => only_known(config, surroundings)?,
    };
    let servers = match config.realms.get(&realm) {
        Some(realm) => realm.servers.clone(),
        None => TrustStore::new(surroundings.state_dir).servers(&realm.0)?,
    };
    let server = servers.into_iter().find(|server| server.directory().is_none()).ok_or_else(|| {
        Failure::message(Exit::Configuration, format!("no server of {} is known", realm.0))
            .hint("name one: server = \"https://…\" in [report]; --server URL for `smart-sync hosts`")
    })?;
    Ok((server, tokens.choose(configured(&realm)).cloned()))
}

/// The realm that this host trusts, where the configuration names none.
fn only_known(config: &Config, surroundings: &Surroundings<'_>) -> Result<RealmName, Failure> {
    let mut known = TrustStore::new(surroundings.state_dir).origins()?;
    match (config.realms.len(), known.len()) {
        (0, 1) => Ok(RealmName(known.remove(0))),
        (0, 0) => Err(Failure::message(Exit::Refused, "no realm is trusted yet")
            .hint("`smart-sync trust add URL --root sha256:…` with the fingerprint from whoever runs it")),
        _ => Err(Failure::message(
            Exit::Configuration,
            "there are several realms, and nothing says which one hosts report to",
        )
        .hint("set realm = \"…\" in [report], or name a server with --server URL")),
    }
}

fn send(
    name: &HostName,
    report: &Report,
    server: ServerUrl,
    token: Option<Token>,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let bytes = report.encode().map_err(|error| Failure::new(Exit::General, error))?;
    let remote = Remote::new(server, token, surroundings.network, Arc::new(Traffic::default()))?;
    let path = format!("v1/hosts/{name}");
    let sending = async {
        if let Ok(answer) = timeout(PATIENCE, remote.send(Method::POST, &path, bytes, ANSWER_BYTES_MAX)).await
        {
            return answer.map(drop).map_err(Failure::from);
        }
        let text = format!("{} did not take it within {} s", remote.base(), PATIENCE.as_secs());
        Err(Failure::message(Exit::Network, text))
    };
    surroundings.runtime.block_on(surroundings.interrupt.guard(sending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        exit: Exit,
        waits_for: Option<Phase>,
        [is_failed, is_newest_failed]: [bool; 2],
        expected: Health,
    ) {
        let stands = Stands { exit, waits_for, is_failed, is_newest_failed, ended: None };
        assert_eq!(stands.health(), expected);
    }

    #[test]
    fn a_target_that_went_back_with_others_is_rolled_back() {
        let health = |ended| {
            let (is_failed, is_newest_failed) = (false, false);
            Stands { exit: Exit::Success, waits_for: None, is_failed, is_newest_failed, ended }.health()
        };
        assert_eq!(health(Some(How::RolledBack("why".to_owned()))), Health::RolledBack);
        assert_eq!(health(Some(How::RollbackFailed("why".to_owned()))), Health::NotHealthy);
        assert_eq!(health(Some(How::Confirmed)), Health::Healthy);
    }

    #[test]
    fn health_is_what_the_run_and_the_notes_of_the_target_say() {
        check(Exit::Success, None, [false, false], Health::Healthy);
        check(Exit::Network, None, [false, false], Health::Healthy);
        check(Exit::Success, Some(Phase::Proving), [false, false], Health::Waiting);
        check(Exit::RebootPending, Some(Phase::Rebooting), [false, false], Health::RebootPending);
        check(Exit::Success, Some(Phase::Rebooting), [false, false], Health::RebootPending);
        check(Exit::RolledBack, None, [false, true], Health::RolledBack);
        check(Exit::RollbackFailed, None, [true, true], Health::NotHealthy);
        // Nobody tries the failed version in a run that only looks.
        check(Exit::Success, None, [false, true], Health::RolledBack);
        check(Exit::Drift, None, [true, true], Health::NotHealthy);
    }
}
