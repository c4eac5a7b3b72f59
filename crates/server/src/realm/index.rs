//! Where publications stand in the log, to be found without reading it.
//!
//! A SQLite file beside the log, made anew from it when it is missing, behind, or of another realm: what it says is
//! a function of the leaves, and of the openings of private channels that lie beside them.

use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension as _, params};
use smart_sync_store::id::to_hex;
use smart_sync_sync::log::heads::{Head, HeadKey, HeadsTable};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::{Channel, RefName};

/// Changes when the tables do: an index of another version is thrown away.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE state (size INTEGER NOT NULL, first_leaf TEXT NOT NULL);
    CREATE TABLE move (key TEXT NOT NULL, seq INTEGER NOT NULL, leaf INTEGER NOT NULL, hash BLOB NOT NULL,
                       PRIMARY KEY (key, seq)) WITHOUT ROWID;
    CREATE TABLE heads (leaf INTEGER PRIMARY KEY, time INTEGER NOT NULL);
    CREATE TABLE root (version INTEGER PRIMARY KEY, leaf INTEGER NOT NULL);
    CREATE TABLE sealed (key TEXT PRIMARY KEY, channel TEXT NOT NULL, ref TEXT NOT NULL) WITHOUT ROWID;
";

/// The index of a log.
pub(crate) struct Index {
    db: Connection,
}

/// What a leaf adds to the index.
pub(crate) enum Entry {
    /// A root document of this version.
    Root(u64),
    /// Heads of this time.
    Heads(u64),
    /// A publication of a ref, or of a slot with the ref that it stands for.
    Move {
        /// Where the ref stands now.
        head: Head,
        /// What a slot stands for, where that is known.
        sealed: Option<(Channel, RefName)>,
    },
}

impl Index {
    /// Opens the index of the log whose first leaf has this hash, empty if there is none that fits.
    pub(crate) fn open(path: &Path, first_leaf: &LogHash) -> anyhow::Result<Self> {
        let opening = || format!("opening {}", path.display());
        let db = Connection::open(path).with_context(opening)?;
        db.busy_timeout(std::time::Duration::from_secs(30)).with_context(opening)?;
        // Losing the last entries costs nothing: they are read from the log again.
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;").with_context(opening)?;
        let mut index = Self { db };
        if !index.is_of(first_leaf).with_context(opening)? {
            index.start_over(first_leaf).with_context(opening)?;
        }
        Ok(index)
    }

    fn is_of(&self, first_leaf: &LogHash) -> anyhow::Result<bool> {
        let version: i64 = self.db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != VERSION {
            return Ok(false);
        }
        let first: Option<String> =
            self.db.query_row("SELECT first_leaf FROM state", [], |row| row.get(0)).optional()?;
        Ok(first == Some(first_leaf.to_string()))
    }

    fn start_over(&mut self, first_leaf: &LogHash) -> anyhow::Result<()> {
        let tx = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for table in ["state", "move", "heads", "root", "sealed"] {
            tx.execute_batch(&format!("DROP TABLE IF EXISTS {table};"))?;
        }
        tx.execute_batch(SCHEMA)?;
        tx.execute("INSERT INTO state VALUES (0, ?)", [first_leaf.to_string()])?;
        tx.pragma_update(None, "user_version", VERSION)?;
        Ok(tx.commit()?)
    }

    /// How many leaves it covers.
    pub(crate) fn size(&self) -> anyhow::Result<u64> {
        Ok(self.db.query_row("SELECT size FROM state", [], |row| row.get(0))?)
    }

    /// Adds the leaves from `start` up to `size`, all or none. Another process may have been faster.
    pub(crate) fn add(&mut self, start: u64, size: u64, entries: &[(u64, Entry)]) -> anyhow::Result<()> {
        let tx = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let covered: u64 = tx.query_row("SELECT size FROM state", [], |row| row.get(0))?;
        if covered != start {
            return Ok(());
        }
        for (leaf, entry) in entries {
            match entry {
                Entry::Root(version) => {
                    tx.execute("INSERT INTO root VALUES (?, ?)", params![version, leaf])?;
                }
                Entry::Heads(time) => {
                    tx.execute("INSERT INTO heads VALUES (?, ?)", params![leaf, time])?;
                }
                Entry::Move { head, sealed } => {
                    let key = head.key.as_str();
                    tx.execute(
                        "INSERT INTO move VALUES (?, ?, ?, ?)",
                        params![key, head.seq, head.index, head.leaf.as_bytes()],
                    )?;
                    if let Some((channel, reference)) = sealed {
                        tx.execute(
                            "INSERT OR REPLACE INTO sealed VALUES (?, ?, ?)",
                            params![key, channel.as_str(), reference.to_record()],
                        )?;
                    }
                }
            }
        }
        tx.execute("UPDATE state SET size = ?", [size])?;
        Ok(tx.commit()?)
    }

