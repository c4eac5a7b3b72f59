//! Arguments of the commands that look and change nothing.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use smart_sync_sync::name::{Channel, RefQuery};

use super::sync::ChannelArgs;
use crate::config::Span;
use crate::reference;
use crate::server_url::ServerUrl;

/// Arguments of `status`: what a target has, and whether it was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// The target [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,

    /// Report what was found to the server that the configuration names in `[report]`.
    #[arg(long)]
    pub report: bool,
}

/// Arguments of `diff`: what differs between two refs.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DiffArgs {
    /// The ref to compare from; with @DATE, what it was then.
    #[arg(value_name = "FROM", value_parser = reference::parse)]
    pub from: RefQuery,

    /// The ref to compare with; @DATE as well.
    #[arg(value_name = "TO", value_parser = reference::parse)]
    pub to: RefQuery,

    /// The channel, such as repos/nixos.
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<Channel>,

    /// A server of the channel, or the directory of an export; repeat it to name mirrors.
    #[arg(long = "server", value_name = "URL|DIR", value_parser = ServerUrl::typed)]
    pub servers: Vec<ServerUrl>,

    /// How old the realm's word may be that this is the newest version, such as 30d.
    #[arg(long, value_name = "AGE")]
    pub max_age: Option<Span>,

    /// List the paths that differ, not how their contents do.
    #[arg(long)]
    pub names_only: bool,

    /// FROM and TO are numbers of versions of a target that are kept on this host.
    #[arg(long, conflicts_with_all = ["channel", "servers", "max_age"])]
    pub generations: bool,

    /// The target whose versions they are [default: that of the configuration].
    #[arg(long, value_name = "DIR", requires = "generations")]
    pub target: Option<PathBuf>,
}

/// Arguments of `log`: the publications of a ref, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct LogArgs {
    /// Which tree.
    #[command(flatten)]
    pub tree: ChannelArgs,

    /// Show at most this many.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
    pub number: u32,
}

/// Arguments of `ls`: what a tree holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct LsArgs {
    /// Which tree.
    #[command(flatten)]
    pub tree: ChannelArgs,

    /// The directory, or the file [default: the top of the tree].
    #[arg(value_name = "PATH")]
    pub path: Option<OsString>,

    /// Also list what is in directories, at any depth.
    #[arg(long, short = 'R')]
    pub recursive: bool,

    /// Also show modes, sizes and ids.
    #[arg(long, short)]
    pub long: bool,
}

/// Arguments of `cat`: the content of a file of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct CatArgs {
    /// Which tree.
    #[command(flatten)]
    pub tree: ChannelArgs,

    /// The file.
    #[arg(value_name = "PATH")]
    pub path: OsString,
}

/// Arguments of `verify`: whether a target is what was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct VerifyArgs {
    /// The target [default: that of the configuration].
    #[arg(long, value_name = "DIR")]
    pub target: Option<PathBuf>,

    /// Read every file, not only those whose size or time changed.
    #[arg(long)]
    pub full: bool,

    /// Report what was found to the server that the configuration names in `[report]`.
    #[arg(long)]
    pub report: bool,
}
