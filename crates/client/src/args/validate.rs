//! Arguments of `validate`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `validate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ValidateArgs {
    /// Leave out services, tools, the network, and what takes long.
    #[arg(long)]
    pub quick: bool,

    /// Show what can be repaired, and repair it with --yes.
    #[arg(long)]
    pub fix: bool,

    /// Repair it.
    #[arg(long, requires = "fix")]
    pub yes: bool,

    /// Look at the tree of this target alone, beside the host [default: all targets of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,
}