    /// The table of heads as of the leaves before `end`.
    pub(crate) fn table(&self, end: u64) -> anyhow::Result<HeadsTable> {
        let mut select = self.db.prepare_cached(
            "SELECT key, max(seq), leaf, hash FROM move WHERE leaf < ? GROUP BY key ORDER BY key",
        )?;
        let mut rows = select.query([end])?;
        let mut heads = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, seq, leaf): (String, u64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let hash = LogHash::from_bytes(row.get(3)?);
            heads.push(
                Head::from_line(&format!("{key} {seq} {leaf} {hash}\n"))
                    .context("the index of the log is damaged; delete index.db and start again")?,
            );
        }
        Ok(HeadsTable::new(heads))
    }

    /// The last heads leaf before `end` whose time is at most `time`, and the heads leaf after it.
    pub(crate) fn heads_at(&self, time: u64, end: u64) -> anyhow::Result<Option<(u64, Option<u64>)>> {
        let at: Option<u64> = self
            .db
            .query_row(
                "SELECT max(leaf) FROM heads WHERE time <= ? AND leaf < ?",
                params![i64::try_from(time).unwrap_or(i64::MAX), end],
                |row| row.get(0),
            )
            .optional()?
            .flatten();
        let Some(at) = at else { return Ok(None) };
        let next = self.db.query_row(
            "SELECT min(leaf) FROM heads WHERE leaf > ? AND leaf < ?",
            params![at, end],
            |row| row.get(0),
        )?;
        Ok(Some((at, next)))
    }

    /// The time of the first heads leaf after a leaf.
    pub(crate) fn heads_after(&self, leaf: u64, end: u64) -> anyhow::Result<Option<u64>> {
        let found = self.db.query_row(
            "SELECT time FROM heads WHERE leaf > ? AND leaf < ? ORDER BY leaf LIMIT 1",
            params![leaf, end],
            |row| row.get(0),
        );
        Ok(found.optional()?)
    }

    /// The leaves before `end` of a ref's publications, newest first, those before number `before` if it is given.
    pub(crate) fn history(
        &self,
        key: &HeadKey,
        before: Option<u64>,
        count: u64,
        end: u64,
    ) -> anyhow::Result<Vec<(u64, u64)>> {
        let mut select = self.db.prepare_cached(
            "SELECT seq, leaf FROM move WHERE key = ? AND seq < ? AND leaf < ? ORDER BY seq DESC LIMIT ?",
        )?;
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let rows = select
            .query_map(params![key.as_str(), before, end, count], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The leaf of a root document before `end`; the newest without a version.
    pub(crate) fn root(&self, version: Option<u64>, end: u64) -> anyhow::Result<Option<u64>> {
        let found = match version {
            Some(version) => self
                .db
                .query_row("SELECT leaf FROM root WHERE version = ? AND leaf < ?", [version, end], |row| {
                    row.get(0)
                })
                .optional()?,
            None => {
                self.db.query_row("SELECT max(leaf) FROM root WHERE leaf < ?", [end], |row| row.get(0))?
            }
        };
        Ok(found)
    }

    /// The leaves of root documents from `start` on and before `end`.
    pub(crate) fn roots_from(&self, start: u64, end: u64) -> anyhow::Result<Vec<u64>> {
        let mut select =
            self.db.prepare_cached("SELECT leaf FROM root WHERE leaf >= ? AND leaf < ? ORDER BY version")?;
        let rows = select.query_map([start, end], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What the slots of private channels stand for.
    pub(crate) fn sealed_refs(&self) -> anyhow::Result<Vec<(String, Channel, RefName)>> {
        let mut select =
            self.db.prepare_cached("SELECT key, channel, ref FROM sealed ORDER BY channel, ref")?;
        let mut rows = select.query([])?;
        let mut refs = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, channel, reference): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            refs.push((key, channel.parse()?, RefName::from_record(&reference)?));
        }
        Ok(refs)
    }
}

/// The file name of what belongs to a leaf.
pub(crate) fn file_name(hash: &LogHash) -> String {
    to_hex(hash.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: &str, seq: u64, index: u64) -> Head {
        let key = HeadKey::open(&"repos/x".parse().unwrap(), &RefName::branch(name).unwrap());
        Head { key, seq, index, leaf: LogHash::of_leaf(name.as_bytes()) }
    }

    fn moved(head: Head) -> Entry {
        Entry::Move { head, sealed: None }
    }

    #[test]
    fn tables_are_as_of_any_leaf() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index.db");
        let first = LogHash::of_leaf(b"first");
        let mut index = Index::open(&path, &first).unwrap();
        let entries = [
            (0, Entry::Root(1)),
            (1, Entry::Heads(100)),
            (2, moved(head("a", 1, 2))),
            (3, moved(head("b", 1, 3))),
            (4, Entry::Heads(200)),
            (5, moved(head("a", 2, 5))),
            (6, Entry::Heads(300)),
        ];
        index.add(0, 7, &entries).unwrap();
        index.add(0, 7, &entries).unwrap();
        let table = |end| HeadsTable::heads(&index.table(end).unwrap()).to_vec();
        assert_eq!(table(2), []);
        assert_eq!(table(5), [head("a", 1, 2), head("b", 1, 3)]);
        assert_eq!(table(7), [head("a", 2, 5), head("b", 1, 3)]);
        assert_eq!(index.heads_at(99, 7).unwrap(), None);
        assert_eq!(index.heads_at(250, 7).unwrap(), Some((4, Some(6))));
        assert_eq!(index.heads_at(u64::MAX, 7).unwrap(), Some((6, None)));
        let first_after = [0, 4, 6].map(|leaf| index.heads_after(leaf, 7).unwrap().is_some());
        assert_eq!(first_after, [true, true, false]);
        assert_eq!(index.history(&head("a", 1, 2).key, None, 10, 7).unwrap(), [(2, 5), (1, 2)]);
        assert_eq!(index.history(&head("a", 1, 2).key, Some(2), 10, 7).unwrap(), [(1, 2)]);
        assert_eq!(index.root(None, 7).unwrap(), Some(0));
        assert_eq!(index.root(Some(2), 7).unwrap(), None);
        drop(index);
        assert_eq!(Index::open(&path, &first).unwrap().size().unwrap(), 7);
        assert_eq!(Index::open(&path, &LogHash::of_leaf(b"other")).unwrap().size().unwrap(), 0);
    }
}
