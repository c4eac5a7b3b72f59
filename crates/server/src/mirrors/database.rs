//! What mirrors have to remember: the names that Manifests name, the files that came from upstream, and what happened.
//!
//! A SQLite file of its own. The names can be learnt again; the files are only known here, and their contents are in the
//! store, where garbage collection keeps what this file names.

use std::path::Path;

use anyhow::Context as _;
use rusqlite::{Connection, TransactionBehavior};

/// Changes when a table does.
const VERSION: i64 = 2;

/// A list is a file of a tree of names, such as the Manifest of a package. `gone` is since when a list does not name a
/// file any more.
const SCHEMA: &str = "
    CREATE TABLE tree (tree TEXT PRIMARY KEY, version BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE list (tree TEXT NOT NULL, path BLOB NOT NULL, version BLOB NOT NULL, PRIMARY KEY (tree, path))
        WITHOUT ROWID;
    CREATE TABLE named (tree TEXT NOT NULL, path BLOB NOT NULL, name TEXT NOT NULL, sha512 BLOB NOT NULL,
                        blake2b BLOB NOT NULL, size INTEGER NOT NULL, gone INTEGER,
                        PRIMARY KEY (tree, path, name, sha512)) WITHOUT ROWID;
    CREATE INDEX named_name ON named (tree, name);
    CREATE INDEX named_content ON named (tree, sha512);
    CREATE TABLE kept (channel TEXT NOT NULL, name TEXT NOT NULL, sha512 BLOB NOT NULL, blake2b BLOB NOT NULL,
                       size INTEGER NOT NULL, content BLOB NOT NULL, blob BLOB NOT NULL, time INTEGER NOT NULL,
                       source TEXT NOT NULL, PRIMARY KEY (channel, name, sha512)) WITHOUT ROWID;
    CREATE INDEX kept_content ON kept (channel, sha512);
    CREATE TABLE source (mirror TEXT NOT NULL, url TEXT NOT NULL, files INTEGER NOT NULL DEFAULT 0,
                         bytes INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, worked INTEGER,
                         failed INTEGER, error TEXT, PRIMARY KEY (mirror, url)) WITHOUT ROWID;
    CREATE TABLE event (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, mirror TEXT NOT NULL, file TEXT NOT NULL,
                        source TEXT, text TEXT NOT NULL);
    CREATE TABLE given (mirror TEXT PRIMARY KEY, files INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
";

/// What version 2 has besides: how mirrors stand that follow their upstream, how far upstream was with each thing, and the
/// files that were accepted, with what each had to be and what it is published with.
const FOLLOWED: &str = "
    CREATE TABLE followed (mirror TEXT PRIMARY KEY, looked INTEGER, changed INTEGER, next INTEGER,
                           failures INTEGER NOT NULL, error TEXT, held TEXT, held_since INTEGER,
                           files INTEGER NOT NULL, bytes INTEGER NOT NULL, fetched INTEGER NOT NULL,
                           saved INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE mark (mirror TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (mirror, name))
        WITHOUT ROWID;
    CREATE TABLE brought (mirror TEXT NOT NULL, path BLOB NOT NULL, must BLOB NOT NULL, content BLOB,
                          PRIMARY KEY (mirror, path)) WITHOUT ROWID;
";

/// Opens the file, and makes it where it is not there.
pub(super) fn open(path: &Path) -> anyhow::Result<Connection> {
    open_at(path).with_context(|| format!("opening {}", path.display()))
}

fn open_at(path: &Path) -> anyhow::Result<Connection> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(std::time::Duration::from_secs(30))?;
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    // Another process may make it at the same time.
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => {
            tx.execute_batch(SCHEMA)?;
            tx.execute_batch(FOLLOWED)?;
        }
        1 => tx.execute_batch(FOLLOWED)?,
        VERSION => {}
        // Its files are known nowhere else, so it is not begun anew.
        _ => anyhow::bail!("it is of version {version}, and this program knows version {VERSION}"),
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()?;
    Ok(db)
}

/// A column that holds a digest.
pub(super) fn digest<const N: usize>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<[u8; N]> {
    row.get(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_version_before_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upstream.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(SCHEMA).unwrap();
        old.execute_batch("INSERT INTO given VALUES ('m', 3, 300); PRAGMA user_version = 1;").unwrap();
        drop(old);
        for _ in 0..2 {
            let db = open(&path).unwrap();
            let bytes: u64 = db.query_row("SELECT bytes FROM given", [], |row| row.get(0)).unwrap();
            let followed: u64 = db.query_row("SELECT count(*) FROM followed", [], |row| row.get(0)).unwrap();
            assert_eq!((bytes, followed), (300, 0));
        }
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 3;").unwrap();
        assert!(format!("{:#}", open(&path).unwrap_err()).contains("it is of version 3"));
    }
}
