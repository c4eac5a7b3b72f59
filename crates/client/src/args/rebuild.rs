//! Arguments of `rebuild`.

use std::path::PathBuf;

use clap::Args;

use crate::after::trigger::nixos::Action;

/// Arguments of `rebuild`: of which target, and what is done otherwise than it is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RebuildArgs {
    /// What to do with a NixOS system [default: as configured].
    #[arg(value_enum, value_name = "ACTION")]
    pub action: Option<Action>,

    /// The target [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,

    /// The flake with the system [default: as configured].
    #[arg(long, value_name = "FLAKE")]
    pub flake: Option<String>,

    /// The system in the flake [default: as configured, else the one with the name of this host].
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Show where errors come from.
    #[arg(long)]
    pub show_trace: bool,

    /// Let the flake look at this host.
    #[arg(long)]
    pub impure: bool,
}
