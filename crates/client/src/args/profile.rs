//! Arguments of the commands that are about profiles.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use smart_sync_sync::name::{Channel, RefQuery};
use smart_sync_sync::time::UnixTime;

use crate::config::Span;
use crate::reference;
use crate::server_url::ServerUrl;

/// Which profile: its channel, a ref of it, and who is asked.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Which profile")]
pub struct ProfileArgs {
    /// The channel of the profile, such as profiles/hardened.
    #[arg(value_name = "PROFILE")]
    pub profile: Channel,

    /// The branch, tag or commit of the profile [default: that of the configuration, else main].
    #[arg(long = "ref", value_name = "REF", value_parser = reference::parse)]
    pub reference: Option<RefQuery>,

    /// Everything as it was at a time: the profile, those that it builds on, and every tree that they name.
    ///
    /// A date such as 2026-11-01 is the end of that day, UTC; a time is written as 2026-11-01T12:00Z.
    #[arg(long, value_name = "DATE", value_parser = reference::parse_time)]
    pub at: Option<UnixTime>,

    /// A server of the profile's realm, or the directory of an export; repeat it to name mirrors.
    #[arg(long = "server", value_name = "URL|DIR", value_parser = ServerUrl::typed)]
    pub servers: Vec<ServerUrl>,

    /// How old the realm's word may be that this is the newest version, such as 30d.
    #[arg(long, value_name = "AGE")]
    pub max_age: Option<Span>,
}

/// Arguments of `pull`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line; settings make enums of them"
)]
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PullArgs {
    /// Which profile.
    #[command(flatten)]
    pub which: ProfileArgs,

    /// A directory that the profile may place targets in, beside those that the configuration names; repeat it.
    #[arg(long, value_name = "DIR", help_heading = "What to do")]
    pub under: Vec<PathBuf>,

    /// Neither run commands nor checks afterwards.
    #[arg(long, help_heading = "What to do")]
    pub skip_rebuild: bool,

    /// Try versions again that were found not to be healthy here.
    #[arg(long, help_heading = "What to do")]
    pub retry_failed: bool,

    /// Show what would change, and change nothing.
    #[arg(long, help_heading = "What to do", conflicts_with = "check_only")]
    pub dry_run: bool,

    /// Ask only whether there is an update: exit status 10 if so, 0 if not.
    #[arg(long, help_heading = "What to do")]
    pub check_only: bool,
}

impl PullArgs {
    /// A pull of a profile, with nothing else said.
    pub const fn of(profile: Channel) -> Self {
        let servers = Vec::new();
        Self {
            which: ProfileArgs { profile, reference: None, at: None, servers, max_age: None },
            under: Vec::new(),
            skip_rebuild: false,
            retry_failed: false,
            dry_run: false,
            check_only: false,
        }
    }
}

/// Looking at profiles.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ProfileCommand {
    /// Print what a profile comes to on this host, and where each value stands.
    Show(ProfileArgs),
}
