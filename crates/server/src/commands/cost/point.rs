//! Which version is meant: by a ref, a date, a number, or an id.

use anyhow::Context;
use smart_sync_store::id::ManifestId;
use smart_sync_sync::log::heads::HeadKey;
use smart_sync_sync::name::{Channel, RefName, RefQuery};

use super::super::Failure;
use crate::realm::Realm;
use crate::realm::view::View;

/// A version of a channel's tree.
#[derive(Debug, Default)]
pub(super) struct Point {
    /// The tree; nothing is none.
    pub(super) manifest: Option<ManifestId>,
    /// The ref that it was found by.
    pub(super) reference: Option<RefName>,
    /// Where its publication is in the log.
    pub(super) leaf: Option<u64>,
}

impl Point {
    /// Finds what was typed.
    pub(super) fn find(realm: &Realm, view: &View, channel: &Channel, typed: &str) -> anyhow::Result<Self> {
        if typed == "none" {
            return Ok(Self::default());
        }
        if let Ok(manifest) = typed.strip_prefix("blake3:").unwrap_or(typed).parse::<ManifestId>() {
            return Self::of_manifest(realm, view, channel, manifest);
        }
        let (reference, number) = match typed.rsplit_once('#') {
            Some((reference, number)) => (reference, Some(parse_number(typed, number)?)),
            None => (typed, None),
        };
        let query: RefQuery = if reference.is_empty() { "main" } else { reference }.parse()?;
        for reference in query.reference.candidates() {
            let Some(key) = realm.head_key(channel, &reference)? else { continue };
            if let Some(leaf) = leaf_of(realm, view, &key, &query, number)? {
                let manifest = realm.published(leaf, view.size)?.publication.manifest;
                let manifest = manifest.with_context(|| format!("{typed} was withdrawn"))?.id;
                return Ok(Self { manifest: Some(manifest), reference: Some(reference), leaf: Some(leaf) });
            }
        }
        Err(Failure::Arguments(format!("{channel} has no {typed}")).into())
    }

    /// A manifest, and the ref that is it now.
    fn of_manifest(
        realm: &Realm,
        view: &View,
        channel: &Channel,
        manifest: ManifestId,
    ) -> anyhow::Result<Self> {
        let refs = realm.refs(view)?;
        let found = refs
            .of_channel(channel)
            .find(|state| state.publication.manifest.is_some_and(|found| found.id == manifest));
        let reference = found.map(|state| state.publication.reference.clone());
        Ok(Self { manifest: Some(manifest), reference, leaf: found.map(|state| state.head.index) })
    }
}

fn parse_number(typed: &str, number: &str) -> anyhow::Result<u64> {
    let wrong =
        || Failure::Arguments(format!("{typed}: after # comes the number of a publication, from 1 on"));
    Ok(number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?)
}

fn leaf_of(
    realm: &Realm,
    view: &View,
    key: &HeadKey,
    query: &RefQuery,
    number: Option<u64>,
) -> anyhow::Result<Option<u64>> {
    let index = realm.index();
    if let Some(number) = number {
        let found = index.history(key, Some(number.saturating_add(1)), 1, view.size)?.pop();
        return Ok(found.filter(|(seq, _)| *seq == number).map(|(_, leaf)| leaf));
    }
    let Some(at) = query.at else { return Ok(view.table.get(key).map(|head| head.index)) };
    let Some((found, _)) = index.heads_at(at.seconds(), view.size)? else { return Ok(None) };
    Ok(index.table(found + 1)?.get(key).map(|head| head.index))
}
