//! What hashing has found out about contents, so that it is found out once.

use rusqlite::{OptionalExtension, Transaction, params};

use super::Catalogue;
use super::lookup::domain_number;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::{BlobId, ContentId, ObjectId};

/// What stands in the catalogue for a recipe that is proven and is the one to keep.
pub(super) const PREFERRED: i64 = 2;

/// What a recipe turned out to be worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// The content that it names.
    pub(crate) content: ContentId,
    /// The recipe.
    pub(crate) recipe: ObjectId,
    /// Whether it makes that content.
    pub(crate) verdict: Verdict,
}

/// Whether a recipe makes its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It does, and git calls the content this.
    Right(BlobId),
    /// It does not.
    Wrong,
}

impl Catalogue {
    /// Notes what recipes are worth. One that does not make its content is forgotten, so that another can take its
    /// place.
    pub(crate) fn judge(&self, domain: &Domain, judgements: &[Judgement]) -> Result<(), StoreError> {
        if judgements.is_empty() {
            return Ok(());
        }
        self.write("noting what recipes are worth in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else { return Ok(()) };
            let mut prove = tx.prepare_cached(
                "UPDATE recipes SET proven = max(proven, 1) WHERE domain = ? AND content = ? AND recipe = ?",
            )?;
            let mut forget =
                tx.prepare_cached("DELETE FROM recipes WHERE domain = ? AND content = ? AND recipe = ?")?;
            let mut blobs = Vec::new();
            for Judgement { content, recipe, verdict } in judgements {
                let row = params![number, content.as_bytes(), recipe.as_bytes()];
                match verdict {
                    Verdict::Right(blob) => {
                        // Where the recipe has gone meanwhile, nothing would take the name away again.
                        if prove.execute(row)? > 0 {
                            blobs.push((*content, *blob));
                        }
                    }
                    Verdict::Wrong => {
                        forget.execute(row)?;
                    }
                }
            }
            insert_blobs(tx, number, blobs)
        })
    }

    /// Notes that a proven recipe is the one to keep.
    pub(crate) fn prefer(
        &self,
        domain: &Domain,
        content: ContentId,
        recipe: ObjectId,
    ) -> Result<(), StoreError> {
        self.write("noting which recipe is kept in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else { return Ok(()) };
            tx.prepare_cached(
                "UPDATE recipes SET proven = ? WHERE domain = ? AND content = ? AND recipe = ? AND proven > 0",
            )?
            .execute(params![PREFERRED, number, content.as_bytes(), recipe.as_bytes()])?;
            Ok(())
        })
    }

    /// Notes what git calls contents that the domain has.
    pub(crate) fn note_blobs(
        &self,
        domain: &Domain,
        blobs: Vec<(ContentId, BlobId)>,
    ) -> Result<(), StoreError> {
        if blobs.is_empty() {
            return Ok(());
        }
        self.write("noting the git names of contents in the catalogue", |tx| {
            domain_number(tx, domain)?.map_or(Ok(()), |number| insert_blobs(tx, number, blobs))
        })
    }

    /// Takes back that one of a content's recipes is the one to keep.
    pub(crate) fn prefer_none(&self, domain: &Domain, content: ContentId) -> Result<(), StoreError> {
        self.write("noting which recipe is kept in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else { return Ok(()) };
            tx.prepare_cached(
                "UPDATE recipes SET proven = 1 WHERE domain = ? AND content = ? AND proven = ?",
            )?
            .execute(params![number, content.as_bytes(), PREFERRED])?;
            Ok(())
        })
    }

    /// The contents of which one recipe is the one to keep.
    pub(crate) fn preferred(&self) -> Result<Vec<(Domain, ContentId)>, StoreError> {
        self.read("looking up recipes in the catalogue", |tx| {
            tx.prepare_cached(
                "SELECT d.name, r.content FROM recipes r JOIN domains d ON d.number = r.domain
                 WHERE r.proven = ? ORDER BY d.name, r.content",
            )?
            .query_map([PREFERRED], |row| {
                let name: String = row.get(0)?;
                let domain = name.parse().map_err(|error| {
                    let text = rusqlite::types::Type::Text;
                    rusqlite::Error::FromSqlConversionFailure(0, text, Box::new(error))
                })?;
                Ok((domain, ContentId::from_bytes(row.get(1)?)))
            })?
            .collect()
        })
    }

    /// Whether it has been found out of each of these whether to store it taken apart.
    pub fn looked_at(&self, domain: &Domain, ids: &[ObjectId]) -> Result<Vec<bool>, StoreError> {
        self.read("looking up contents in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else { return Ok(vec![false; ids.len()]) };
            let mut select = tx.prepare_cached("SELECT 1 FROM looked WHERE domain = ? AND id = ?")?;
            ids.iter().map(|id| select.exists(params![number, id.as_bytes()])).collect()
        })
    }

    /// Notes that this has been found out of contents, or of all contents of a manifest, so that it is not again.
    pub fn note_looked_at(&self, domain: &Domain, ids: &[ObjectId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.write("noting contents in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else { return Ok(()) };
            let mut insert = tx.prepare_cached("INSERT INTO looked VALUES (?, ?) ON CONFLICT DO NOTHING")?;
            for id in ids {
                insert.execute(params![number, id.as_bytes()])?;
            }
            Ok(())
        })
    }

    /// What git calls each of these contents, as far as that was found out.
    pub(crate) fn blobs_of(
        &self,
        domain: &Domain,
        contents: impl Iterator<Item = ContentId>,
    ) -> Result<Vec<Option<BlobId>>, StoreError> {
        self.read("looking up the git names of contents in the catalogue", |tx| {
            let Some(number) = domain_number(tx, domain)? else {
                return Ok(contents.map(|_| None).collect());
            };
            let mut select = tx.prepare_cached("SELECT blob FROM blobs WHERE domain = ? AND content = ?")?;
            contents
                .map(|content| {
                    select
                        .query_row(params![number, content.as_bytes()], |row| {
                            Ok(BlobId::from_bytes(row.get(0)?))
                        })
                        .optional()
                })
                .collect()
        })
    }
}

