//! Answering where objects are, in one domain.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::add::spare;
use super::judge::PREFERRED;
use super::{Catalogue, LEASE_SLACK_SECONDS, Timestamp};
use crate::backend::PackFile;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::{ContentId, ObjectId, PackId};
use crate::object::ObjectKey;
use crate::pack::Codec;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub file: PackFile,
    /// Where in the pack its frame begins.
    pub frame_offset: u32,
    /// How the frame is stored.
    pub codec: Codec,
    /// The number of bytes of the frame in the pack.
    pub stored: u32,
    /// The number of bytes of the frame when decoded.
    pub raw: u32,
    /// Where in the decoded frame the object begins.
    pub start: u32,
    /// The number of bytes of the object.
    pub len: u32,
}

/// A recipe that the catalogue knows for a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoredRecipe {
    /// The recipe.
    pub id: ObjectId,
    /// Whether what it makes has been hashed and is the content.
    pub is_proven: bool,
    /// Whether it is the one to keep: what only others need may go.
    pub is_preferred: bool,
}

impl Catalogue {
    /// Where each of these objects is, in a pack that is not condemned if there is one; nothing for those that the domain does not have.
    pub fn locate(&self, domain: &Domain, keys: &[ObjectKey]) -> Result<Vec<Option<Location>>, StoreError> {
        self.read("looking up objects in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else {
                return Ok(vec![None; keys.len()]);
            };
            let mut select = tx.prepare_cached(
                "SELECT p.id, p.number, o.frame, f.codec, f.stored, f.raw, o.start, o.len
                 FROM objects o JOIN packs p ON p.number = o.pack
                 JOIN frames f ON f.pack = o.pack AND f.start = o.frame
                 WHERE o.domain = ? AND o.id = ? AND o.kind = ? ORDER BY p.state LIMIT 1",
            )?;
            keys.iter()
                .map(|key| {
                    let key = params![number, key.id.as_bytes(), key.kind.code()];
                    select.query_row(key, |row| location(row, domain)).optional()
                })
                .collect()
        })
    }

    /// Which of these objects the domain does not have.
    ///
    /// Whoever is told that an object is there may rely on it for the grace period less [`LEASE_SLACK_SECONDS`]: the
    /// pack that holds it is marked as asked for, and spared if it was condemned.
    pub fn missing(
        &self,
        domain: &Domain,
        keys: &[ObjectKey],
        now: Timestamp,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        let answer = self.read("looking up objects in the catalogue", |tx| look_up(tx, domain, keys, now))?;
        if answer.unmarked.is_empty() {
            return Ok(answer.missing);
        }
        // Between reading and marking a pack may have gone: look again where nobody else can write.
        self.write("marking packs as asked for in the catalogue", |tx| {
            let answer = look_up(tx, domain, keys, now)?;
            for &pack in &answer.unmarked {
                spare(tx, pack, now)?;
            }
            Ok(answer.missing)
        })
    }

    /// The file of a pack that the domain has, and its number of bytes.
    pub fn file_of(&self, domain: &Domain, id: PackId) -> Result<Option<(PackFile, u32)>, StoreError> {
        self.read("looking up a pack in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else { return Ok(None) };
            tx.prepare_cached("SELECT number, len FROM packs WHERE domain = ? AND id = ? AND state <> 0")?
                .query_row(params![number, id.as_bytes()], |row| {
                    Ok((PackFile { domain: domain.clone(), id, number: row.get(0)? }, row.get(1)?))
                })
                .optional()
        })
    }

    /// The recipes of a content, the preferred one first and others that are proven after it.
    pub fn recipes_of(&self, domain: &Domain, content: ContentId) -> Result<Vec<StoredRecipe>, StoreError> {
        self.read("looking up a recipe in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else { return Ok(Vec::new()) };
            tx.prepare_cached(
                "SELECT recipe, proven FROM recipes WHERE domain = ? AND content = ? ORDER BY proven DESC, recipe",
            )?
            .query_map(params![number, content.as_bytes()], |row| {
                let proven: i64 = row.get(1)?;
                Ok(StoredRecipe {
                    id: ObjectId::from_bytes(row.get(0)?),
                    is_proven: proven > 0,
                    is_preferred: proven == PREFERRED,
                })
            })?
            .collect()
        })
    }
}

struct Answer {
    missing: Vec<ObjectKey>,
    /// Packs that hold what is not missing and whose mark is old, or that are condemned.
    unmarked: BTreeSet<i64>,
}

fn look_up(
    tx: &Transaction<'_>,
    domain: &Domain,
    keys: &[ObjectKey],
    now: Timestamp,
) -> rusqlite::Result<Answer> {
    let mut answer = Answer { missing: Vec::new(), unmarked: BTreeSet::new() };
    let Some(number) = domain_number(tx, domain)? else {
        answer.missing = keys.to_vec();
        return Ok(answer);
    };
    let renew_before = now.minus(LEASE_SLACK_SECONDS);
    let mut select = tx.prepare_cached(
        "SELECT p.number, p.state = 2 OR p.touched < ?
         FROM objects o JOIN packs p ON p.number = o.pack
         WHERE o.domain = ? AND o.id = ? AND o.kind = ? ORDER BY p.state LIMIT 1",
    )?;
    for key in keys {
        let id: &[u8] = key.id.as_bytes();
        let found: Option<(i64, bool)> = select
            .query_row(params![renew_before.0, number, id, key.kind.code()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        match found {
            None => answer.missing.push(*key),
            Some((pack, true)) => {
                answer.unmarked.insert(pack);
            }
            Some((_, false)) => {}
        }
    }
    Ok(answer)
}

pub(super) fn domain_number(tx: &Transaction<'_>, domain: &Domain) -> rusqlite::Result<Option<i64>> {
    tx.prepare_cached("SELECT number FROM domains WHERE name = ?")?
        .query_row([domain.as_str()], |row| row.get(0))
        .optional()
}

fn location(row: &Row<'_>, domain: &Domain) -> rusqlite::Result<Location> {
    let codec = if row.get(3)? { Codec::Zstd } else { Codec::Raw };
    Ok(Location {
        file: PackFile { domain: domain.clone(), id: PackId::from_bytes(row.get(0)?), number: row.get(1)? },
        frame_offset: row.get(2)?,
        codec,
        stored: row.get(4)?,
        raw: row.get(5)?,
        start: row.get(6)?,
        len: row.get(7)?,
    })
}
