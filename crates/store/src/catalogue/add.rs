//! Recording packs: announced before the file is written, usable after it is durable.

use rusqlite::{OptionalExtension, Transaction, params};

use super::collect::PackState;
use super::judge::insert_blobs;
use super::lookup::domain_number;
use super::{Catalogue, Timestamp};
use crate::backend::PackFile;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::PackId;
use crate::pack::{Codec, PackIndex, RecipeOf, VerifiedPack};

/// What the catalogue knows of a pack that is about to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The file to store it in.
    pub(crate) file: PackFile,
    /// Whether it is stored and recorded already.
    pub(crate) is_recorded: bool,
}

impl Catalogue {
    /// Announces that a pack is being stored. From here to `now` plus the grace period nobody takes the file for
    /// garbage; a pack that was condemned is spared.
    pub(crate) fn announce(
        &self,
        domain: &Domain,
        id: PackId,
        len: u32,
        now: Timestamp,
    ) -> Result<Arrival, StoreError> {
        self.write("announcing a pack in the catalogue", |tx| {
            let domain_number = make_domain(tx, domain)?;
            let known: Option<(i64, PackState)> = tx
                .prepare_cached("SELECT number, state FROM packs WHERE domain = ? AND id = ?")?
                .query_row(params![domain_number, id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let number = if let Some((number, _)) = known {
                spare(tx, number, now)?;
                number
            } else {
                tx.execute(
                    "INSERT INTO packs (domain, id, len, state, added, touched) VALUES (?, ?, ?, ?, ?, ?)",
                    params![domain_number, id.as_bytes(), len, PackState::Arriving, now.0, now.0],
                )?;
                tx.last_insert_rowid()
            };
            let is_recorded = known.is_some_and(|(_, state)| state != PackState::Arriving);
            Ok(Arrival { file: PackFile { domain: domain.clone(), id, number }, is_recorded })
        })
    }

    /// Records the objects of a pack whose file is durable. False if the announcement is gone, because storing the
    /// file took longer than the grace period.
    pub(crate) fn record(
        &self,
        file: &PackFile,
        pack: &VerifiedPack,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write("recording a pack in the catalogue", |tx| {
            let announced: Option<PackState> = tx
                .prepare_cached("SELECT state FROM packs WHERE number = ?")?
                .query_row([file.number], |row| row.get(0))
                .optional()?;
            match announced {
                None => return Ok(false),
                Some(PackState::Arriving) => {}
                // Somebody else stored the same pack meanwhile.
                Some(PackState::Kept | PackState::Condemned) => {
                    spare(tx, file.number, now)?;
                    return Ok(true);
                }
            }
            let domain = make_domain(tx, &file.domain)?;
            tx.prepare_cached("UPDATE packs SET state = ?, touched = ?, pack_index = ? WHERE number = ?")?
                .execute(params![PackState::Kept, now.0, pack.index().encode(), file.number])?;
            insert_objects(tx, domain, file.number, pack.index())?;
            insert_recipes(tx, domain, pack.recipes())?;
            insert_blobs(
                tx,
                domain,
                pack.contents().iter().map(|content| (content.id, content.blob)).collect(),
            )?;
            Ok(true)
        })
    }

    /// Records a pack that was found in the back end, under the number that its file has. False if the domain has
    /// the pack in another file: the one that was found is then listed for removal.
    pub(crate) fn adopt(
        &self,
        file: &PackFile,
        len: u32,
        index: &PackIndex,
        recipes: &[RecipeOf],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write("recording a found pack in the catalogue", |tx| {
            let domain = make_domain(tx, &file.domain)?;
            let inserted = tx.execute(
                "INSERT INTO packs (number, domain, id, len, state, added, touched, pack_index)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                params![
                    file.number,
                    domain,
                    file.id.as_bytes(),
                    len,
                    PackState::Kept,
                    now.0,
                    now.0,
                    index.encode()
                ],
            )?;
            if inserted == 0 {
                let is_announced: bool =
                    tx.prepare_cached("SELECT 1 FROM packs WHERE number = ?")?.exists([file.number])?;
                if !is_announced {
                    tx.execute(
                        "INSERT INTO removals VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                        params![file.number, domain, file.id.as_bytes()],
                    )?;
                }
                return Ok(false);
            }
            insert_objects(tx, domain, file.number, index)?;
            insert_recipes(tx, domain, recipes)?;
            Ok(true)
        })
    }
}

/// Keeps a pack: marks it as asked for now, and takes back that it was condemned.
pub(super) fn spare(tx: &Transaction<'_>, number: i64, now: Timestamp) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE packs SET touched = max(touched, ?), condemned = NULL,
             state = CASE state WHEN 2 THEN 1 ELSE state END
         WHERE number = ?",
    )?
    .execute(params![now.0, number])?;
    Ok(())
}

fn make_domain(tx: &Transaction<'_>, domain: &Domain) -> rusqlite::Result<i64> {
    if let Some(number) = domain_number(tx, domain)? {
        return Ok(number);
    }
    tx.execute("INSERT INTO domains (name) VALUES (?)", [domain.as_str()])?;
    Ok(tx.last_insert_rowid())
}

fn insert_objects(tx: &Transaction<'_>, domain: i64, pack: i64, index: &PackIndex) -> rusqlite::Result<()> {
    let mut insert_frame = tx.prepare_cached("INSERT INTO frames VALUES (?, ?, ?, ?, ?)")?;
    let mut objects = Vec::new();
    for frame in index.frames() {
        let codec = i64::from(frame.codec == Codec::Zstd);
        insert_frame.execute(params![pack, frame.offset, codec, frame.stored, frame.raw])?;
        let mut start = 0;
        for object in &frame.objects {
            objects.push((object.key, frame.offset, start, object.len));
            start += object.len;
        }
    }
    // The table is in the order of ids: inserting in that order touches each of its pages once.
    objects.sort_unstable_by_key(|(key, ..)| (key.id, key.kind));
    let mut insert_object = tx.prepare_cached("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)")?;
    for (key, frame, start, len) in objects {
        let id: &[u8] = key.id.as_bytes();
        insert_object.execute(params![domain, id, key.kind.code(), pack, frame, start, len])?;
    }
    Ok(())
}

fn insert_recipes(tx: &Transaction<'_>, domain: i64, recipes: &[RecipeOf]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO recipes VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET proven = max(proven, excluded.proven)",
    )?;
    for recipe in recipes {
        insert.execute(params![
            domain,
            recipe.content.as_bytes(),
            recipe.recipe.as_bytes(),
            recipe.is_proven
        ])?;
    }
    Ok(())
}