/// Notes names. The table is in the order of contents: inserting in that order touches each of its pages once.
pub(super) fn insert_blobs(
    tx: &Transaction<'_>,
    domain: i64,
    mut blobs: Vec<(ContentId, BlobId)>,
) -> rusqlite::Result<()> {
    blobs.sort_unstable();
    let mut insert = tx.prepare_cached("INSERT INTO blobs VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?;
    for (content, blob) in blobs {
        insert.execute(params![domain, content.as_bytes(), blob.as_bytes()])?;
    }
    Ok(())
}

/// Forgets what was found out of a content that the domain has no more, neither as a chunk nor in pieces.
pub(super) fn forget_content(tx: &Transaction<'_>, domain: i64, content: &[u8]) -> rusqlite::Result<()> {
    for delete in [
        "DELETE FROM blobs WHERE domain = ?1 AND content = ?2
         AND NOT EXISTS (SELECT 1 FROM objects WHERE domain = ?1 AND id = ?2 AND kind = 0)
         AND NOT EXISTS (SELECT 1 FROM recipes WHERE domain = ?1 AND content = ?2)",
        "DELETE FROM looked WHERE domain = ?1 AND id = ?2
         AND NOT EXISTS (SELECT 1 FROM objects WHERE domain = ?1 AND id = ?2 AND kind = 0)
         AND NOT EXISTS (SELECT 1 FROM recipes WHERE domain = ?1 AND content = ?2)",
    ] {
        tx.prepare_cached(delete)?.execute(params![domain, content])?;
    }
    Ok(())
}

/// Forgets what was found out of a manifest whose root page the domain has no more.
pub(super) fn forget_page(tx: &Transaction<'_>, domain: i64, page: &[u8]) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "DELETE FROM looked WHERE domain = ?1 AND id = ?2
         AND NOT EXISTS (SELECT 1 FROM objects WHERE domain = ?1 AND id = ?2 AND kind = 1)",
    )?
    .execute(params![domain, page])?;
    Ok(())
}
