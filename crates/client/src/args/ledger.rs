//! Arguments of `ledger`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is asked of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum LedgerCommand {
    /// List every path that something was placed at, by whom, and what stood there before.
    List(OwnerArgs),
    /// List what differs from what was placed; exit status 11 if something does.
    Verify(OwnerArgs),
    /// Take an overlay away: give back what stood everywhere before; shows what, and does it with --yes.
    Remove(RemoveArgs),
}

/// Arguments of `ledger list` and `ledger verify`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct OwnerArgs {
    /// Only what this target placed.
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,
}

/// Arguments of `ledger remove`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RemoveArgs {
    /// The target.
    #[arg(long, value_name = "DIR")]
    pub target: PathBuf,

    /// Do it.
    #[arg(long)]
    pub yes: bool,
}
