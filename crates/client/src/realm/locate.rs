//! Where contents lie, for those that no list of changes speaks of.
//!
//! A server is asked. Where there are only files, the list of changes from nothing to a tree says where each of its
//! contents lies.

use std::collections::HashSet;

use reqwest::Method;
use smart_sync_store::id::ManifestId;
use smart_sync_sync::wire::delta::{Delta, decoded_len_max};
use smart_sync_sync::wire::fetch_map::FetchMap;
use smart_sync_sync::wire::locate::{Wanted, encode};

use smart_sync_sync::trust::Verified;

use super::remote::Remote;
use crate::failure::{Exit, Failure};

/// A tree that has the contents that are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    manifest: ManifestId,
    /// The most bytes that a list of all of it has.
    len_max: u64,
}

impl Tree {
    /// The tree that was proven.
    pub fn of(verified: &Verified) -> Self {
        let content = verified.publication.record().content;
        let len_max = decoded_len_max(0, content.entries, content.bytes);
        Self { manifest: verified.manifest.id, len_max }
    }
}

/// Asks one server where contents of these trees lie.
pub async fn locate(remote: &Remote, wanted: &[Wanted], trees: &[Tree]) -> Result<Vec<FetchMap>, Failure> {
    let sizes = wanted.iter().fold(0, |sum: u64, wanted| sum.saturating_add(wanted.size));
    let limit = decoded_len_max(0, wanted.len() as u64, sizes);
    match remote.send(Method::POST, "v1/locate", encode(wanted), limit).await {
        Ok(bytes) => {
            let map = FetchMap::decode(&bytes).map_err(|error| {
                Failure::new(Exit::Refused, error).context(format!("asking {}", remote.base()))
            })?;
            Ok(vec![map])
        }
        Err(error) if error.is_of_static_files() => locate_in_files(remote, wanted, trees).await,
        Err(error) => Err(error.into()),
    }
}

async fn locate_in_files(
    remote: &Remote,
    wanted: &[Wanted],
    trees: &[Tree],
) -> Result<Vec<FetchMap>, Failure> {
    let mut missing: HashSet<_> = wanted.iter().map(|wanted| wanted.id).collect();
    let mut maps = Vec::new();
    for tree in trees {
        if missing.is_empty() {
            break;
        }
        let path = format!("v1/delta/none/{}", tree.manifest);
        let bytes = remote.get(&path, tree.len_max).await?;
        let mut map = Delta::decode(&bytes, tree.len_max)
            .map_err(|error| Failure::new(Exit::Refused, error).context(format!("asking {}", remote.base())))?
            .map;
        // What is not looked for now may be looked for another time.
        map.retain(|content| missing.remove(&content));
        maps.push(map);
    }
    Ok(maps)
}
