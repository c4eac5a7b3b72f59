//! What is remembered of an upstream that is followed, over restarts and by all processes.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::TreePath;

use super::super::database::digest;
use super::hold::Seen;

/// How a mirror stands that looks at its upstream by itself, as `/v1/mirrors` says it. Times are in seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// When upstream was looked at last.
    pub(crate) looked: Option<u64>,
    /// When there was something new.
    pub(crate) changed: Option<u64>,
    /// When it is looked at next, if the server runs.
    pub(crate) next: Option<u64>,
    /// Looks that failed since the last one that did not.
    pub(crate) failures: u64,
    /// Why the last one did.
    pub(crate) error: Option<String>,
    /// Why what upstream has is not published before somebody says so.
    pub(crate) held: Option<String>,
    /// Since when.
    pub(crate) held_since: Option<u64>,
    /// The files that upstream has of what is wanted.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// The bytes that came from upstream in all looks.
    pub(crate) fetched_bytes: u64,
    /// The bytes that did not have to, because they were here.
    pub(crate) saved_bytes: u64,
}

/// How a mirror stands.
pub(crate) fn load(db: &Connection, mirror: &str) -> anyhow::Result<State> {
    let sql = "SELECT looked, changed, next, failures, error, held, held_since, files, bytes, fetched, saved
               FROM followed WHERE mirror = ?";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(State {
            looked: row.get(0)?,
            changed: row.get(1)?,
            next: row.get(2)?,
            failures: row.get(3)?,
            error: row.get(4)?,
            held: row.get(5)?,
            held_since: row.get(6)?,
            files: row.get(7)?,
            bytes: row.get(8)?,
            fetched_bytes: row.get(9)?,
            saved_bytes: row.get(10)?,
        })
    };
    Ok(db.query_row(sql, [mirror], read).optional()?.unwrap_or_default())
}

/// Changes how a mirror stands.
pub(crate) fn change(
    db: &mut Connection,
    mirror: &str,
    change: impl FnOnce(&mut State),
) -> anyhow::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut state = load(&tx, mirror)?;
    change(&mut state);
    let State { looked, changed, next, failures, error, held, held_since, .. } = &state;
    let (files, bytes, fetched, saved) = (state.files, state.bytes, state.fetched_bytes, state.saved_bytes);
    tx.execute(
        "INSERT OR REPLACE INTO followed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            mirror, looked, changed, next, failures, error, held, held_since, files, bytes, fetched, saved
        ],
    )?;
    Ok(tx.commit()?)
}

/// What was accepted last.
pub(super) fn seen(db: &Connection, mirror: &str) -> anyhow::Result<Seen> {
    let files = "SELECT count(*) FROM brought WHERE mirror = ?";
    let files: u64 = db.query_row(files, [mirror], |row| row.get(0))?;
    let mut statement = db.prepare("SELECT name, value FROM mark WHERE mirror = ?")?;
    let marks = statement.query_map([mirror], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Seen { files: usize::try_from(files)?, marks: marks.collect::<Result<BTreeMap<_, _>, _>>()? })
}

/// What a file had to be, and the content that it is published with; none where the kind has left it out.
pub(super) type Demand = ([u8; 32], Option<ContentId>);

/// The files of what was accepted last.
pub(super) fn files(db: &Connection, mirror: &str) -> anyhow::Result<HashMap<Vec<u8>, Demand>> {
    let mut statement = db.prepare("SELECT path, must, content FROM brought WHERE mirror = ?")?;
    let rows = statement.query_map([mirror], |row| {
        let content: Option<[u8; 32]> = row.get(2)?;
        Ok((row.get(0)?, (digest(row, 1)?, content.map(ContentId::from_bytes))))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Takes what there is now for what was accepted last.
pub(super) fn accept(
    db: &mut Connection,
    mirror: &str,
    marks: &BTreeMap<String, u64>,
    files: &[(&TreePath, Demand)],
) -> anyhow::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute("DELETE FROM mark WHERE mirror = ?", [mirror])?;
    tx.execute("DELETE FROM brought WHERE mirror = ?", [mirror])?;
    {
        let mut mark = tx.prepare("INSERT INTO mark VALUES (?, ?, ?)")?;
        for (name, value) in marks {
            // What does not fit into the file is as good as the largest that does.
            mark.execute(params![mirror, name, (*value).min(i64::MAX.unsigned_abs())])?;
        }
        let mut file = tx.prepare("INSERT INTO brought VALUES (?, ?, ?, ?)")?;
        for (path, (must, content)) in files {
            file.execute(params![mirror, path.as_bytes(), must, content.map(|content| *content.as_bytes())])?;
        }
    }
    Ok(tx.commit()?)
}

/// Forgets a mirror.
pub(crate) fn forget(db: &mut Connection, mirror: &str) -> anyhow::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for table in ["followed", "mark", "brought"] {
        tx.execute(&format!("DELETE FROM {table} WHERE mirror = ?"), [mirror])?;
    }
    Ok(tx.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirrors::database;

    #[test]
    fn what_is_remembered_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("upstream.db");
        let mut db = database::open(&at).unwrap();
        assert_eq!(load(&db, "m").unwrap(), State::default());
        let path = TreePath::new(*b"a/b").unwrap();
        let marks = BTreeMap::from([("amd64".to_owned(), 7), ("x".to_owned(), u64::MAX)]);
        let demand = ([1; 32], Some(ContentId::from_bytes([2; 32])));
        accept(&mut db, "m", &marks, &[(&path, demand)]).unwrap();
        accept(&mut db, "other", &BTreeMap::new(), &[(&path, ([3; 32], None))]).unwrap();
        change(&mut db, "m", |state| (state.looked, state.failures) = (Some(5), 2)).unwrap();
        change(&mut db, "m", |state| state.held = Some("it shrank".to_owned())).unwrap();
        drop(db);
        let mut db = database::open(&at).unwrap();
        let state = load(&db, "m").unwrap();
        assert_eq!((state.looked, state.failures, state.held.as_deref()), (Some(5), 2, Some("it shrank")));
        let marks = BTreeMap::from([("amd64".to_owned(), 7), ("x".to_owned(), i64::MAX.unsigned_abs())]);
        assert_eq!(seen(&db, "m").unwrap(), Seen { files: 1, marks });
        assert_eq!(files(&db, "m").unwrap(), HashMap::from([(b"a/b".to_vec(), demand)]));
        forget(&mut db, "m").unwrap();
        assert_eq!((load(&db, "m").unwrap(), seen(&db, "m").unwrap()), (State::default(), Seen::default()));
        assert_eq!(seen(&db, "other").unwrap().files, 1);
    }
}
