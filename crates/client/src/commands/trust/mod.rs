//! `trust`: whom this host believes.
//!
//! Adding a realm pins the hash of a root document; everything later is judged from there. A realm that is known
//! already is only ever followed: a hash or a server cannot lead away from what is trusted.

mod show;

use std::sync::Arc;

use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::Origin;
use smart_sync_sync::record::{Root, Signed};
use smart_sync_sync::trust::TrustState;

use super::{only_shown, wait_for};
use crate::args::trust::{TrustAddArgs, TrustCommand, TrustResetArgs};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::realm::remote::{Remote, Traffic};
use crate::realm::resolve::now;
use crate::realm::roots::{RootChain, trusted_by};
use crate::realm::trust_store::TrustStore;
use crate::sync::Surroundings;

pub use show::EXPIRY_WARNING_SECONDS;

/// Runs a subcommand of `trust`.
pub fn run(command: &TrustCommand, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let store = TrustStore::new(surroundings.state_dir);
    match command {
        TrustCommand::Add(args) => add(args, &store, surroundings),
        TrustCommand::Show(args) => show::run(args.origin.as_ref(), &store, surroundings.output),
        TrustCommand::Reset(args) => reset(args, &store, surroundings.output),
    }
}

fn add(args: &TrustAddArgs, store: &TrustStore, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let pin = args.root.map(|pin| LogHash::from_bytes(pin.0));
    // Root documents are public: no token is shown to a server that is not trusted yet.
    let traffic = Arc::new(Traffic::default());
    let remote = Remote::new(args.server.clone(), None, surroundings.network, traffic)?;
    let trusted = |origin: &Origin| {
        let mut trusted = trusted_by(store.state(origin)?.as_ref());
        trusted.extend(pin);
        Ok(trusted)
    };
    let chain = wait_for(surroundings, RootChain::fetch(&remote, trusted))?;
    if let Some(other) = store.origin_of(&args.server)?.filter(|other| other != chain.origin()) {
        return Err(refuse(format!(
            "{} was added for the realm {other}, and says now that it is of {}",
            args.server,
            chain.origin()
        ))
        .hint(format!("if it has really moved: smart-sync trust reset {other} --yes, then add it again")));
    }
    let judge = |state: Option<&TrustState>| match state {
        Some(state) => follow(&chain, state, pin),
        None => chain.verify(&pin.unwrap_or_else(|| chain.newest())),
    };
    // A realm that is refused leaves no trace.
    judge(store.state(chain.origin())?.as_ref())?;
    let held = store.hold(chain.origin())?;
    let state = held.state()?;
    let root = judge(state.as_ref())?;
    check_expiry(&root)?;
    held.keep_shown_root(&root.to_bytes())?;
    if state.is_none() {
        held.save(&TrustState::pinned(chain.origin().clone(), pin.unwrap_or_else(|| chain.newest())))?;
    }
    held.add_server(&args.server)?;
    drop(held);
    report(args, &root, state.is_some(), output);
    Ok(Exit::Success)
}

/// Verifies what a server shows of a realm that is known: it has to lead on from what is trusted, and to hold the
/// pin that was given.
fn follow(chain: &RootChain, state: &TrustState, pin: Option<LogHash>) -> Result<Signed<Root>, Failure> {
    let origin = state.origin();
    if state.fork().is_some() {
        return Err(refuse(format!("{origin} has shown two histories, and nothing of it is accepted"))
            .hint(format!("smart-sync trust show {origin} shows both signed checkpoints")));
    }
    if let Some(trusted) = trusted_by(Some(state)).into_iter().find(|trusted| !chain.holds(trusted)) {
        return Err(refuse(format!(
            "the server says that it is of {origin}, but does not show the root document {trusted} that is trusted"
        ))
        .hint(format!(
            "it may be of another realm of that name, or behind; if the realm began anew: smart-sync trust reset {origin} --yes"
        )));
    }
    // Whichever of the two is older: the walk from it passes the other one.
    let trusted = trusted_by(Some(state));
    let from_trusted = trusted.first().map(|trusted| chain.verify(trusted)).transpose()?;
    let from_pin = pin.map(|pin| chain.verify(&pin)).transpose()?;
    from_trusted.or(from_pin).ok_or_else(|| refuse(format!("nothing of {origin} is trusted")))
}

fn check_expiry(root: &Signed<Root>) -> Result<(), Failure> {
    let Root { origin, version, expires, .. } = root.record();
    if now() <= *expires {
        return Ok(());
    }
    Err(refuse(format!("the root document of {origin} (version {version}) expired at {expires}")).hint(
        "the realm's owner has to sign a new root document (`smart-sync root edit`); if it did, check this machine's \
         time with `date`",
    ))
}

fn report(args: &TrustAddArgs, root: &Signed<Root>, was_known: bool, output: &Output) {
    let Root { origin, version, expires, .. } = root.record();
    let leaf = root.leaf();
    if args.first_use && !was_known {
        output.warning(&format!(
            "trust on first use: {origin} is believed because {} says so now; whoever controls that server or the way \
             to it at this moment decides what this host accepts",
            args.server
        ));
        output.warning(&format!("compare this with what the realm's administrators publish: {leaf}"));
    }
    if was_known {
        output
            .info(&format!("{} is added to the servers of {origin}, which is trusted already", args.server));
    } else {
        output.info(&format!("{origin} is trusted, as {} serves it", args.server));
    }
    output.info(&format!("its root document is version {version}, {leaf}, and expires at {expires}"));
    show::warn_of_expiry(root.record(), output);
    output.event(&serde_json::json!({
        "event": "trusted",
        "origin": origin.as_str(),
        "server": args.server.to_string(),
        "version": version,
        "root": leaf.to_string(),
        "expires": expires.seconds(),
        "first_use": args.first_use && !was_known,
    }));
}

fn reset(args: &TrustResetArgs, store: &TrustStore, output: &Output) -> Result<Exit, Failure> {
    let origin = &args.origin;
    if !store.origins()?.contains(origin) {
        return Err(Failure::message(Exit::Arguments, format!("{origin} is not known here"))
            .hint("smart-sync trust show lists the realms that are"));
    }
    let servers: Vec<String> = store.servers(origin)?.iter().map(ToString::to_string).collect();
    // A state that cannot be read is one that has to be forgotten.
    let refs = store.state(origin).ok().flatten().map_or(0, |state| state.references().count());
    output.info(&format!(
        "{origin} is forgotten: its root document, {}, and where {} stood",
        if servers.is_empty() { "no server".to_owned() } else { servers.join(", ") },
        super::count(refs as u64, "ref", "refs")
    ));
    if !args.yes {
        return Ok(only_shown(output));
    }
    for path in store.remove(origin)? {
        output.warning(&format!("the proof of a fork is kept in {}", path.display()));
    }
    output.info("to trust it again: smart-sync trust add URL --root sha256:…");
    Ok(Exit::Success)
}

fn refuse(message: String) -> Failure {
    Failure::message(Exit::Refused, message)
}
