//! What hosts have reported of themselves: the last report of each of their targets.
//!
//! A SQLite file of its own, which is made when a first report comes. Losing it loses nothing that hosts would not say
//! again. What is kept is bounded in every way, because it comes from as many hosts as have a token.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use smart_sync_sync::wire::report::{HostName, REPORTS_MAX, Report, TARGETS_MAX};

/// Changes when the table does: what was written for another version is reported anew.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE report (host TEXT NOT NULL, target TEXT NOT NULL, received INTEGER NOT NULL, report TEXT NOT NULL,
                         PRIMARY KEY (host, target)) WITHOUT ROWID;
";

/// The reports of a server.
pub(crate) struct HostReports {
    path: PathBuf,
    db: Mutex<Option<Connection>>,
}

/// A report as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) host: HostName,
    /// When it came, in seconds since 1970.
    pub(crate) received: u64,
    pub(crate) report: Report,
}

/// What became of a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is durable.
    Kept,
    /// The host has as many targets as one may have.
    TooManyTargets,
    /// There is no room for more.
    TooManyReports,
}

impl HostReports {
    /// The reports in this file, which need not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, db: Mutex::new(None) }
    }

    /// Keeps a report in place of the one before.
    pub(crate) fn note(&self, host: &HostName, report: &Report, now: u64) -> anyhow::Result<Noted> {
        let text = serde_json::to_string(report).context("writing a report")?;
        self.with(|db| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let count = |sql: &str, host: &str| tx.query_row(sql, [host], |row| row.get::<_, usize>(0));
            let known = "SELECT count(*) FROM report WHERE host = ?1 AND target = ?2";
            let is_known: usize =
                tx.query_row(known, [host.as_str(), report.target.as_str()], |row| row.get(0))?;
            if is_known == 0 {
                if count("SELECT count(*) FROM report WHERE host = ?", host.as_str())? >= TARGETS_MAX {
                    return Ok(Noted::TooManyTargets);
                }
                if tx.query_row("SELECT count(*) FROM report", [], |row| row.get::<_, usize>(0))?
                    >= REPORTS_MAX
                {
                    return Ok(Noted::TooManyReports);
                }
            }
            tx.execute(
                "INSERT OR REPLACE INTO report VALUES (?, ?, ?, ?)",
                params![host.as_str(), report.target, now, text],
            )?;
            tx.commit()?;
            Ok(Noted::Kept)
        })
    }

    /// All reports, in the order of hosts and targets.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<Kept>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        self.with(|db| {
            let mut statement =
                db.prepare("SELECT host, received, report FROM report ORDER BY host, target")?;
            let rows = statement.query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get::<_, String>(2)?))
            })?;
            let kept = rows.map(|row| {
                let (host, received, report) = row?;
                let host = host.parse().map_err(anyhow::Error::msg)?;
                Ok(Kept { host, received, report: Report::parse(report.as_bytes())? })
            });
            kept.collect()
        })
    }

    /// Forgets a host; false if it was not known.
    pub(crate) fn forget(&self, host: &HostName) -> anyhow::Result<bool> {
        if !self.path.exists() {
            return Ok(false);
        }
        self.with(|db| Ok(db.execute("DELETE FROM report WHERE host = ?", [host.as_str()])? > 0))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Connection) -> anyhow::Result<T>) -> anyhow::Result<T> {
        // A panic in between leaves a transaction behind that is rolled back.
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match db.take() {
            Some(opened) => opened,
            None => open(&self.path).with_context(|| format!("opening {}", self.path.display()))?,
        };
        act(db.insert(opened)).with_context(|| format!("in {}", self.path.display()))
    }
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(std::time::Duration::from_secs(30))?;
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    // Another process may make it at the same time.
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let is_there: Option<i64> =
        tx.query_row("SELECT 1 FROM sqlite_master WHERE name = 'report'", [], |row| row.get(0)).optional()?;
    if version != VERSION || is_there.is_none() {
        tx.execute_batch("DROP TABLE IF EXISTS report;")?;
        tx.execute_batch(SCHEMA)?;
        tx.pragma_update(None, "user_version", VERSION)?;
    }
    tx.commit()?;
    Ok(db)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_sync::wire::report::Health;

    fn report(target: &str, seq: u64) -> Report {
        Report {
            target: target.to_owned(),
            origin: "lab.example.org".to_owned(),
            channel: "repos/site".to_owned(),
            r#ref: "branch:main".to_owned(),
            seq,
            manifest: None,
            commit: None,
            applied: 0,
            health: Health::NothingApplied,
            drift: None,
            exit: 5,
        }
    }

    #[test]
    fn the_last_report_of_each_target_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.db");
        let reports = HostReports::new(path.clone());
        assert!(reports.all().unwrap().is_empty() && !path.exists());
        let (web, db) = ("web".parse().unwrap(), "db".parse().unwrap());
        for (host, target, seq, now) in
            [(&web, "/b", 1, 10), (&web, "/a", 1, 11), (&db, "/a", 5, 12), (&web, "/a", 2, 9)]
        {
            assert_eq!(reports.note(host, &report(target, seq), now).unwrap(), Noted::Kept);
        }
        drop(reports);
        let again = HostReports::new(path);
        let found: Vec<_> = again.all().unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|kept| (kept.host.as_str(), kept.report.target.as_str(), kept.report.seq, kept.received))
            .collect();
        assert_eq!(found, [("db", "/a", 5, 12), ("web", "/a", 2, 9), ("web", "/b", 1, 10)]);
        assert!(again.forget(&web).unwrap() && !again.forget(&web).unwrap());
        assert_eq!(again.all().unwrap().len(), 1);
    }

    #[test]
    fn a_host_fills_neither_the_disk_nor_the_list() {
        let directory = tempfile::tempdir().unwrap();
        let reports = HostReports::new(directory.path().join("hosts.db"));
        let web = "web".parse().unwrap();
        for number in 0..TARGETS_MAX {
            assert_eq!(reports.note(&web, &report(&format!("/{number}"), 1), 1).unwrap(), Noted::Kept);
        }
        assert_eq!(reports.note(&web, &report("/more", 1), 1).unwrap(), Noted::TooManyTargets);
        assert_eq!(reports.note(&web, &report("/0", 2), 1).unwrap(), Noted::Kept);
        let text = serde_json::to_string(&report("/t", 1)).unwrap();
        let fill = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {REPORTS_MAX})
             INSERT INTO report SELECT 'h' || i, '/t', 1, '{text}' FROM n"
        );
        reports.with(|db| Ok(db.execute_batch(&fill)?)).unwrap();
        let other = "other".parse().unwrap();
        assert_eq!(reports.note(&other, &report("/t", 1), 1).unwrap(), Noted::TooManyReports);
        assert_eq!(reports.note(&web, &report("/0", 3), 1).unwrap(), Noted::Kept);
    }

    #[test]
    fn a_file_of_another_version_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE report (other TEXT); PRAGMA user_version = 7;").unwrap();
        drop(db);
        let reports = HostReports::new(path);
        assert_eq!(reports.note(&"web".parse().unwrap(), &report("/t", 1), 1).unwrap(), Noted::Kept);
        assert_eq!(reports.all().unwrap().len(), 1);
    }
}
