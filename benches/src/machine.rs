//! What a run was measured on, and with which versions.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::bench::Bench;

/// The machine and the versions of everything that is compared.
pub(crate) fn describe(bench: &Bench) -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let processor = value_of(&cpuinfo, "model name").unwrap_or("unknown");
    let cores = std::thread::available_parallelism()?;
    let memory = value_of(&meminfo, "MemTotal").unwrap_or("unknown");
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
    let file_system = first_line(&[
        "findmnt",
        "--noheadings",
        "--output=FSTYPE",
        "--target",
        &bench.environment.root().to_string_lossy(),
    ]);
    let mut lines = vec![
        format!("- machine: {processor}, {cores} cores, {memory} of memory"),
        format!(
            "- system: {}, Linux {}, data on {file_system}",
            system.trim_matches('"'),
            first_line(&["uname", "-r"])
        ),
    ];
    for command in VERSIONS {
        let line = first_line(command);
        let name = if command[0] == "dpkg-query" {
            line.split(' ').next().unwrap_or(command[0])
        } else {
            command[0]
        };
        lines.push(format!("- {name}: {}", line.trim_start_matches(name).trim_start()));
    }
    Ok(lines.join("\n"))
}

/// When a section was measured, and of which commit.
pub(crate) fn stamp() -> String {
    let commit = first_line(&["git", "describe", "--always", "--dirty"]);
    format!("Measured on {} at commit {commit}.", jiff::Timestamp::now().strftime("%Y-%m-%d"))
}

const VERSIONS: &[&[&str]] = &[
    &["rustc", "--version"],
    &["rsync", "--version"],
    &["casync", "--version"],
    &["restic", "version"],
    &["dpkg-query", "--show", "ostree"],
    &["git", "--version"],
    &["dpkg-query", "--show", "zsync"],
    &["dpkg-query", "--show", "borgbackup"],
    &["dpkg-query", "--show", "xdelta3"],
    &["dpkg-query", "--show", "bsdiff"],
    &["dpkg-query", "--show", "zstd"],
    &["dpkg-query", "--show", "nginx"],
];

fn first_line(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn value_of<'text>(text: &'text str, key: &str) -> Option<&'text str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(found, _)| found.trim() == key).map(|(_, value)| value.trim())
}
