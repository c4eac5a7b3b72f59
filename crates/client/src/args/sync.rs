//! Arguments of the sync itself, and of saying which tree is meant.

use std::path::PathBuf;

use clap::Args;
use smart_sync_sync::name::{Channel, RefQuery};
use smart_sync_sync::time::UnixTime;

use crate::config::{Span, TargetKind};
use crate::github::Address;
use crate::prefer::Prefer;
use crate::reference;
use crate::server_url::ServerUrl;
use crate::watch::windows::Window;

/// Which tree of a realm: a channel, a ref of it, and who is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Which tree")]
pub struct ChannelArgs {
    /// The branch, tag or commit to follow; with @DATE, what it was then [default: that of the target in the configuration, else main].
    ///
    /// A name is looked up as a branch, then as a tag; branch:NAME, tag:NAME and commit:ID say which. A commit is named
    /// by its 40 digits, and is in a channel if it was published by that name. A date such as @2026-11-01 (the end of
    /// that day, UTC) or @2026-11-01T12:00Z asks what the ref was at that time.
    #[arg(long = "ref", value_name = "REF[@DATE]", value_parser = reference::parse)]
    pub reference: Option<RefQuery>,

    /// What the ref was at a time, as @DATE behind it says.
    #[arg(long, value_name = "DATE", value_parser = reference::parse_time)]
    pub at: Option<UnixTime>,

    /// The channel, such as repos/nixos.
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<Channel>,

    /// A server of the channel, or the directory of an export; repeat it to name mirrors.
    #[arg(long = "server", value_name = "URL|DIR", value_parser = ServerUrl::typed)]
    pub servers: Vec<ServerUrl>,

    /// How old the realm's word may be that this is the newest version, such as 30d [default: what the configuration
    /// or the realm's root document says].
    ///
    /// For a copy that is meant to be old, such as a disk that was carried here. What it holds is verified as always;
    /// only that it may be out of date is accepted.
    #[arg(long, value_name = "AGE")]
    pub max_age: Option<Span>,
}

/// Which tree: where it comes from and which ref of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Which tree")]
pub struct TreeArgs {
    /// One of a realm.
    #[command(flatten)]
    pub of_realm: ChannelArgs,

    /// A repository behind GitHub's REST API instead of a smart-sync server.
    ///
    /// github:OWNER/REPO, or the address of the repository in any API of that form, such as
    /// https://git.example.org/api/v3/repos/OWNER/REPO. Any commit of it can be followed, and its first digits are
    /// enough.
    #[expect(rustdoc::bare_urls, reason = "the text is shown on a terminal")]
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["channel", "servers"])]
    pub source: Option<Address>,
}

/// Arguments of `watch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct WatchArgs {
    /// Which tree.
    #[command(flatten)]
    pub tree: TreeArgs,

    /// Watch this target alone [default: all targets of the configuration].
    #[arg(long, value_name = "DIR", help_heading = "What to do")]
    pub target: Option<PathBuf>,

    /// How often to ask servers that have not told of anything, such as 15m [default: 1h].
    #[arg(long, value_name = "TIME", help_heading = "What to do")]
    pub every: Option<Span>,

    /// The longest wait after something was published, so that not all hosts ask at once [default: 10s].
    #[arg(long, value_name = "TIME", help_heading = "What to do")]
    pub jitter: Option<Span>,

    /// Change targets only at these times, such as `02:00-05:00` or `Mon-Fri 22:00-04:00`; repeat it to name several.
    #[arg(long = "window", value_name = "WHEN", help_heading = "What to do")]
    pub windows: Vec<Window>,
}

/// Arguments of the sync.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line; settings make enums of them"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct SyncArgs {
    /// Which tree.
    #[command(flatten)]
    pub tree: TreeArgs,

    /// The directory to bring up to date.
    #[arg(long, value_name = "DIR", help_heading = "What to do")]
    pub target: Option<PathBuf>,

    /// A git repository of this host to look for contents in before they are fetched; repeat it to name several.
    ///
    /// What it has is verified like what a server sends. The other targets of the configuration are looked at anyway.
    #[arg(long, value_name = "DIR", help_heading = "Which tree")]
    pub bytes_from: Vec<PathBuf>,

    /// Whether the fewest bytes count, or the shortest time: archives that are slow to rebuild are fetched whole then.
    ///
    /// Without it, an archive is rebuilt unless that takes much longer than a slow link would.
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "What to do")]
    pub prefer: Option<Prefer>,

    /// Neither run the commands that the configuration has for after an update, nor its checks.
    #[arg(long, help_heading = "What to do")]
    pub skip_rebuild: bool,

    /// Try a version again that was found not to be healthy here.
    #[arg(long, help_heading = "What to do")]
    pub retry_failed: bool,

    /// How the target is kept, the first time it is synced; decided by its file system otherwise.
    #[arg(long, value_enum, value_name = "KIND", help_heading = "What to do")]
    pub kind: Option<TargetKind>,

    /// Compare and, where needed, fetch every file again, as if nothing was known about the target.
    ///
    /// Local changes are kept in the backup and excluded paths are left alone, as always.
    #[arg(long, help_heading = "What to do", conflicts_with_all = ["check_only", "skip_validation"])]
    pub force_full: bool,

    /// Show what would change, and change nothing.
    #[arg(long, help_heading = "What to do", conflicts_with = "check_only")]
    pub dry_run: bool,

    /// Ask only whether there is an update: exit status 10 if so, 0 if not.
    #[arg(long, help_heading = "What to do")]
    pub check_only: bool,

    /// Trust size and time of local files instead of reading some of them again.
    ///
    /// What is downloaded is verified always.
    #[arg(long, help_heading = "What to do")]
    pub skip_validation: bool,
}
