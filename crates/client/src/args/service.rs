//! Arguments of `service`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::Span;

/// Have the host follow its channels by itself, from its start on.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ServiceCommand {
    /// Install what watches or syncs the targets, and what settles at boot what was interrupted.
    ///
    /// As units of systemd, or as service scripts of OpenRC; on NixOS, where units are made by the configuration, a module
    /// is printed instead. It may be run again, for instance when the targets or the place of the program have changed.
    Install(InstallArgs),
    /// Stop it, and remove every file of it.
    Remove(ScopeArgs),
    /// Say what is installed, and how it is.
    Status(ScopeArgs),
}

/// Whose service manager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
pub struct ScopeArgs {
    /// As a service of the user who runs this, in ~/.config/systemd/user, instead of the machine's.
    #[arg(long)]
    pub user: bool,

    /// The service manager [default: the one of this host].
    #[arg(long, value_enum, value_name = "NAME")]
    pub init: Option<Init>,
}

/// A service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Init {
    /// systemd.
    Systemd,
    /// systemd as NixOS configures it.
    Nixos,
    /// OpenRC, as on Gentoo.
    Openrc,
}

/// Arguments of `service install`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct InstallArgs {
    /// Whose service manager.
    #[command(flatten)]
    pub scope: ScopeArgs,

    /// Sync so often, such as 15m, instead of watching.
    #[arg(long, value_name = "TIME", conflicts_with = "watch")]
    pub every: Option<Span>,

    /// Watch, and sync whenever something was published; so it is where nothing else is said.
    #[arg(long)]
    pub watch: bool,

    /// This target alone [default: all targets of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,

    /// Show what would be written and run, and change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Print the units, scripts or the module, and change nothing.
    #[arg(long, conflicts_with = "dry_run")]
    pub print: bool,
}
