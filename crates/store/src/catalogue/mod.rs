//! Where everything is: which pack of a domain holds an object, and what state the packs are in.
//!
//! The catalogue is an index in SQLite and can be thrown away: it is rebuilt from the packs alone. One writer at a time,
//! readers beside it, in as many processes as wish. Decisions that must not be split (is this object kept, may this
//! pack go) are made inside one write transaction.

mod add;
mod collect;
mod doubt;
mod judge;
mod lookup;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use collect::{Condemnable, PackRow, PackState};
pub use doubt::Doubt;
pub(crate) use judge::{Judgement, Verdict};
pub use lookup::{Location, StoredRecipe};

use crate::error::StoreError;

/// Seconds since 1970. The store has no clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This many seconds earlier.
    #[must_use]
    pub const fn minus(self, seconds: u32) -> Self {
        Self(self.0.saturating_sub(seconds as i64))
    }
}

/// How many seconds old the mark on a pack may be before an answer renews it. Most answers then write nothing.
pub const LEASE_SLACK_SECONDS: u32 = 60;

/// The index of a store.
#[derive(Debug)]
pub struct Catalogue {
    path: PathBuf,
    writer: Mutex<Connection>,
    /// Connections for reading that nobody uses at the moment.
    readers: Mutex<Vec<Connection>>,
}

impl Catalogue {
    /// Opens a catalogue, which is made if it is not there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut writer = schema::connect(path)?;
        schema::prepare(&mut writer)?;
        Ok(Self { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::default() })
    }

    /// Runs `body` in a transaction that nobody else writes beside.
    fn write<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = unpoisoned(&self.writer);
        let tx = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed(operation))?;
        let value = body(&tx).map_err(failed(operation))?;
        tx.commit().map_err(failed(operation))?;
        Ok(value)
    }

    /// Runs `body` on one state of the catalogue, whatever is written meanwhile.
    fn read<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let idle = unpoisoned(&self.readers).pop();
        let mut connection = idle.map_or_else(|| schema::connect(&self.path), Ok)?;
        let value = connection.transaction().and_then(|tx| body(&tx)).map_err(failed(operation))?;
        unpoisoned(&self.readers).push(connection);
        Ok(value)
    }
}

/// A panic while the lock was held leaves no half-written state behind: SQLite rolls the transaction back.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Catalogue { operation, source }
}

#[cfg(test)]
mod tests;
