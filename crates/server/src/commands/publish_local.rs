//! `publish-local`: publishes what is on this machine without going through the network.

use std::sync::Arc;

use anyhow::Context;
use smart_sync_store::manifest::Fidelity;
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds::parts::WHOLE;
use smart_sync_sync::kinds::{self, Absent, ArtifactKind, SignaturePolicy};
use smart_sync_sync::name::TypedRef;
use smart_sync_sync::publish::Target;

use super::{Failure, key_ring, print};
use crate::args::PublishLocalArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::publishing::{Input, is_whole, publish};
use crate::realm::Realm;

pub(super) async fn run(args: PublishLocalArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    realm.peers.ask(realm.newest_view()?.root.record()).await;
    let path = args.key.clone().unwrap_or_else(|| realm.data.keys().join("publish.key"));
    let (key, target) = (SecretKey::load(&path, &mut || None)?, target_of(&realm, &args)?);
    check_options(&args, &target)?;
    let key_ring = key_ring(&args.keyrings)?;
    tokio::task::spawn_blocking(move || {
        let exclusions = Exclusions::in_place(args.exclude.iter().map(String::as_str))?;
        let input = Input {
            git: args.git.as_deref(),
            fidelity: if args.system { Fidelity::System } else { Fidelity::Git },
            absent: if args.replace { Absent::Goes } else { Absent::Stays },
            verify_against: args.verify_against.as_deref(),
            signatures: SignaturePolicy { key_ring: key_ring.as_ref(), ..SignaturePolicy::default() },
            kept_by: args.kept_by.iter().map(|channel| channel.parse()).collect::<Result<_, _>>()?,
            newest: args.newest.map(|newest| newest as usize),
            ..Input::directory(&args.source, exclusions)
        };
        publish(&realm, &input, &target, &key, &|line| print(format_args!("{line}")))
    })
    .await?
}

/// What is published to.
fn target_of(realm: &Realm, args: &PublishLocalArgs) -> anyhow::Result<Target> {
    let typed: TypedRef = args.reference.parse()?;
    Ok(Target {
        origin: realm.origin.clone(),
        channel: args.channel.parse()?,
        reference: typed.candidates().into_iter().next().context("a ref has a name")?,
        kind: args.kind.parse()?,
    })
}

/// Refuses what is said of a tree that its kind does not ask about.
fn check_options(args: &PublishLocalArgs, target: &Target) -> Result<(), Failure> {
    let kind = kinds::find(&target.kind);
    let verifies = kind.is_some_and(ArtifactKind::verifies);
    let judges = kind.is_some_and(ArtifactKind::judges_signatures);
    let is_put_together = kind.is_some_and(|kind| kind.as_it_is().is_none());
    let said = [
        (args.verify_against.is_some() && !verifies, "--verify-against"),
        (!args.keyrings.is_empty() && !judges, "--keyring"),
        (args.newest.is_some() && !kind.is_some_and(ArtifactKind::keeps_newest), "--newest"),
        (!args.kept_by.is_empty() && kind.and_then(ArtifactKind::pull_through).is_none(), "--kept-by"),
        (args.replace && !is_put_together, "--replace"),
        (args.git.is_some() && is_put_together, "--git"),
        (args.system && is_put_together, "--system"),
    ];
    if let Some((_, option)) = said.into_iter().find(|(is_wrong, _)| *is_wrong) {
        return Err(Failure::Arguments(format!("{option} means nothing for the kind {}", args.kind)));
    }
    let hangs_together = kind.is_some_and(|kind| !kind.branches().is_empty());
    if hangs_together && !is_whole(&target.reference) {
        let text = format!("trees of the kind {} are published to {WHOLE}, and nothing else", args.kind);
        return Err(Failure::Arguments(text));
    }
    Ok(())
}
