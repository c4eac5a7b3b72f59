//! Doubt: whether the catalogue may lack what used to be there.
//!
//! Whoever knows from elsewhere what was stored once (a log of publications does) may take it to be there still,
//! without asking for each object, as long as nothing was lost. A loss is noted here in the transaction that makes the
//! catalogue forget, and a catalogue that is made anew begins in doubt, for it cannot know what no pack holds any more.

use rusqlite::Transaction;

use super::Catalogue;
use crate::error::StoreError;

/// The last of the doubts that a catalogue had at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt(i64);

impl Catalogue {
    /// Whether something may be lost of what was stored before.
    pub fn doubt(&self) -> Result<Option<Doubt>, StoreError> {
        self.read("looking for losses in the catalogue", |tx| {
            tx.prepare_cached("SELECT max(number) FROM doubts")?
                .query_row([], |row| Ok(row.get::<_, Option<i64>>(0)?.map(Doubt)))
        })
    }

    /// Notes that something may be lost.
    pub fn raise_doubt(&self) -> Result<(), StoreError> {
        self.write("noting a loss in the catalogue", raise)
    }

    /// Notes that everything was found to be there by a search that began in this doubt. What was lost since is not
    /// settled by it.
    pub fn settle(&self, doubt: Doubt) -> Result<(), StoreError> {
        self.write("noting that nothing is lost in the catalogue", |tx| {
            tx.execute("DELETE FROM doubts WHERE number <= ?", [doubt.0]).map(drop)
        })
    }
}

pub(super) fn raise(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute("INSERT INTO doubts DEFAULT VALUES", []).map(drop)
}
