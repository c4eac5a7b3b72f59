//! `publish-local`: publishes what is on this machine without going through the network.

use std::sync::Arc;

use anyhow::Context;
use smart_sync_store::manifest::Fidelity;
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds::{self, Absent, ArtifactKind};
use smart_sync_sync::name::TypedRef;
use smart_sync_sync::publish::Target;

use super::{Failure, print};
use crate::args::PublishLocalArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::publishing::{Input, publish};
use crate::realm::Realm;

pub(super) async fn run(args: PublishLocalArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    realm.peers.ask(realm.newest_view()?.root.record()).await;
    let path = args.key.clone().unwrap_or_else(|| realm.data.keys().join("publish.key"));
    let (key, target) = (SecretKey::load(&path, &mut || None)?, target_of(&realm, &args)?);
    check_options(&args, kinds::find(&target.kind))?;
    tokio::task::spawn_blocking(move || {
        let exclusions = Exclusions::in_place(args.exclude.iter().map(String::as_str))?;
        let input = Input {
            git: args.git.as_deref(),
            fidelity: if args.system { Fidelity::System } else { Fidelity::Git },
            absent: if args.replace { Absent::Goes } else { Absent::Stays },
            verify_against: args.verify_against.as_deref(),
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
fn check_options(args: &PublishLocalArgs, kind: Option<&dyn ArtifactKind>) -> Result<(), Failure> {
    let verifies = kind.is_some_and(ArtifactKind::verifies);
    let said = [
        (args.verify_against.is_some() && !verifies, "--verify-against"),
        (args.replace && kind.is_none(), "--replace"),
        (args.git.is_some() && kind.is_some(), "--git"),
        (args.system && kind.is_some(), "--system"),
    ];
    if kind.is_some_and(|kind| !kind.branches().is_empty()) {
        let text = format!(
            "trees of the kind {} are several refs at once: `smart-sync publish` publishes them",
            args.kind
        );
        return Err(Failure::Arguments(text));
    }
    match said.into_iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, option)) => {
            Err(Failure::Arguments(format!("{option} means nothing for the kind {}", args.kind)))
        }
        None => Ok(()),
    }
}
