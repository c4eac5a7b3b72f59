//! The files that lists of a tree name, and what each has to be.
//!
//! Trees of names change a little at a time, so the names are remembered by the lists that name them, and only lists that
//! changed are read again. A name that no list has any more is known for a while: a host may be at an older tree.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use smart_sync_sync::kinds::pull::{Asked, Expected};

use super::database::digest;

/// How long a name is known that no list has any more, in seconds: 90 days.
const GONE_SECONDS_MAX: u64 = 90 * 24 * 3600;

/// What became of a list.
pub(super) struct Learnt {
    /// Where it is in the tree.
    pub(super) path: Vec<u8>,
    /// What it is now, unless it is gone.
    pub(super) list: Option<List>,
}

/// A list that was read.
pub(super) struct List {
    /// What tells it from another version.
    pub(super) version: Vec<u8>,
    /// The files that it names.
    pub(super) files: Vec<(String, Expected)>,
}

/// The version of a tree whose names are known.
pub(super) fn version(db: &Connection, tree: &str) -> anyhow::Result<Option<Vec<u8>>> {
    Ok(db.query_row("SELECT version FROM tree WHERE tree = ?", [tree], |row| row.get(0)).optional()?)
}

/// Notes that all names of a version of a tree are known, and forgets those that were gone for long.
pub(super) fn settle(db: &Connection, tree: &str, version: &[u8], now: u64) -> anyhow::Result<()> {
    db.execute("INSERT OR REPLACE INTO tree VALUES (?, ?)", params![tree, version])?;
    let since = now.saturating_sub(GONE_SECONDS_MAX);
    db.execute("DELETE FROM named WHERE tree = ? AND gone < ?", params![tree, since])?;
    Ok(())
}

/// The lists of a tree that are known, each with its version.
pub(super) fn lists(db: &Connection, tree: &str) -> anyhow::Result<HashMap<Vec<u8>, Vec<u8>>> {
    let mut statement = db.prepare("SELECT path, version FROM list WHERE tree = ?")?;
    let rows = statement.query_map([tree], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Takes what some lists name in place of what they named before.
pub(super) fn learn(db: &mut Connection, tree: &str, learnt: &[Learnt], now: u64) -> anyhow::Result<()> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut retire =
            tx.prepare("UPDATE named SET gone = ? WHERE tree = ? AND path = ? AND gone IS NULL")?;
        let mut forget = tx.prepare("DELETE FROM list WHERE tree = ? AND path = ?")?;
        let mut note = tx.prepare("INSERT OR REPLACE INTO list VALUES (?, ?, ?)")?;
        let mut name = tx.prepare("INSERT OR REPLACE INTO named VALUES (?, ?, ?, ?, ?, ?, NULL)")?;
        for Learnt { path, list } in learnt {
            retire.execute(params![now, tree, path])?;
            let Some(List { version, files }) = list else {
                forget.execute(params![tree, path])?;
                continue;
            };
            note.execute(params![tree, path, version])?;
            for (file, expected) in files {
                let Expected { size, blake2b, sha512 } = expected;
                name.execute(params![tree, path, file, sha512, blake2b, size])?;
            }
        }
    }
    Ok(tx.commit()?)
}

/// Everything that lists name now, but for names of which they say different things.
pub(super) fn all(db: &Connection, tree: &str) -> anyhow::Result<BTreeMap<String, Expected>> {
    let sql = "SELECT DISTINCT name, size, blake2b, sha512 FROM named WHERE tree = ? AND gone IS NULL";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([tree])?;
    let mut found: BTreeMap<String, Option<Expected>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let expected = Expected { size: row.get(1)?, blake2b: digest(row, 2)?, sha512: digest(row, 3)? };
        let one = found.entry(row.get(0)?).or_insert(Some(expected));
        *one = one.filter(|one| *one == expected);
    }
    Ok(found.into_iter().filter_map(|(name, expected)| Some((name, expected?))).collect())
}

