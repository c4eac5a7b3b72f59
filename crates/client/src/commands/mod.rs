//! The subcommands, one module each.

pub(crate) mod contents;
pub mod diff;
pub mod documents;
pub mod kernel;
pub mod key;
pub mod ledger;
pub mod log;
pub mod packages;
pub mod patched;
pub mod publish;
pub mod rebuild;
pub mod root;
pub mod tree;
pub mod trust;
pub mod update;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use smart_sync_store::manifest::path::Shown;

use crate::args::sync::ChannelArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Output, count};
use crate::realm::resolve::{Realm, RealmOptions};
use crate::realm::trust_store::TrustStore;
use crate::settings::{self, ChannelSettings};
use crate::sync::Surroundings;
use crate::token::Tokens;

/// Lines that were asked for, each made safe to be shown on a terminal.
#[derive(Debug, Default)]
pub(crate) struct Listing(String);

impl Listing {
    pub(crate) fn line(&mut self, line: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{}", Shown(line.as_bytes()));
    }

    pub(crate) fn print(self, output: &Output) -> Result<(), Failure> {
        print(output, self.0.as_bytes())
    }
}

/// A text of files as a terminal may be given it; as it is where a program reads it and no terminal acts on it.
fn for_people(text: &str) -> String {
    if !io::stdout().is_terminal() {
        return text.to_owned();
    }
    let lines = text.lines().map(|line| {
        let fields: Vec<String> = line.split('\t').map(|field| Shown(field.as_bytes()).to_string()).collect();
        fields.join("\t") + "\n"
    });
    lines.collect()
}

/// Writes what was asked for. A reader that has seen enough is no failure.
fn print(output: &Output, bytes: &[u8]) -> Result<(), Failure> {
    match output.data(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::from(error).context("writing the output")),
    }
}

/// Opens the realm that a command is about.
fn open_realm(
    args: &ChannelArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<(Realm, ChannelSettings), Failure> {
    let settings = settings::channel_of(args, config, &Tokens::of_servers()?)?;
    let options = RealmOptions {
        origin: settings.realm.clone(),
        servers: settings.servers.clone(),
        token: settings.token.clone(),
        max_age: settings.max_age,
        network: surroundings.network,
    };
    Ok((Realm::open(&TrustStore::new(surroundings.state_dir), &options)?, settings))
}

/// Waits for something that may be dropped at any point, unless the run is asked to end.
fn wait_for<T>(
    surroundings: &Surroundings<'_>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    surroundings.runtime.block_on(surroundings.interrupt.guard(work))
}

/// A span of time as people say it, in its largest unit.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => count(seconds, "second", "seconds"),
        120..7200 => count(seconds / 60, "minute", "minutes"),
        7200..172_800 => count(seconds / 3600, "hour", "hours"),
        _ => count(seconds / 86_400, "day", "days"),
    }
}

/// A plan was shown and nothing was done.
fn only_shown(output: &Output) -> Exit {
    output.info("nothing was changed; add --yes to do it");
    Exit::Success
}
