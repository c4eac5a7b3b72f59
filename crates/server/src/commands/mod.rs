//! The subcommands.

mod bundles;
mod check;
mod clock;
mod cost;
mod export;
mod gc;
mod hosts;
mod import_backend;
mod init;
mod log;
mod mirror;
mod publish_local;
mod see_through;
mod serve;
mod token;

use std::io::Write as _;
use std::path::PathBuf;

use smart_sync_sync::openpgp::KeyRing;

use crate::args::{Command, LogCommand};
use crate::exit;

/// A failure whose kind matters to whoever called the program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something was found that is not as it should be.
    #[error("{0}")]
    Damaged(String),
    /// Something that came from outside was refused.
    #[error("{0}")]
    Refused(String),
    /// The arguments do not make sense.
    #[error("{0}")]
    Arguments(String),
    /// What an upstream has waits until a person has looked at it.
    #[error("{0}")]
    Held(String),
    /// Upstreams did not give what they were asked for.
    #[error("{0}")]
    Upstream(String),
}

impl Failure {
    /// The exit code.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Damaged(_) => 1,
            Self::Refused(_) | Self::Held(_) => exit::REFUSED,
            Self::Arguments(_) => exit::ARGUMENTS,
            Self::Upstream(_) => exit::NETWORK,
        }
    }
}

/// Does what the command line says.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Serve(args) => serve::run(&args).await,
        Command::Clock(args) => clock::run(&args).await,
        Command::PublishLocal(args) => publish_local::run(args).await,
        Command::ImportBackend(args) => import_backend::run(args).await,
        Command::Gc(args) => gc::run(&args).await,
        Command::Check(args) => check::run(&args).await,
        Command::Cost(args) => cost::run(&args).await,
        Command::Bundles(command) => bundles::run(command).await,
        Command::SeeThrough(args) => see_through::run(&args).await,
        Command::Export(args) => export::run(&args).await,
        Command::Hosts(command) => hosts::run(&command),
        Command::Mirror(command) => mirror::run(command).await,
        Command::Token(command) => token::run(command),
        Command::Log(LogCommand::Audit { data }) => log::run(&data),
    }
}

/// The keys that may have signed what is published, where some are named.
fn key_ring(paths: &[PathBuf]) -> Result<Option<KeyRing>, Failure> {
    if paths.is_empty() {
        return Ok(None);
    }
    let ring = KeyRing::open(paths);
    ring.map(Some).map_err(|error| Failure::Arguments(format!("{error}\nhint: {}", error.hint())))
}

/// Prints a line on standard output, for people and pipes.
fn print(line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
