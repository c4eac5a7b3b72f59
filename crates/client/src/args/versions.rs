//! Arguments of the commands that are about the versions of a target.

use std::path::PathBuf;

use clap::Args;
use smart_sync_sync::name::Channel;

use crate::config::Keep;

/// Arguments of commands that take a target and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct TargetArgs {
    /// The target [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,
}

/// Arguments of `confirm`: what, and over which connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ConfirmArgs {
    /// The target [default: all of the configuration, and all profiles].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,

    /// All targets of this profile together.
    #[arg(long, value_name = "PROFILE", conflicts_with = "target")]
    pub profile: Option<Channel>,

    /// Confirm also over the connection over which the update was applied, which says nothing of whether the host can be
    /// reached.
    #[arg(long)]
    pub same_connection: bool,
}

/// Arguments of `recover`: what is settled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RecoverArgs {
    /// The target [default: all of the configuration, and all profiles].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,

    /// All targets of this profile together.
    #[arg(long, value_name = "PROFILE", conflicts_with = "target")]
    pub profile: Option<Channel>,
}

/// Arguments of commands that take a target, or the targets of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ListArgs {
    /// The target [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,

    /// All targets of this profile together.
    #[arg(long, value_name = "PROFILE", conflicts_with = "target")]
    pub profile: Option<Channel>,
}

/// Arguments of `rollback`: which version to go to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RollbackArgs {
    /// The number of the version, as `generations` lists it [default: the last one before the current one that was
    /// confirmed, else the last one that was not found unhealthy; of a profile, the set before].
    #[arg(value_name = "GENERATION")]
    pub generation: Option<u64>,

    /// The target [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,

    /// Say what would be done and run, and change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Go there without the commands that are configured for the target.
    #[arg(long)]
    pub skip_rebuild: bool,

    /// All targets of this profile together; GENERATION is the number of a set then.
    #[arg(long, value_name = "PROFILE", conflicts_with = "target")]
    pub profile: Option<Channel>,
}

/// Arguments of `pin` and `unpin`: which version.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NumberArgs {
    /// The number of the version, as `generations` lists it.
    #[arg(value_name = "GENERATION")]
    pub generation: u64,

    /// The target [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,
}

/// Arguments of `prune`: which versions go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct PruneArgs {
    /// Keep this many of the newest [default: as configured, else 10]. The current one and pinned ones stay anyway.
    #[arg(long, value_name = "NUMBER")]
    pub keep: Option<Keep>,

    /// Remove them.
    #[arg(long)]
    pub yes: bool,

    /// The target [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,
}
