//! The whole tree of a commit.
//!
//! A recursive listing is asked for; one that the server cuts off is thrown away and asked for again in parts, a
//! directory at a time, because nothing says where it was cut. Only a listing that hashes to the id of the tree leaves
//! this module, and only such a listing is kept.

use futures::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};
use smart_sync_store::id::{BlobId, CommitId, TreeId, from_hex, to_hex};
use smart_sync_store::manifest::entry::GitMode;
use smart_sync_store::manifest::path::{PATH_BYTES_MAX, Shown, TreePath};

use super::error::{SourceError, excerpt};
use super::http::not_the_api;
use super::tree_id::{Row, verify};
use super::{Api, Head, Notice, RemoteEntry, RemoteNode, RemoteTree};

/// The largest listing that is read; the servers cut off long before.
const LISTING_BYTES_MAX: u64 = 64 << 20;
/// How many parts a listing may have, and how many rows in all. Above it, git does better.
const PARTS_MAX: usize = 20_000;
const ROWS_MAX: usize = 2_000_000;

#[derive(Debug, Deserialize)]
struct ListingAnswer {
    sha: String,
    tree: Vec<RowAnswer>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct RowAnswer {
    path: String,
    mode: String,
    sha: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// A directory whose listing is still to be had.
#[derive(Debug, Clone)]
struct Part {
    path: Vec<u8>,
    tree: TreeId,
    is_recursive: bool,
}

impl Api {
    /// Lists the tree of a commit, and proves the listing.
    pub(super) async fn tree(&self, head: &Head) -> Result<RemoteTree, SourceError> {
        let question = format!("{} tree {}", self.address.api_base(), head.tree);
        if let Some(kept) = self.cache.get::<Vec<RowAnswer>>(&question) {
            // What was kept is proven like what is received: a changed file must not change the tree.
            let rows: Option<Vec<Row>> = kept.answer.iter().map(|row| parse_row(b"", row)).collect();
            if let Some(tree) = rows.and_then(|rows| to_tree(head, &rows).ok()) {
                return Ok(tree);
            }
        }
        let rows = self.rows(head.tree).await?;
        let kept: Option<Vec<RowAnswer>> = rows.iter().map(to_answer).collect();
        let tree = to_tree(head, &rows)?;
        if let Some(kept) = kept {
            self.cache.put(&question, None, kept);
        }
        Ok(tree)
    }

    async fn rows(&self, root: TreeId) -> Result<Vec<Row>, SourceError> {
        let mut waiting = vec![Part { path: Vec::new(), tree: root, is_recursive: true }];
        let mut running = FuturesUnordered::new();
        let (mut rows, mut parts) = (Vec::new(), 0);
        loop {
            while running.len() < self.connections {
                let Some(part) = waiting.pop() else { break };
                parts += 1;
                if parts > PARTS_MAX || rows.len() > ROWS_MAX {
                    return Err(SourceError::Incomplete("/".to_owned()));
                }
                running.push(self.part(part));
            }
            let Some(listed) = running.next().await else { return Ok(rows) };
            let (part, found, is_truncated) = listed?;
            match (part.is_recursive, is_truncated) {
                (false, true) => return Err(SourceError::Incomplete(format!("/{}", Shown(&part.path)))),
                (true, true) => {
                    if part.path.is_empty() {
                        (self.tell)(Notice::ListingInParts);
                    }
                    waiting.push(Part { is_recursive: false, ..part });
                }
                (true, false) => rows.extend(found),
                (false, false) => {
                    let directories = found.iter().filter(|row| row.mode.is_directory());
                    waiting.extend(directories.map(|row| Part {
                        path: row.path.clone(),
                        tree: TreeId::from_bytes(row.object),
                        is_recursive: true,
                    }));
                    rows.extend(found);
                }
            }
        }
    }

    /// One listing, its paths put below the part's own.
    async fn part(&self, part: Part) -> Result<(Part, Vec<Row>, bool), SourceError> {
        let path = format!("git/trees/{}{}", part.tree, if part.is_recursive { "?recursive=1" } else { "" });
        let answer: Option<ListingAnswer> = self.json(&path, LISTING_BYTES_MAX).await?;
        let answer = answer.ok_or_else(|| SourceError::Absent(format!("tree {}", part.tree)))?;
        let wrong = |what: &str| not_the_api(&self.address.api(&path), &excerpt(what.as_bytes()));
        if answer.sha != part.tree.to_string() {
            return Err(wrong(&format!("tree {} instead of {}", answer.sha, part.tree)));
        }
        let rows = answer.tree.iter().map(|row| {
            parse_row(&part.path, row)
                .ok_or_else(|| wrong(&format!("a row that no tree has, at {:?}", row.path)))
        });
        let rows = rows.collect::<Result<Vec<Row>, SourceError>>()?;
        Ok((part, rows, answer.truncated))
    }
}

/// Takes rows for a tree once they are proven to be it.
pub(super) fn to_tree(head: &Head, rows: &[Row]) -> Result<RemoteTree, SourceError> {
    verify(head.tree, rows)?;
    let mut entries = Vec::with_capacity(rows.len());
    let mut parents = std::collections::HashSet::new();
    for row in rows {
        if let Some(slash) = row.path.iter().rposition(|byte| *byte == b'/') {
            parents.insert(&row.path[..slash]);
        }
    }
    for row in rows {
        let node = if row.mode.is_directory() {
            if parents.contains(row.path.as_slice()) && row.mode == GitMode::DIRECTORY {
                continue;
            }
            RemoteNode::Directory
        } else if row.mode.is_submodule() {
            RemoteNode::Submodule(CommitId::from_bytes(row.object))
        } else {
            RemoteNode::Blob { id: BlobId::from_bytes(row.object), size: row.size }
        };
        let path = TreePath::new(row.path.as_slice())
            .map_err(|source| SourceError::UnsafePath { path: Shown(&row.path).to_string(), source })?;
        entries.push(RemoteEntry { path, mode: row.mode, node });
    }
    entries.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(RemoteTree { commit: head.commit, tree: head.tree, entries })
}

fn parse_row(below: &[u8], row: &RowAnswer) -> Option<Row> {
    let mode = GitMode::new(u32::from_str_radix(&row.mode, 8).ok()?)?;
    let mut path = below.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(row.path.as_bytes());
    let is_blob = !mode.is_directory() && !mode.is_submodule();
    // A blob without a size cannot be downloaded with a bound.
    let size = if is_blob { row.size? } else { 0 };
    (path.len() <= PATH_BYTES_MAX).then_some(Row { path, mode, object: from_hex(&row.sha)?, size })
}

fn to_answer(row: &Row) -> Option<RowAnswer> {
    Some(RowAnswer {
        path: String::from_utf8(row.path.clone()).ok()?,
        mode: format!("{:o}", row.mode.bits()),
        sha: to_hex(&row.object),
        size: (!row.mode.is_directory() && !row.mode.is_submodule()).then_some(row.size),
    })
}
