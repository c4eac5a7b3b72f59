//! What happened with upstreams: for the operator, who asks for it with `mirror status`.
//!
//! Each file that was asked for upstream is written down once, when it is over, with all that was tried for it. What is
//! written down is bounded: a line for each upstream, and the last events of all mirrors.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::follow::State;
use super::follow::state;

/// The events that are remembered.
const EVENTS_MAX: u64 = 1000;
/// The events that are shown of one mirror.
const EVENTS_SHOWN: u64 = 20;

/// What came of asking one upstream for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Its URL.
    pub(super) source: String,
    /// The bytes that it gave.
    pub(super) bytes: u64,
    /// Whether that was all that was left of the file.
    pub(super) is_whole: bool,
    /// What was wrong, unless it only does not have the file.
    pub(super) fault: Option<String>,
}

/// All that was done for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report<'a> {
    pub(super) mirror: &'a str,
    pub(super) file: &'a str,
    pub(super) attempts: &'a [Attempt],
    /// What became of it, if it did not come.
    pub(super) failure: Option<&'a str>,
    pub(super) now: u64,
}

/// Writes down what was done for a file.
pub(super) fn note(db: &mut Connection, report: &Report<'_>) -> anyhow::Result<()> {
    let Report { mirror, file, attempts, failure, now } = report;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let event = "INSERT INTO event (time, mirror, file, source, text) VALUES (?, ?, ?, ?, ?)";
    for Attempt { source, bytes, is_whole, fault } in *attempts {
        tx.execute("INSERT OR IGNORE INTO source (mirror, url) VALUES (?, ?)", params![mirror, source])?;
        let key = params![mirror, source, bytes, u64::from(*is_whole), now, fault];
        let sql = if fault.is_some() {
            "UPDATE source SET bytes = bytes + ?3, files = files + ?4, failures = failures + 1, failed = ?5, error = ?6
             WHERE mirror = ?1 AND url = ?2"
        } else {
            "UPDATE source SET bytes = bytes + ?3, files = files + ?4, failures = 0, worked = ?5, error = ifnull(?6, error)
             WHERE mirror = ?1 AND url = ?2"
        };
        tx.execute(sql, key)?;
        if let Some(fault) = fault {
            tx.execute(event, params![now, mirror, file, source, fault])?;
        }
    }
    if let Some(failure) = failure {
        tx.execute(event, params![now, mirror, file, None::<String>, failure])?;
    }
    tx.execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?", [EVENTS_MAX])?;
    Ok(tx.commit()?)
}

/// Adds what was given to clients.
pub(super) fn gave(db: &Connection, mirror: &str, files: u64, bytes: u64) -> anyhow::Result<()> {
    db.execute("INSERT OR IGNORE INTO given VALUES (?, 0, 0)", [mirror])?;
    db.execute(
        "UPDATE given SET files = files + ?, bytes = bytes + ? WHERE mirror = ?",
        params![files, bytes, mirror],
    )?;
    Ok(())
}

/// What is known of one mirror, as `/v1/mirrors` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// What the operator calls it.
    pub(crate) name: String,
    /// Where it is served.
    pub(crate) channel: String,
    /// What kind of tree that is.
    pub(crate) kind: String,
    /// Where it stands which files there are, if they are fetched when they are asked for.
    pub(crate) names_from: Option<String>,
    /// How many of them are known.
    pub(crate) names: u64,
    /// The files that are here.
    pub(crate) kept_files: u64,
    /// Their bytes.
    pub(crate) kept_bytes: u64,
    /// When the newest of them came, in seconds since 1970.
    pub(crate) newest: Option<u64>,
    /// The files that clients were given.
    pub(crate) given_files: u64,
    /// Their bytes.
    pub(crate) given_bytes: u64,
    /// Bytes that clients were given and that did not come from upstream for it.
    pub(crate) saved_bytes: u64,
    /// Its upstreams, in their order.
    pub(crate) sources: Vec<SourceStatus>,
    /// What went wrong last, the newest first.
    pub(crate) events: Vec<Event>,
    /// How it looks at its upstream, if it does that by itself or has done so.
    pub(crate) follow: Option<State>,
}

/// What is known of an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceStatus {
    /// Its URL.
    pub(crate) url: String,
    /// The files that it gave to their end.
    pub(crate) files: u64,
    /// The bytes that it gave.
    pub(crate) bytes: u64,
    /// Failures since it last did what it was asked for.
    pub(crate) failures: u64,
    /// When it last did, in seconds since 1970.
    pub(crate) worked: Option<u64>,
    /// When it last failed.
    pub(crate) failed: Option<u64>,
    /// How.
    pub(crate) error: Option<String>,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When, in seconds since 1970.
    pub(crate) time: u64,
    /// With which file.
    pub(crate) file: String,
    /// At which upstream; at none where it is about all of them.
    pub(crate) source: Option<String>,
    /// What happened.
    pub(crate) text: String,
}

/// What a mirror is.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) name: &'a str,
    pub(super) channel: &'a str,
    pub(super) kind: &'a str,
    pub(super) names_from: Option<&'a str>,
}

