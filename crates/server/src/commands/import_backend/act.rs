//! Doing what was planned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::kinds::SignaturePolicy;
use smart_sync_sync::name::TypedRef;
use smart_sync_sync::publish::Target;
use smart_sync_sync::source::listed::Listing;

use super::super::mirror::configure;
use super::super::print;
use super::{Import, say};
use crate::args::ImportBackendArgs;
use crate::config::MirrorConfig;
use crate::import::plan::{Made, Plan, Planned};
use crate::import::scan::{self, Rule};
use crate::publishing::{self, Edits, Input};
use crate::realm::Realm;

/// Publishes every channel. Which ones could not be.
pub(super) fn publish(import: &Import<'_>, plan: &Plan) -> anyhow::Result<Vec<String>> {
    let mut failed = Vec::new();
    for planned in &plan.channels {
        let refs: Vec<(Option<String>, String)> = match &planned.made {
            Made::Directory(_) => vec![(None, "branch:main".to_owned())],
            Made::Git(refs) => {
                refs.iter().map(|(revision, reference)| (Some(revision.clone()), reference.clone())).collect()
            }
        };
        for (git, reference) in refs {
            if let Err(error) = publish_one(import, planned, git.as_deref(), &reference) {
                let name = format!("{} {reference}", planned.channel);
                print(format_args!("{name} is not published: {error:#}"))?;
                failed.push(name);
            }
        }
    }
    Ok(failed)
}

fn publish_one(
    import: &Import<'_>,
    planned: &Planned,
    git: Option<&str>,
    reference: &str,
) -> anyhow::Result<()> {
    let Import { realm, backend, key, key_ring } = *import;
    let edit = |listing: &Listing| match planned.made {
        Made::Git(_) => check_commit(listing),
        Made::Directory(rule) => edits(listing, rule, planned),
    };
    let typed: TypedRef = reference.parse()?;
    let target = Target {
        origin: realm.origin.clone(),
        channel: planned.channel.clone(),
        reference: typed.candidates().into_iter().next().context("a ref has a name")?,
        kind: planned.kind.clone(),
    };
    let source = backend.join(&planned.place);
    let signatures = SignaturePolicy {
        key_ring: key_ring.filter(|_| planned.is_signed_elsewhere()),
        ..SignaturePolicy::default()
    };
    // A backend knows no exclusions: whatever lies there was given to hosts.
    let input = Input { git, edit: Some(&edit), signatures, ..Input::directory(&source, Exclusions::none()) };
    publishing::publish(realm, &input, &target, key, &|line| print(format_args!("{line}")))
}

/// What of a directory is left out, or published without some of its lines. It is said.
fn edits(listing: &Listing, rule: Rule, planned: &Planned) -> anyhow::Result<Edits> {
    let found = scan::look(listing, rule)?;
    say::left_out(planned, &found)?;
    let (mut left_out, mut changed) = (BTreeSet::new(), BTreeMap::new());
    for found in found {
        if let Some(bytes) = found.instead {
            changed.insert(found.path, bytes);
        } else {
            left_out.insert(found.path);
        }
    }
    Ok(Edits { left_out, changed })
}

/// Refuses a commit that holds what must not be taken over: it is published as a whole or not at all.
fn check_commit(listing: &Listing) -> anyhow::Result<Edits> {
    let found = scan::look(listing, Rule::Files)?;
    if let Some(first) = found.first() {
        bail!(
            "{}: {}; a commit is published as a whole\nhint: where it is no secret, publish it by hand with \
             `smart-sync-server publish-local --git`",
            first.path,
            first.why
        );
    }
    Ok(Edits::default())
}

/// Writes the upstreams of distfiles into `server.toml`, and says what to type for the others.
pub(super) fn configure_mirrors(
    realm: &Arc<Realm>,
    args: &ImportBackendArgs,
    prefix: &str,
    plan: &Plan,
) -> anyhow::Result<()> {
    for (of, file) in plan.mirrors.iter().filter(|(_, file)| !file.sources.is_empty()) {
        let channel = format!("{prefix}{}", directory_of(of));
        let names_from = names_from(plan);
        let (true, Some(names_from)) = (of == "distfiles", names_from) else {
            say::mirror(of, &channel, &file.sources)?;
            continue;
        };
        let mirror = MirrorConfig {
            name: "distfiles".to_owned(),
            channel,
            kind: "distfiles".to_owned(),
            sources: file.sources.clone(),
            names_from: Some(names_from),
            ..MirrorConfig::default()
        };
        if realm.config.mirrors.iter().any(|known| known.name == mirror.name) {
            print(format_args!("[[mirror]] {:?} is in server.toml already", mirror.name))?;
        } else if !args.yes {
            print(format_args!("[[mirror]] {:?} would be added to server.toml:", mirror.name))?;
            say::sources(&mirror.sources)?;
        } else if let Err(error) = configure::write(&realm.data, &mirror) {
            print(format_args!("[[mirror]] {:?} is not added to server.toml: {error:#}", mirror.name))?;
        }
    }
    Ok(())
}

/// The directory of a backend that a list of upstreams is for.
fn directory_of(list: &str) -> &str {
    match list {
        "kernel" => "kernels",
        "package" => "packages",
        "binpkg" => "binpkgs",
        other => other,
    }
}

/// The ebuild tree that says which distfiles there are: Gentoo's, or else the first one.
fn names_from(plan: &Plan) -> Option<String> {
    let trees = || plan.channels.iter().filter(|planned| planned.place.starts_with("repos"));
    let gentoo = trees().find(|planned| planned.place.ends_with("gentoo"));
    gentoo.or_else(|| trees().next()).map(|planned| planned.channel.to_string())
}
