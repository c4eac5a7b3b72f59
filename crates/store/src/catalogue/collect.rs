//! What garbage collection asks of the catalogue. The protocol is described in [`crate::gc`].

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::add::spare;
use super::doubt;
use super::judge::{forget_content, forget_page};
use super::{Catalogue, Timestamp};
use crate::backend::PackFile;
use crate::error::StoreError;
use crate::id::{ContentId, PackId};
use crate::object::{ObjectKey, ObjectKind};
use crate::pack::PackIndex;

/// Where a pack is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackState {
    /// Its file is being written.
    Arriving,
    /// It is in use.
    Kept,
    /// Nothing needed it when the garbage was collected; it goes when nobody asks for it during the grace period.
    Condemned,
}

impl ToSql for PackState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(match self {
            Self::Arriving => 0,
            Self::Kept => 1,
            Self::Condemned => 2,
        }))
    }
}

impl FromSql for PackState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_i64()? {
            0 => Ok(Self::Arriving),
            1 => Ok(Self::Kept),
            2 => Ok(Self::Condemned),
            other => Err(FromSqlError::OutOfRange(other)),
        }
    }
}

/// What the catalogue knows of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRow {
    /// The pack and its file.
    pub file: PackFile,
    /// Its number of bytes.
    pub len: u32,
    /// Where it is in its life.
    pub state: PackState,
    /// When it was announced.
    pub added: Timestamp,
    /// When something in it was last asked for by a publisher.
    pub touched: Timestamp,
    /// When it was condemned, if it is.
    pub condemned: Option<Timestamp>,
}

/// Whether a pack could be condemned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condemnable {
    /// It is condemned now.
    Condemned,
    /// Somebody asked for something in it, or it is gone.
    Spared,
}

impl Catalogue {
    /// All packs in the order of their numbers.
    pub fn packs(&self) -> Result<Vec<PackRow>, StoreError> {
        self.read("listing packs in the catalogue", |tx| {
            tx.prepare_cached(
                "SELECT d.name, p.id, p.number, p.len, p.state, p.added, p.touched, p.condemned
                 FROM packs p JOIN domains d ON d.number = p.domain ORDER BY p.number",
            )?
            .query_map([], pack_row)?
            .collect()
        })
    }

