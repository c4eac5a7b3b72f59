//! The tables, and how a connection to them is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use super::failed;
use crate::error::StoreError;

/// The format that this version writes and reads.
const VERSION: i64 = 3;

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// `packs.number` is never used again (`AUTOINCREMENT`): it is part of the name of the stored file. The objects of a
/// pack are found through its index, which is kept as it stands in the pack, since an SQL index by pack would
/// double the size of the catalogue. `blobs` says what git calls contents, as far as that was found out by hashing
/// them. `removals` are files that no row of `packs` names any more and that still have to be deleted.
/// `doubts.number` is never used again, so that a doubt that came later is not settled with an older one. `looked` are
/// contents of which it has been found out whether to store them taken apart, and root pages of manifests of whose
/// contents that has been found out: of a content that begins like no artifact nothing is noted.
const TABLES: &str = "
    CREATE TABLE domains (
        number INTEGER PRIMARY KEY,
        name   TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE packs (
        number    INTEGER PRIMARY KEY AUTOINCREMENT,
        domain    INTEGER NOT NULL REFERENCES domains,
        id        BLOB NOT NULL,
        len       INTEGER NOT NULL,
        state     INTEGER NOT NULL,
        added     INTEGER NOT NULL,
        touched   INTEGER NOT NULL,
        condemned INTEGER,
        pack_index BLOB,
        UNIQUE (domain, id)
    ) STRICT;
    CREATE TABLE frames (
        pack   INTEGER NOT NULL,
        start  INTEGER NOT NULL,
        codec  INTEGER NOT NULL,
        stored INTEGER NOT NULL,
        raw    INTEGER NOT NULL,
        PRIMARY KEY (pack, start)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE objects (
        domain INTEGER NOT NULL,
        id     BLOB NOT NULL,
        kind   INTEGER NOT NULL,
        pack   INTEGER NOT NULL,
        frame  INTEGER NOT NULL,
        start  INTEGER NOT NULL,
        len    INTEGER NOT NULL,
        PRIMARY KEY (domain, id, kind, pack)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE recipes (
        domain  INTEGER NOT NULL,
        content BLOB NOT NULL,
        recipe  BLOB NOT NULL,
        proven  INTEGER NOT NULL,
        PRIMARY KEY (domain, content, recipe)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE blobs (
        domain  INTEGER NOT NULL,
        content BLOB NOT NULL,
        blob    BLOB NOT NULL,
        PRIMARY KEY (domain, content)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX recipes_by_recipe ON recipes (domain, recipe);
    CREATE TABLE removals (
        number INTEGER PRIMARY KEY,
        domain INTEGER NOT NULL,
        id     BLOB NOT NULL
    ) STRICT;
    CREATE TABLE doubts (
        number INTEGER PRIMARY KEY AUTOINCREMENT
    ) STRICT;
";

/// What version 3 has and version 2 had not.
const TABLES_OF_3: &str = "
    CREATE TABLE looked (
        domain INTEGER NOT NULL,
        id     BLOB NOT NULL,
        PRIMARY KEY (domain, id)
    ) STRICT, WITHOUT ROWID;
";

/// Opens a connection. What is committed is durable: an acknowledged pack whose row is lost would be taken for an
/// orphan and collected.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path).map_err(failed("opening the catalogue"))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed("opening the catalogue"))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384;")
        .map_err(failed("opening the catalogue"))?;
    // Otherwise a statement is planned anew for each key that is looked up.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(failed("opening the catalogue"))?;
    Ok(connection)
}

/// Makes the tables in a new catalogue; refuses one of another version.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed("preparing the catalogue"))?;
    let found: i64 = tx
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed("reading the version of the catalogue"))?;
    match found {
        VERSION => return Ok(()),
        0 => tx.execute_batch(TABLES).map_err(failed("making the catalogue"))?,
        2 => {}
        _ => return Err(StoreError::CatalogueVersion { found, known: VERSION }),
    }
    tx.execute_batch(TABLES_OF_3)
        .and_then(|()| tx.pragma_update(None, "user_version", VERSION))
        .and_then(|()| tx.commit())
        .map_err(failed("making the catalogue"))
}
