//! `gc`: what no kept version needs, planned, printed, and removed when told to.

use std::sync::Arc;

use anyhow::Context;
use smart_sync_store::codec::DecodeError;
use smart_sync_store::count::counted;
use smart_sync_store::gc::{Reference, Root, apply, plan};
use smart_sync_store::manifest::Page;

use super::print;
use crate::args::GcArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::mirrors;
use crate::realm::{Realm, timestamp};
use crate::retention::{Retention, Typed};

pub(super) async fn run(args: &GcArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    let grace = u32::try_from(args.grace_hours.saturating_mul(3600)).unwrap_or(u32::MAX);
    // The time is taken first: what is published from now on rests on marks that are younger.
    let as_of = timestamp(now());
    let doubt = realm.store.catalogue().doubt()?;
    let typed = Typed { versions: args.keep, days: args.keep_days };
    let retention = Retention::new(&realm.config.retention, typed)?;
    let roots = roots(&realm, &retention)?;
    let plan = plan(&realm.store, as_of, grace, &roots, children).await.context(
        "planning; nothing is collected before all that is published is there: `check` says what is not",
    )?;
    if let Some(doubt) = doubt {
        // The plan went from every ref to everything that it needs, and found it.
        realm.store.catalogue().settle(doubt)?;
    }
    print(format_args!("{plan}"))?;
    if !args.yes {
        return print(format_args!("nothing was changed; add --yes to do this"));
    }
    let collected = apply(&realm.store, &plan, timestamp(now())).await.context("collecting")?;
    print(format_args!(
        "{} condemned, {} rewritten, {} removed, {} freed",
        counted(collected.condemned as u64, "pack", "packs"),
        collected.rewritten,
        collected.removed,
        counted(collected.bytes_freed, "byte", "bytes")
    ))
}

/// What is kept: the manifests of the newest versions of each branch and of those of the last days, and of every tag and
/// commit that was not withdrawn, with the contents that say where those came from; and what mirrors have fetched.
fn roots(realm: &Realm, retention: &Retention) -> anyhow::Result<Vec<Root>> {
    let view = realm.newest_view()?;
    let mut roots = Vec::new();
    for state in realm.refs(&view)?.iter() {
        let channel = &state.publication.channel;
        let domain = realm.domain(channel)?;
        for published in realm.kept(&view, state, retention.of(channel))? {
            // Without its manifest, a publication says of nothing where it came from.
            let Some(manifest) = published.manifest else { continue };
            let tree = Reference::Page(manifest.id.root_page());
            let references = [Some(tree), published.meta.map(Reference::Named)];
            let of_domain = |reference| Root { domain: domain.clone(), reference };
            roots.extend(references.into_iter().flatten().map(of_domain));
        }
    }
    for (channel, content) in mirrors::kept_contents(&realm.data)? {
        // One that was lost is fetched again, and keeps nothing else from being collected.
        roots.push(Root { domain: realm.domain(&channel)?, reference: Reference::Named(content.id) });
    }
    Ok(roots)
}

/// What a manifest page refers to.
fn children(page: &[u8]) -> Result<Vec<Reference>, DecodeError> {
    let page = Page::decode(page)?;
    let pages = page.pages().map(|item| Reference::Page(item.page));
    let contents = page.contents().map(|content| Reference::Content(*content));
    Ok(pages.chain(contents).collect())
}
