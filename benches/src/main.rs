//! The comparison with other programs: the same work on the same data in the same run.
//!
//! Each workload runs our programs and their peers, checks that all of them produced the same result, and reports
//! wall time, CPU time, peak memory and bytes on the wire. A figure stands in `docs/performance.md` only because this
//! program measured it: it writes the sections that its markers enclose, and nothing else.

mod bench;
mod daemon;
mod data;
mod followers;
mod limit;
mod loader;
mod machine;
mod measure;
mod ours;
mod peers;
mod report;
mod update;
mod volume;
mod workloads;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use bench::{Bench, Scale, Scope};
use data::Cache;
use workloads::Workload;

/// Compares smart-sync with other programs on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommands>,
    /// A workload to run; all of them when none is named.
    #[arg(long = "workload", value_enum)]
    workloads: Vec<Workload>,
    /// Makes everything small, to see that it works. The report is printed and not written.
    #[arg(long)]
    quick: bool,
    /// How often each command is measured: three times, or once with `--quick`, unless this says otherwise.
    #[arg(long)]
    runs: Option<usize>,
    /// Does one part of a full run. The report is printed and not written.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Where data is kept between runs, and scratch files during one.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// Where published packages and limits are kept, for all checkouts: `smart-sync-benches` in the user's cache
    /// directory unless this says otherwise.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// The report.
    #[arg(long, default_value = "docs/performance.md")]
    report: PathBuf,
}

/// A part of a full run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// Measures the other programs alone.
    Peers,
    /// Fetches the data and computes the limits of updates, which takes hours the first time, and measures nothing.
    Limits,
    /// Counts bytes without what makes times comparable, which takes long itself.
    Bytes,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Runs one command and writes what it used to a file, for the driver itself.
    #[command(hide = true)]
    Measured {
        usage: PathBuf,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Subcommands::Measured { usage, program, arguments }) = arguments.command {
        return measure::run_measured(&usage, &program, &arguments);
    }
    let workloads = if arguments.workloads.is_empty() { Workload::all() } else { arguments.workloads };
    let scale = if arguments.quick { Scale::QUICK } else { Scale::FULL };
    let runs = arguments.runs.unwrap_or(if arguments.quick { 1 } else { 3 });
    if runs == 0 {
        bail!("--runs must be at least 1");
    }
    let cache = Cache::new(&arguments.cache.map_or_else(cache_directory, Ok)?)?;
    let scope = match arguments.only {
        Some(Only::Limits) => Scope::Limits,
        Some(Only::Peers) => Scope::Peers,
        Some(Only::Bytes) | None => Scope::Everything,
    };
    let timed = !arguments.quick && arguments.only != Some(Only::Bytes);
    let bench = Bench::new(&arguments.directory, cache, scale, runs, scope, timed)?;
    let header = machine::describe(&bench)?;
    let mut sections = vec![("machine".to_owned(), header)];
    let mut failures = Vec::new();
    for workload in workloads {
        say(&format!("== {}", workload.name()));
        match workload.run(&bench) {
            Ok(section) => {
                let text = section.to_markdown(&machine::stamp());
                say(&text);
                sections.push((workload.name().to_owned(), text));
            }
            Err(error) => {
                say(&format!("{} failed: {error:#}", workload.name()));
                failures.push(workload.name());
            }
        }
    }
    if arguments.quick || arguments.only.is_some() {
        say("the report was not written: it holds only full runs of every program");
    } else {
        let old = fs::read_to_string(&arguments.report)
            .with_context(|| format!("reading {}", arguments.report.display()))?;
        let new = report::replace_sections(&old, &sections)?;
        fs::write(&arguments.report, new)
            .with_context(|| format!("writing {}", arguments.report.display()))?;
        say(&format!("written: {}", arguments.report.display()));
    }
    if !failures.is_empty() {
        bail!("failed: {}", failures.join(", "));
    }
    Ok(())
}

fn cache_directory() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(caches.context("no HOME: --cache must say where to keep packages")?.join("smart-sync-benches"))
}

/// Tells whoever watches what goes on.
fn say(text: &str) {
    // Nobody watching is no reason to stop measuring.
    let _ = writeln!(io::stderr(), "{text}");
}
