//! The server: it keeps the log and the store of one realm, serves both, and accepts publications.
//!
//! Everything that decides whether something is right is in the libraries below; here are the sockets, the files,
//! the clock and the command line.

mod args;
mod bundles;
mod child;
mod commands;
mod config;
mod data_dir;
mod durable;
mod export;
mod hosts;
mod http;
mod import;
mod mirrors;
mod priority;
mod publishing;
mod realm;
mod retention;
mod see_through;
mod tokens;
mod views;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use smart_sync_sync::confined;

use crate::args::{Cli, LogFormat};

/// Exit codes that mean something to scripts; the others are 0 and 1.
mod exit {
    pub(crate) const DENIED: u8 = 3;
    pub(crate) const ARGUMENTS: u8 = 4;
    pub(crate) const NETWORK: u8 = 5;
    pub(crate) const CONFIGURATION: u8 = 6;
    pub(crate) const REFUSED: u8 = 7;
}

/// The first argument of a process that the server starts for what must not run in its own: it is no command.
const CONFINED: &str = "-confined";

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == CONFINED) {
        return confined::serve(words);
    }
    smart_sync_malloc::bound_heaps(std::thread::available_parallelism().map_or(1, NonZeroUsize::get));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    start_logging(cli.log_format);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report(&anyhow::Error::new(error).context("starting threads")),
    };
    match runtime.block_on(commands::run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

/// Help and version are answers; everything else that clap says is about wrong arguments.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to be done when standard error cannot be written.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::ARGUMENTS),
    }
}

fn start_logging(format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("SMART_SYNC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logging.with_target(false).init(),
        LogFormat::Json => logging.json().init(),
    }
}

fn report(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    // Nothing is left to be done when standard error cannot be written.
    let _ = writeln!(std::io::stderr(), "[smart-sync-server ERROR] {error:#}");
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<commands::Failure>() {
            return error.exit_code();
        }
        if cause.is::<toml::de::Error>() {
            return exit::CONFIGURATION;
        }
        if cause.is::<reqwest::Error>() {
            return exit::NETWORK;
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::PermissionDenied
        {
            return exit::DENIED;
        }
    }
    1
}