/// What a file has to be. Lists may say different things of one name; then nobody knows which of them is meant, and it is
/// found by its content only. What a list says now counts before what one has said.
pub(super) fn find(db: &Connection, tree: &str, asked: &Asked) -> anyhow::Result<Option<(String, Expected)>> {
    let columns = "SELECT DISTINCT name, size, blake2b, sha512, gone FROM named WHERE tree = ?1";
    let order = "ORDER BY gone IS NOT NULL, gone DESC, name";
    let read = |row: &rusqlite::Row<'_>| {
        let expected = Expected { size: row.get(1)?, blake2b: digest(row, 2)?, sha512: digest(row, 3)? };
        Ok((row.get::<_, String>(0)?, expected, row.get::<_, Option<u64>>(4)?))
    };
    let rows: Vec<(String, Expected, Option<u64>)> = match asked {
        Asked::Name(name) => {
            let mut statement = db.prepare_cached(&format!("{columns} AND name = ?2 {order} LIMIT 16"))?;
            statement.query_map(params![tree, name], read)?.collect::<Result<_, _>>()?
        }
        Asked::Content(sha512) => {
            let mut statement = db.prepare_cached(&format!("{columns} AND sha512 = ?2 {order} LIMIT 1"))?;
            statement.query_map(params![tree, sha512], read)?.collect::<Result<_, _>>()?
        }
    };
    let Some((name, expected, gone)) = rows.first() else { return Ok(None) };
    let is_clear = rows.iter().all(|(_, other, then)| then != gone || other == expected);
    Ok(is_clear.then(|| (name.clone(), *expected)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirrors::database;

    fn of(byte: u8) -> Expected {
        Expected { size: u64::from(byte), blake2b: [byte; 64], sha512: [byte; 64] }
    }

    fn list(path: &str, version: u8, files: &[(&str, u8)]) -> Learnt {
        let files = files.iter().map(|(name, byte)| ((*name).to_owned(), of(*byte))).collect();
        Learnt { path: path.as_bytes().to_vec(), list: Some(List { version: vec![version], files }) }
    }

    #[test]
    fn names_follow_the_lists_and_are_known_for_a_while_after() {
        let directory = tempfile::tempdir().unwrap();
        let mut db = database::open(&directory.path().join("upstream.db")).unwrap();
        let name = |name: &str| Asked::Name(name.to_owned());
        let found = |db: &Connection, asked: Asked| find(db, "t", &asked).unwrap().map(|(_, it)| it.size);
        learn(
            &mut db,
            "t",
            &[list("c/a/M", 1, &[("a-1", 1), ("b-1", 2)]), list("c/b/M", 1, &[("b-1", 2)])],
            10,
        )
        .unwrap();
        learn(&mut db, "other", &[list("c/a/M", 1, &[("a-1", 9)])], 10).unwrap();
        assert_eq!(version(&db, "t").unwrap(), None);
        settle(&db, "t", &[7], 10).unwrap();
        assert_eq!(version(&db, "t").unwrap(), Some(vec![7]));
        assert_eq!(lists(&db, "t").unwrap().len(), 2);
        assert_eq!(found(&db, name("a-1")), Some(1));
        assert_eq!(found(&db, name("b-1")), Some(2));
        assert_eq!(found(&db, name("c-1")), None);
        assert_eq!(found(&db, Asked::Content([2; 64])), Some(2));
        assert_eq!(found(&db, Asked::Content([9; 64])), None, "another tree names it");

        // The list says something else of one name and nothing of the other.
        learn(&mut db, "t", &[list("c/a/M", 2, &[("a-1", 3)])], 20).unwrap();
        assert_eq!(found(&db, name("a-1")), Some(3));
        assert_eq!(found(&db, Asked::Content([1; 64])), Some(1), "a host may be at an older tree");
        assert_eq!(found(&db, name("b-1")), Some(2), "another list names it");
        learn(&mut db, "t", &[Learnt { path: b"c/b/M".to_vec(), list: None }], 30).unwrap();
        assert_eq!(lists(&db, "t").unwrap().len(), 1);
        assert_eq!(found(&db, name("b-1")), Some(2));
        settle(&db, "t", &[8], 31 + GONE_SECONDS_MAX).unwrap();
        assert_eq!(found(&db, name("b-1")), None);
        assert_eq!(found(&db, name("a-1")), Some(3));
    }

    #[test]
    fn of_a_name_that_means_two_files_neither_is_meant() {
        let directory = tempfile::tempdir().unwrap();
        let mut db = database::open(&directory.path().join("upstream.db")).unwrap();
        learn(&mut db, "t", &[list("c/a/M", 1, &[("a-1", 1)]), list("c/b/M", 1, &[("a-1", 2)])], 10).unwrap();
        assert_eq!(find(&db, "t", &Asked::Name("a-1".to_owned())).unwrap(), None);
        learn(&mut db, "t", &[list("c/c/M", 1, &[("b-1", 3)])], 10).unwrap();
        assert_eq!(all(&db, "t").unwrap(), BTreeMap::from([("b-1".to_owned(), of(3))]));
        let by_content = find(&db, "t", &Asked::Content([2; 64])).unwrap();
        assert_eq!(by_content, Some(("a-1".to_owned(), of(2))));
    }
}