    /// The index of a pack that is recorded.
    pub fn index_of(&self, file: &PackFile) -> Result<Option<PackIndex>, StoreError> {
        let found: Option<(Vec<u8>, u32)> =
            self.read("reading the index of a pack in the catalogue", |tx| {
                tx.prepare_cached(
                    "SELECT pack_index, len FROM packs WHERE number = ? AND pack_index IS NOT NULL",
                )?
                .query_row([file.number], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
            })?;
        found
            .map(|(bytes, len)| PackIndex::of_tail(&bytes, u64::from(len)))
            .transpose()
            .map_err(|source| StoreError::Pack { pack: file.id, source: Box::new(source) })
    }

    /// Takes back that a pack was condemned.
    pub(crate) fn spare_pack(&self, file: &PackFile, now: Timestamp) -> Result<(), StoreError> {
        self.write("sparing a pack in the catalogue", |tx| spare(tx, file.number, now))
    }

    /// Condemns a pack that nobody has asked for since `untouched_since`.
    pub(crate) fn condemn(
        &self,
        file: &PackFile,
        untouched_since: Timestamp,
        now: Timestamp,
    ) -> Result<Condemnable, StoreError> {
        let changed = self.write("condemning a pack in the catalogue", |tx| {
            tx.execute(
                "UPDATE packs SET state = 2, condemned = ? WHERE number = ? AND state = 1 AND touched < ?",
                params![now.0, file.number, untouched_since.0],
            )
        })?;
        Ok(if changed == 1 { Condemnable::Condemned } else { Condemnable::Spared })
    }

    /// Forgets a pack that is condemned since before `before`, or whose arrival was given up before then. True if it
    /// is forgotten: nobody can ask for it any more, and its file is listed among the removals.
    pub(crate) fn forget(&self, file: &PackFile, before: Timestamp) -> Result<bool, StoreError> {
        let index = self.index_of(file)?.unwrap_or_default();
        self.write("forgetting a pack in the catalogue", |tx| {
            let deleted: Option<i64> = tx
                .prepare_cached(
                    "DELETE FROM packs
                     WHERE number = ? AND (state = 2 AND condemned < ? OR state = 0 AND touched < ?)
                     RETURNING domain",
                )?
                .query_map(params![file.number, before.0, before.0], |row| row.get(0))?
                .next()
                .transpose()?;
            let Some(domain) = deleted else { return Ok(false) };
            bury(tx, domain, file, &index)?;
            Ok(true)
        })
    }

    /// Forgets a damaged pack at once. What it held and no other pack holds is missing from here on.
    pub(crate) fn discard(&self, file: &PackFile, index: &PackIndex) -> Result<(), StoreError> {
        self.write("discarding a damaged pack in the catalogue", |tx| {
            let deleted: Option<i64> = tx
                .prepare_cached("DELETE FROM packs WHERE number = ? RETURNING domain")?
                .query_map([file.number], |row| row.get(0))?
                .next()
                .transpose()?;
            let Some(domain) = deleted else { return Ok(()) };
            bury(tx, domain, file, index)?;
            doubt::raise(tx)
        })
    }

    /// Files that have been forgotten and may still be there.
    pub(crate) fn removals(&self) -> Result<Vec<PackFile>, StoreError> {
        self.read("listing files to remove in the catalogue", |tx| {
            tx.prepare_cached(
                "SELECT d.name, r.id, r.number FROM removals r JOIN domains d ON d.number = r.domain",
            )?
            .query_map([], pack_file)?
            .collect()
        })
    }

    /// Notes that a forgotten file is gone.
    pub(crate) fn removed(&self, file: &PackFile) -> Result<(), StoreError> {
        self.write("noting a removed file in the catalogue", |tx| {
            tx.execute("DELETE FROM removals WHERE number = ?", [file.number])?;
            Ok(())
        })
    }
}

/// Takes what a pack held out of the catalogue, and lists its file for removal.
fn bury(tx: &Transaction<'_>, domain: i64, file: &PackFile, index: &PackIndex) -> rusqlite::Result<()> {
    delete_objects(tx, domain, file.number, index)?;
    tx.execute(
        "INSERT INTO removals VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        params![file.number, domain, file.id.as_bytes()],
    )?;
    Ok(())
}

fn delete_objects(tx: &Transaction<'_>, domain: i64, pack: i64, index: &PackIndex) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM frames WHERE pack = ?", [pack])?;
    let mut delete =
        tx.prepare_cached("DELETE FROM objects WHERE domain = ? AND id = ? AND kind = ? AND pack = ?")?;
    let mut is_elsewhere =
        tx.prepare_cached("SELECT 1 FROM objects WHERE domain = ? AND id = ? AND kind = ?")?;
    let mut delete_recipe =
        tx.prepare_cached("DELETE FROM recipes WHERE domain = ? AND recipe = ? RETURNING content")?;
    for ObjectKey { kind, id } in index.objects().map(|object| object.key) {
        let id: &[u8] = id.as_bytes();
        delete.execute(params![domain, id, kind.code(), pack])?;
        match kind {
            ObjectKind::Chunk => forget_content(tx, domain, id)?,
            ObjectKind::Recipe if !is_elsewhere.exists(params![domain, id, kind.code()])? => {
                let contents: Vec<[u8; ContentId::LEN]> = delete_recipe
                    .query_map(params![domain, id], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                for content in contents {
                    forget_content(tx, domain, &content)?;
                }
            }
            ObjectKind::Page => forget_page(tx, domain, id)?,
            ObjectKind::Recipe | ObjectKind::RecipePage => {}
        }
    }
    Ok(())
}

fn pack_row(row: &Row<'_>) -> rusqlite::Result<PackRow> {
    Ok(PackRow {
        file: pack_file(row)?,
        len: row.get(3)?,
        state: row.get(4)?,
        added: Timestamp(row.get(5)?),
        touched: Timestamp(row.get(6)?),
        condemned: row.get::<_, Option<i64>>(7)?.map(Timestamp),
    })
}

fn pack_file(row: &Row<'_>) -> rusqlite::Result<PackFile> {
    let name: String = row.get(0)?;
    let domain = name.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(PackFile { domain, id: PackId::from_bytes(row.get(1)?), number: row.get(2)? })
}
