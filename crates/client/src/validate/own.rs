//! What this program itself needs: tokens that are secret, realms that are trusted, servers that answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use smart_sync_sync::name::Origin;
use smart_sync_sync::record::{Root, Unverified};
use smart_sync_sync::time::UnixTime;

use super::item::Severity;
use super::look::{Depth, Verdict, wrong};
use super::{Found, OWN};
use crate::commands::span;
use crate::commands::trust::EXPIRY_WARNING_SECONDS;
use crate::config::RealmName;
use crate::failure::Failure;
use crate::realm::remote::{Remote, Traffic};
use crate::realm::resolve::now;
use crate::realm::trust_store::TrustStore;
use crate::server_url::ServerUrl;
use crate::sync::Surroundings;
use crate::token::Tokens;

/// The longest checkpoint that is read; only that there is an answer matters here.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Looks at all of it.
pub(super) fn look(depth: Depth, surroundings: &Surroundings<'_>) -> Result<Vec<Found>, Failure> {
    let store = TrustStore::new(surroundings.state_dir);
    let mut found = vec![Found::of(OWN, "the token for servers", token(), Severity::Fail)];
    for origin in origins(&store, surroundings)? {
        let title = format!("trust in {origin}");
        let trust = trust(&origin, &store).unwrap_or_else(|failure| wrong(failure.in_one_line()));
        found.push(Found::of(OWN, &title, trust, Severity::Fail));
        if depth == Depth::Full {
            let title = format!("the servers of {origin}");
            // Without them the update itself says what is wrong, with a status of its own.
            found.push(Found::of(OWN, &title, servers(&origin, &store, surroundings)?, Severity::Warn));
        }
    }
    Ok(found)
}

fn token() -> Verdict {
    match Tokens::of_servers() {
        Ok(tokens) if tokens == Tokens::default() => Verdict::Skipped("there is none".to_owned()),
        Ok(_) => Verdict::Well("it is for its owner alone".to_owned()),
        Err(error) => wrong(Failure::from(error).in_one_line()),
    }
}

/// The realms that are configured or trusted.
fn origins(store: &TrustStore, surroundings: &Surroundings<'_>) -> Result<Vec<Origin>, Failure> {
    let configured = surroundings.config.realms.keys().map(|RealmName(origin)| origin.clone());
    let all: BTreeSet<Origin> = configured.chain(store.origins()?).collect();
    Ok(all.into_iter().collect())
}

fn trust(origin: &Origin, store: &TrustStore) -> Result<Verdict, Failure> {
    let Some(state) = store.state(origin)? else {
        return Ok(wrong("it is configured, but not trusted yet: smart-sync trust add URL --root sha256:…"));
    };
    if state.fork().is_some() {
        return Ok(wrong(format!(
            "it has shown two histories, both properly signed: nothing of it is accepted until `smart-sync trust reset {origin}`"
        )));
    }
    // Before the first answer was verified, the document that was shown when the realm was added is what is known.
    let shown = || {
        let note = store.shown_root(origin)?;
        Unverified::<Root>::parse(&note).and_then(Unverified::verify_own).ok()
    };
    let root = state.root().cloned().or_else(shown);
    Ok(root.map_or_else(
        || Verdict::Skipped("nothing was verified yet".to_owned()),
        |root| expiry(root.record().expires, now()),
    ))
}

/// How a root document stands that ends at a time. Pure.
fn expiry(expires: UnixTime, now: UnixTime) -> Verdict {
    match expires.seconds_since(now) {
        0 => wrong(format!("its root document expired at {expires}: nothing new is accepted")),
        left if left < EXPIRY_WARNING_SECONDS => Verdict::Wrong {
            text: format!(
                "its root document expires in {}; whoever runs the realm has to sign a new one",
                span(left)
            ),
            severity: Some(Severity::Warn),
            repairs: Vec::new(),
        },
        left => Verdict::Well(format!("its root document is good for {}", span(left))),
    }
}

fn servers(origin: &Origin, store: &TrustStore, surroundings: &Surroundings<'_>) -> Result<Verdict, Failure> {
    let configured = surroundings.config.realms.get(&RealmName(origin.clone()));
    let servers = match configured {
        Some(realm) => realm.servers.clone(),
        None => store.servers(origin)?,
    };
    // What is asked for is public: no token is shown for it.
    let remotes = servers
        .iter()
        .map(|server| Remote::new(server.clone(), None, surroundings.network, Arc::new(Traffic::default())));
    let remotes = remotes.collect::<Result<Vec<_>, _>>()?;
    let asking =
        async { Ok(join_all(remotes.iter().map(|remote| remote.get("checkpoint", ANSWER_BYTES_MAX))).await) };
    let answers = surroundings.runtime.block_on(surroundings.interrupt.guard(asking))?;
    let silent: Vec<String> = (servers.iter().zip(&answers))
        .filter_map(|(server, answer)| answer.as_ref().err().map(|error| reason(server, error)))
        .collect();
    Ok(match (servers.len(), silent.len()) {
        (0, _) => wrong("none is known"),
        (_, 0) => Verdict::Well("all answer".to_owned()),
        _ => wrong(silent.join("; ")),
    })
}

fn reason(server: &ServerUrl, error: &dyn std::error::Error) -> String {
    let cause = std::iter::successors(error.source(), |error| error.source()).last();
    let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
    format!("{server} does not answer: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_root_document_is_warned_of_in_time() {
        let at = |seconds: u64| UnixTime::new(seconds).unwrap();
        let now = at(1_800_000_000);
        let judged = |left: i64| match expiry(at(1_800_000_000_u64.saturating_add_signed(left)), now) {
            Verdict::Wrong { severity, .. } => Some(severity),
            _ => None,
        };
        assert_eq!(judged(-1), Some(None));
        assert_eq!(judged(0), Some(None));
        assert_eq!(judged(86_400), Some(Some(Severity::Warn)));
        assert_eq!(judged(31 * 86_400), None);
    }
}
