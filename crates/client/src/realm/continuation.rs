//! Evidence out of a file, continued from the log that is known here.
//!
//! Evidence that a server put together for this reader continues the log that the reader knows. Evidence that does
//! not was put together for everybody, and lacks a few nodes; they are in the log's tiles, which lie beside it. That is
//! how a static mirror is told from a server: by what it answers, without a question of its own.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use futures::future::try_join_all;
use reqwest::StatusCode;
use smart_sync_store::codec::DecodeError;
use smart_sync_sync::evidence::{ContinueError, FullEvidence};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::log::tile::{Tile, TiledNodes};

use super::remote::{OTHER_ANSWER_HINT, Remote, RemoteError};
use crate::failure::{Exit, Failure};

/// Adds to evidence what it lacks to continue a log of `known` leaves. What needs nothing, or cannot be helped, comes
/// back as it is: it is judged like everything else.
pub(super) async fn continued(
    remote: &Remote,
    evidence: FullEvidence,
    known: u64,
) -> Result<FullEvidence, Failure> {
    let Some(log) = evidence.claimed_log() else { return Ok(evidence) };
    if known == 0 || log.size <= known || evidence.base == known {
        return Ok(evidence);
    }
    let Ok(lacking) = evidence.lacking(log.size, known) else { return Ok(evidence) };
    let tiles: BTreeSet<Tile> = lacking.iter().filter_map(|node| Tile::of_node(*node, log.size)).collect();
    let fetched = try_join_all(tiles.into_iter().map(async |tile| Ok((tile, tile_of(remote, tile).await?))));
    let fetched: HashMap<Tile, Bytes> = match fetched.await {
        Ok(fetched) => fetched.into_iter().collect(),
        Err(error) if RemoteError::status(&error) == Some(StatusCode::NOT_FOUND) => return Ok(evidence),
        Err(error) => {
            return Err(Failure::from(error).context("asking for the part of the log that is new"));
        }
    };
    let nodes = TiledNodes::new(log.size, |tile: Tile| {
        fetched.get(&tile).ok_or_else(|| DecodeError::invalid(format!("{tile} was not asked for")))
    });
    match evidence.clone().continued(log.size, known, &nodes) {
        Ok(continued) => Ok(continued),
        Err(ContinueError::Evidence(_)) => Ok(evidence),
        Err(ContinueError::Log(error)) => Err(Failure::new(Exit::Network, error)
            .context(format!("{} does not answer as a smart-sync server does", remote.base()))
            .hint(OTHER_ANSWER_HINT)),
    }
}

/// A tile. A partial one may have been replaced by the full one, which begins with it.
async fn tile_of(remote: &Remote, tile: Tile) -> Result<Bytes, RemoteError> {
    let length = |tile: Tile| u64::from(tile.width()) * LogHash::LEN as u64;
    match remote.get(&tile.to_string(), length(tile)).await {
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) && !tile.is_full() => {
            let full = tile.when_full();
            let mut bytes = remote.get(&full.to_string(), length(full)).await?;
            bytes.truncate(usize::from(tile.width()) * LogHash::LEN);
            Ok(bytes)
        }
        answer => answer,
    }
}
