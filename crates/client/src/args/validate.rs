//! Arguments of `validate` and `update`.

use std::path::PathBuf;

use clap::Args;

use super::sync::{SyncArgs, TreeArgs};
use crate::after::trigger::nixos::Action;

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

/// Arguments of `update`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct UpdateArgs {
    /// Which tree.
    #[command(flatten)]
    pub tree: TreeArgs,

    /// The directory to bring up to date.
    #[arg(long, value_name = "DIR", help_heading = "What to do")]
    pub target: Option<PathBuf>,

    /// Ask only whether there is an update: exit status 10 if so, 0 if not. Nothing is validated.
    #[arg(long, help_heading = "What to do")]
    pub check_only: bool,

    /// Update without asking first whether the host is fit for it.
    #[arg(long, help_heading = "What to do")]
    pub skip_validation: bool,

    /// Neither run the commands that the configuration has for after an update, nor its checks.
    #[arg(long, help_heading = "What to do", conflicts_with = "rebuild_action")]
    pub skip_rebuild: bool,

    /// How far commands that rebuild NixOS go, in place of what the configuration says.
    #[arg(long, value_enum, value_name = "ACTION", help_heading = "What to do")]
    pub rebuild_action: Option<Action>,

    /// Compare and, where needed, fetch every file again, as if nothing was known about the target.
    #[arg(long, help_heading = "What to do", conflicts_with = "check_only")]
    pub force_full: bool,

    /// Try a version again that was found not to be healthy here.
    #[arg(long, help_heading = "What to do")]
    pub retry_failed: bool,

    /// Go on when a check fails, without asking.
    #[arg(long, help_heading = "What to do", conflicts_with = "no")]
    pub yes: bool,

    /// Stop when a check fails, without asking; so it is where there is no terminal to ask on.
    #[arg(long, help_heading = "What to do")]
    pub no: bool,
}

impl UpdateArgs {
    /// The sync that is a part of it.
    pub fn sync(&self) -> SyncArgs {
        SyncArgs {
            tree: self.tree.clone(),
            target: self.target.clone(),
            check_only: self.check_only,
            skip_rebuild: self.skip_rebuild,
            force_full: self.force_full,
            retry_failed: self.retry_failed,
            ..SyncArgs::default()
        }
    }
}
