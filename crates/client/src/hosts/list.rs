//! `hosts`: what hosts have reported to a server.
//!
//! It is what hosts say of themselves and what the server says of them: it is shown, and nothing is done because of it.

use std::sync::Arc;

use serde::Serialize;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::wire::report::{LIST_BYTES_MAX, ReportList, Reported};

use super::report::server;
use crate::args::hosts::HostsArgs;
use crate::commands::{Listing, span};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, count};
use crate::realm::remote::{OTHER_ANSWER_HINT, Remote, Traffic};
use crate::sync::Surroundings;

/// The digits of a manifest that are shown.
const MANIFEST_DIGITS: usize = 8;
const TITLES: [&str; 8] =
    ["HOST", "TARGET", "CHANNEL", "REF", "VERSION", "HEALTH", "LOCAL CHANGES", "LAST SEEN"];

/// A report, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "reported")]
struct ReportedEvent<'a> {
    #[serde(flatten)]
    reported: &'a Reported,
    behind: bool,
    /// How long ago it came, by the server's time, in seconds.
    age: u64,
}

/// Lists what hosts have reported.
pub fn run(args: &HostsArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let own = config.report.as_ref();
    let named = args.server.as_ref().or_else(|| own.and_then(|report| report.server.as_ref()));
    let (server, token) = server(named, own.and_then(|report| report.realm.as_ref()), surroundings)?;
    let remote = Remote::new(server, token, surroundings.network, Arc::new(Traffic::default()))?;
    let asking = async { remote.get("v1/hosts", LIST_BYTES_MAX).await.map_err(Failure::from) };
    let answer = surroundings.runtime.block_on(surroundings.interrupt.guard(asking))?;
    let list: ReportList = serde_json::from_slice(&answer).map_err(|error| {
        Failure::new(Exit::Network, error)
            .context(format!("{} did not answer with a list of hosts", remote.base()))
            .hint(OTHER_ANSWER_HINT)
    })?;
    let output = surroundings.output;
    if output.format() == Format::Json {
        for reported in &list.reports {
            let age = list.now.saturating_sub(reported.received);
            output.event(&ReportedEvent { reported, behind: reported.is_behind(), age });
        }
        return Ok(Exit::Success);
    }
    if list.reports.is_empty() {
        output.info("no host has reported yet");
    }
    let rows: Vec<_> = list.reports.iter().map(|reported| row(reported, list.now)).collect();
    let mut lines = Listing::default();
    for line in table(&rows) {
        lines.line(&line);
    }
    lines.print(output)?;
    let behind = list.reports.iter().filter(|reported| reported.is_behind()).count();
    if behind > 0 {
        output.info(&format!("{} behind", count(behind as u64, "target is", "targets are")));
    }
    Ok(Exit::Success)
}

fn row(reported: &Reported, now: u64) -> [String; 8] {
    let report = &reported.report;
    let digits = report.manifest.as_deref().unwrap_or_default().rsplit(':').next().unwrap_or_default();
    let digits: String = digits.chars().take(MANIFEST_DIGITS).collect();
    let mut version = match (report.seq, digits.is_empty()) {
        (_, true) => "-".to_owned(),
        (0, false) => digits,
        (seq, false) => format!("{seq} {digits}"),
    };
    if let Some(newest) = reported.newest.as_ref().filter(|_| reported.is_behind()) {
        version = format!("{version}, behind {}", newest.seq);
    }
    let health = match report.exit {
        // These are what the health says, or say nothing of it.
        0 | 8..=12 => report.health.words().to_owned(),
        status => format!("{}, failed with {status}", report.health.words()),
    };
    [
        reported.host.to_string(),
        report.target.clone(),
        if report.channel.is_empty() { report.origin.clone() } else { report.channel.clone() },
        report.r#ref.clone(),
        version,
        health,
        report.drift.map_or_else(|| "not counted".to_owned(), |drift| drift.to_string()),
        format!("{} ago", span(now.saturating_sub(reported.received))),
    ]
}

/// Lines of columns; nothing but what a terminal may show has a width that is known.
fn table(rows: &[[String; 8]]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let shown = |row: &[String; 8]| row.each_ref().map(|cell| Shown(cell.as_bytes()).to_string());
    let rows: Vec<_> = [TITLES.map(str::to_owned)].iter().chain(rows).map(shown).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 8] = std::array::from_fn(width);
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_sync::wire::report::{Health, Newest, Report};

    fn reported(host: &str, seq: u64, health: Health) -> Reported {
        let manifest = |byte: &str| Some(format!("blake3:{}", byte.repeat(32)));
        Reported {
            host: host.parse().unwrap(),
            received: 1000,
            newest: Some(Newest { seq: 7, manifest: manifest("07") }),
            report: Report {
                target: "/srv/site".to_owned(),
                origin: "lab.example.org".to_owned(),
                channel: "repos/site".to_owned(),
                r#ref: "branch:main".to_owned(),
                seq,
                manifest: manifest(&format!("{seq:02}")),
                commit: None,
                applied: 900,
                health,
                drift: Some(0),
                exit: 0,
            },
        }
    }

    #[test]
    fn hosts_are_a_table_in_which_those_that_are_behind_stand_out() {
        let mut away = reported("away", 7, Health::Healthy);
        (away.report.exit, away.report.drift, away.received) = (5, None, 0);
        let mut hostile = reported("odd", 0, Health::NothingApplied);
        (hostile.report.target, hostile.report.manifest) = ("/\u{1b}[2J".to_owned(), None);
        let rows =
            [reported("web1", 7, Health::Healthy), reported("web2", 6, Health::RolledBack), away, hostile];
        let rows: Vec<_> = rows.iter().map(|reported| row(reported, 1100)).collect();
        insta::assert_snapshot!(table(&rows).join("\n"), @r"
        HOST  TARGET      CHANNEL     REF          VERSION               HEALTH                  LOCAL CHANGES  LAST SEEN
        web1  /srv/site   repos/site  branch:main  7 07070707            healthy                 0              100 seconds ago
        web2  /srv/site   repos/site  branch:main  6 06060606, behind 7  rolled back             0              100 seconds ago
        away  /srv/site   repos/site  branch:main  7 07070707            healthy, failed with 5  not counted    18 minutes ago
        odd   /\u{1b}[2J  repos/site  branch:main  -, behind 7           nothing applied         0              100 seconds ago
        ");
        assert!(table(&[]).is_empty());
    }
}
