//! OpenRC, as on Gentoo: service scripts for what runs from the start of the machine on, and a file for cron where
//! targets are synced from time to time, because OpenRC has no timers.

mod cron;
mod rc;
mod scripts;

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use smart_sync_store::manifest::path::Shown;

use super::files::{Home, Installed, PREFIX};
use super::units::{Rhythm, Service};
use crate::args::service::InstallArgs;
use crate::failure::{Exit, Failure};
use crate::output::{Output, count};
use crate::sync::Surroundings;

pub(super) use rc::RUNNING;
use rc::is_running;

const SCRIPTS: &str = "/etc/init.d";
const RUNLEVELS: &str = "/etc/runlevels";
const TABLES: &str = "/etc/cron.d";
const NAME_OF_HOST: &str = "/proc/sys/kernel/hostname";
/// The file for cron.
const TABLE: &str = "smart-sync";
/// What the lines for targets have in common.
const OF_TARGET: &str = " * root ";

/// A service, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "service")]
struct ServiceEvent<'a> {
    unit: &'a str,
    state: &'a str,
}

fn scripts_home() -> Home {
    Home {
        directory: PathBuf::from(SCRIPTS),
        is_name: |name| name.starts_with(PREFIX),
        mode: 0o755,
        links: PathBuf::from(RUNLEVELS),
        is_of_links: |_| true,
    }
}

fn tables_home() -> Home {
    Home {
        directory: PathBuf::from(TABLES),
        is_name: |name| name == TABLE,
        mode: 0o644,
        links: PathBuf::new(),
        is_of_links: |_| false,
    }
}

/// What is to be there: scripts, and files for cron.
fn files(service: &Service) -> Result<[Vec<(String, String)>; 2], Failure> {
    let recover = (scripts::RECOVER.to_owned(), scripts::recover(service));
    match service.rhythm {
        Rhythm::Watch => {
            let watch = (scripts::WATCH.to_owned(), scripts::watch(service));
            Ok([vec![recover, watch], Vec::new()])
        }
        Rhythm::Every(every) => {
            let table = cron::table(service, every, spread()).ok_or_else(|| {
                Failure::message(Exit::Arguments, "cron has no turn of this length").hint(
                    "say 1m, 2m, 3m, 4m, 5m, 6m, 10m, 12m, 15m, 20m, 30m, 1h, 2h, 3h, 4h, 6h, 8h, 12h or 24h",
                )
            })?;
            Ok([vec![recover], vec![(TABLE.to_owned(), table)]])
        }
    }
}

/// By what this host differs from others that are set up in the same way.
fn spread() -> u64 {
    // Where it has no name, it begins as another one without a name does.
    let name = std::fs::read(NAME_OF_HOST).unwrap_or_default();
    let hash = Sha256::digest(name);
    u64::from_le_bytes(*hash.first_chunk().expect("a hash is longer"))
}

/// Installs what is to run.
pub(super) fn install(
    service: &Service,
    args: &InstallArgs,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let output = surroundings.output;
    let [scripts, tables] = files(service)?;
    if args.print {
        let with_paths =
            [(SCRIPTS, &scripts), (TABLES, &tables)].into_iter().flat_map(|(directory, files)| {
                files.iter().map(move |(name, text)| format!("# {directory}/{name}\n{text}"))
            });
        output.data(with_paths.collect::<Vec<_>>().join("\n").as_bytes())?;
        return Ok(());
    }
    rc::find()?;
    if !tables.is_empty() && !Path::new(TABLES).is_dir() {
        return Err(Failure::message(Exit::MissingDependency, format!("there is no {TABLES}, and so no cron that reads it"))
            .hint("emerge sys-process/cronie, and rc-update add cronie default; or leave --every out, to be told when something is published"));
    }
    let names: Vec<&str> = scripts.iter().map(|(name, _)| name.as_str()).collect();
    let (installed, of_cron) = (Installed::find(scripts_home())?, Installed::find(tables_home())?);
    let (plan, plan_of_cron) = (installed.plan(scripts.clone())?, of_cron.plan(tables.clone())?);
    let gone: Vec<&str> = plan.removed.iter().map(String::as_str).collect();
    let stopping = rc::stopping(&gone, &installed.home, is_running());
    let starting = rc::starting(&names, &plan.restarted(), &installed.home, is_running());
    if args.dry_run {
        plan.show(output);
        plan_of_cron.show(output);
        for words in stopping.iter().chain(&starting) {
            output.info(&format!("would run {}", words.join(" ")));
        }
        output.info("nothing was changed");
        return Ok(());
    }
    rc::run(&stopping, surroundings)?;
    plan.act(output)?;
    if !tables.is_empty() || !plan_of_cron.removed.is_empty() {
        plan_of_cron.act(output)?;
    }
    rc::run(&starting, surroundings)?;
    let when = if is_running() {
        "run from now on, and when the machine starts"
    } else {
        "run when the machine starts"
    };
    let mut all: Vec<String> = names.iter().rev().map(|name| (*name).to_owned()).collect();
    if !tables.is_empty() {
        all.insert(0, format!("{TABLES}/{TABLE}"));
    }
    output.info(&format!("{} {when}", all.join(" and ")));
    Ok(())
}

/// Stops all of it, and removes every file.
pub(super) fn remove(surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let output = surroundings.output;
    let (installed, of_cron) = (Installed::find(scripts_home())?, Installed::find(tables_home())?);
    if installed.is_empty() && of_cron.is_empty() {
        output.info(&nothing());
        return Ok(());
    }
    let names: Vec<&str> = installed.names().collect();
    if let Err(failure) = rc::find() {
        // Without it, nothing runs that would have to be stopped.
        let messages = failure.in_one_line();
        output.warning(&format!("{messages}: the files are removed all the same"));
    } else {
        rc::run(&rc::stopping(&names, &installed.home, is_running()), surroundings)?;
    }
    installed.remove(output)?;
    of_cron.remove(output)
}

/// Says what is installed, and how it is.
pub(super) fn status(surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let output = surroundings.output;
    let (installed, of_cron) = (Installed::find(scripts_home())?, Installed::find(tables_home())?);
    if installed.is_empty() && of_cron.is_empty() {
        output.info(&nothing());
        return Ok(());
    }
    if !installed.is_empty() {
        rc::find()?;
    }
    for name in installed.names() {
        say(name, &rc::state(name, surroundings)?, output);
    }
    for (name, text) in of_cron.texts() {
        let lines = text.lines().filter(|line| line.contains(OF_TARGET)).count() as u64;
        let state = format!("read by cron, for {}", count(lines, "target", "targets"));
        say(&format!("{TABLES}/{name}"), &state, output);
    }
    Ok(())
}

fn say(unit: &str, state: &str, output: &Output) {
    output.info(&Shown(format!("{unit} is {state}").as_bytes()).to_string());
    output.event(&ServiceEvent { unit, state });
}

fn nothing() -> String {
    format!("no service of smart-sync is in {SCRIPTS} or {TABLES}")
}