/// What is known of a mirror with these upstreams.
pub(super) fn status(db: &Connection, mirror: &About<'_>, sources: &[&str]) -> anyhow::Result<Status> {
    let About { name, channel, kind, names_from } = *mirror;
    let names = "SELECT count(DISTINCT name) FROM named WHERE tree = ? AND gone IS NULL";
    let names = db.query_row(names, [names_from.unwrap_or_default()], |row| row.get(0))?;
    let kept = "SELECT count(*), ifnull(sum(size), 0), max(time) FROM kept WHERE channel = ?";
    let (kept_files, kept_bytes, newest) =
        db.query_row(kept, [channel], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let given = "SELECT files, bytes FROM given WHERE mirror = ?";
    let given = db.query_row(given, [name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (given_files, given_bytes): (u64, u64) = given.unwrap_or_default();
    let mut known = known_sources(db, name)?;
    let fetched: u64 = known.values().map(|source| source.bytes).sum();
    let of = |url: &&str| {
        known
            .remove(*url)
            .unwrap_or_else(|| SourceStatus { url: (*url).to_owned(), ..SourceStatus::default() })
    };
    Ok(Status {
        name: name.to_owned(),
        channel: channel.to_owned(),
        kind: kind.to_owned(),
        names_from: names_from.map(str::to_owned),
        names,
        kept_files,
        kept_bytes,
        newest,
        given_files,
        given_bytes,
        saved_bytes: given_bytes.saturating_sub(fetched),
        sources: sources.iter().map(of).collect(),
        events: events(db, name)?,
        follow: Some(state::load(db, name)?).filter(|state| *state != State::default()),
    })
}

fn known_sources(db: &Connection, mirror: &str) -> anyhow::Result<BTreeMap<String, SourceStatus>> {
    let sql = "SELECT url, files, bytes, failures, worked, failed, error FROM source WHERE mirror = ?";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([mirror], |row| {
        Ok(SourceStatus {
            url: row.get(0)?,
            files: row.get(1)?,
            bytes: row.get(2)?,
            failures: row.get(3)?,
            worked: row.get(4)?,
            failed: row.get(5)?,
            error: row.get(6)?,
        })
    })?;
    rows.map(|source| source.map(|source| (source.url.clone(), source)).map_err(Into::into)).collect()
}

fn events(db: &Connection, mirror: &str) -> anyhow::Result<Vec<Event>> {
    let sql = "SELECT time, file, source, text FROM event WHERE mirror = ? ORDER BY id DESC LIMIT ?";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map(params![mirror, EVENTS_SHOWN], |row| {
        Ok(Event { time: row.get(0)?, file: row.get(1)?, source: row.get(2)?, text: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirrors::database;

    #[test]
    fn what_happened_is_counted_for_each_upstream_and_events_are_never_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let mut db = database::open(&directory.path().join("upstream.db")).unwrap();
        let attempt = |source: &str, bytes, is_whole, fault: Option<&str>| Attempt {
            source: source.to_owned(),
            bytes,
            is_whole,
            fault: fault.map(str::to_owned),
        };
        let attempts = [attempt("a", 10, false, Some("it broke off")), attempt("b", 90, true, None)];
        note(&mut db, &Report { mirror: "m", file: "f", attempts: &attempts, failure: None, now: 5 })
            .unwrap();
        for now in 6..36 {
            let attempts = vec![attempt("a", 0, false, Some("it is away")); 40];
            let report = Report { mirror: "m", file: "g", attempts: &attempts, failure: Some("none"), now };
            note(&mut db, &report).unwrap();
        }
        gave(&db, "m", 3, 300).unwrap();
        gave(&db, "m", 1, 100).unwrap();
        let about =
            About { name: "m", channel: "distfiles", kind: "distfiles", names_from: Some("repos/gentoo") };
        let status = status(&db, &about, &["b", "a", "c"]).unwrap();
        assert_eq!((status.given_files, status.given_bytes, status.saved_bytes), (4, 400, 300));
        let failing = SourceStatus {
            url: "a".to_owned(),
            bytes: 10,
            failures: 1201,
            failed: Some(35),
            error: Some("it is away".to_owned()),
            ..SourceStatus::default()
        };
        let working = SourceStatus {
            url: "b".to_owned(),
            files: 1,
            bytes: 90,
            worked: Some(5),
            ..SourceStatus::default()
        };
        let unknown = SourceStatus { url: "c".to_owned(), ..SourceStatus::default() };
        assert_eq!(status.sources, [working, failing, unknown]);
        let event = |source: Option<&str>, text: &str| Event {
            time: 35,
            file: "g".to_owned(),
            source: source.map(str::to_owned),
            text: text.to_owned(),
        };
        assert_eq!(status.events[..2], [event(None, "none"), event(Some("a"), "it is away")]);
        assert_eq!(status.events.len() as u64, EVENTS_SHOWN);
        let count: u64 = db.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap();
        assert_eq!(count, EVENTS_MAX);
    }
}
