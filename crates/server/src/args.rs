//! The command line of the server, as it is typed.

mod mirror;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use smart_sync_sync::wire::report::HostName;

use crate::tokens::Verb;
pub(crate) use mirror::{MirrorAddArgs, MirrorCommand, MirrorSyncArgs};

/// Publishes signed trees to smart-sync clients, and plain files to everyone else.
#[derive(Debug, Parser)]
#[command(name = "smart-sync-server", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// How log lines are written on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// The data directory, which every command works on.
#[derive(Debug, Clone, Args)]
pub(crate) struct Data {
    /// The data directory of the server
    #[arg(
        long = "data",
        value_name = "DIR",
        env = "SMART_SYNC_SERVER_DATA",
        default_value = "/var/lib/smart-sync-server"
    )]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new realm: its keys, its first root document and an empty log
    Init(InitArgs),
    /// Serve the realm until SIGTERM or Ctrl-C
    Serve(ServeArgs),
    /// Check the log of a server and sign its newest checkpoint, from this or another machine
    Clock(ClockArgs),
    /// Publish a directory or a git repository on this machine, without the network
    PublishLocal(PublishLocalArgs),
    /// Show what of a backend of the older kind, as /var/lib/portage, becomes which channel, and publish it with --yes
    ImportBackend(ImportBackendArgs),
    /// Show what can be deleted, and delete it with --yes
    Gc(GcArgs),
    /// Read everything again and compare it with its hashes
    Check(CheckArgs),
    /// Show what a host pays to go from one version of a tree to another
    Cost(CostArgs),
    /// Look at the stored bundles
    #[command(subcommand)]
    Bundles(BundlesCommand),
    /// Look for compressed artifacts that take less room as what they are rebuilt from, and store them so
    SeeThrough(SeeThroughArgs),
    /// Write the realm as static files for a plain web server or a disk
    Export(ExportArgs),
    /// Look after what hosts have reported
    #[command(subcommand)]
    Hosts(HostsCommand),
    /// Look after what comes from the mirrors of others
    #[command(subcommand)]
    Mirror(MirrorCommand),
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Work with the log
    #[command(subcommand)]
    Log(LogCommand),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// The name of the realm, like a host name; it can never change
    #[arg(long, value_name = "NAME", required_unless_present = "root")]
    pub(crate) origin: Option<String>,
    /// Begin with this root document, as `smart-sync root assemble` writes it, and make no keys
    #[arg(long, value_name = "FILE", requires = "log_key", conflicts_with_all = ["publish", "expires_days", "max_age_hours"])]
    pub(crate) root: Option<PathBuf>,
    /// The log key that the root document names; it is copied
    #[arg(long, value_name = "FILE", requires = "root")]
    pub(crate) log_key: Option<PathBuf>,
    /// The clock key that it names, which is copied; without it the clock runs on another machine
    #[arg(long, value_name = "FILE", requires = "root")]
    pub(crate) clock_key: Option<PathBuf>,
    /// Channels that the new publish key may publish: a name, or everything below one as `repos/*` (repeatable)
    #[arg(long, value_name = "PATTERN", default_values_t = ["repos/*".to_owned()])]
    pub(crate) publish: Vec<String>,
    /// Channels that are invisible without a token (repeatable)
    #[arg(long, value_name = "PATTERN")]
    pub(crate) private: Vec<String>,
    /// Days until the root document expires
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub(crate) expires_days: u64,
    /// Hours after which a client takes what it last saw for stale
    #[arg(long, value_name = "HOURS", default_value_t = 168, value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub(crate) max_age_hours: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Where to listen instead of what server.toml says; port 0 takes a free one (repeatable)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct SeeThroughArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Store every artifact as it is again, for instance before an upgrade to other compression libraries
    #[arg(long)]
    pub(crate) undo: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClockArgs {
    /// The server whose log is checked
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// The clock key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Where the clock remembers what it has seen
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// The first root document that is believed, as `smart-sync-server init` printed it
    #[arg(long, value_name = "sha256:HEX")]
    pub(crate) root: String,
    /// Seconds between two signatures; 0 signs once and ends
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) interval: u64,
}

#[derive(Debug, Args)]
pub(crate) struct PublishLocalArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// The channel, such as repos/nixos
    #[arg(long)]
    pub(crate) channel: String,
    /// branch:NAME or tag:NAME; without a kind in front it is a branch
    #[arg(long = "ref", value_name = "REF", default_value = "main")]
    pub(crate) reference: String,
    /// What kind of tree this is
    #[arg(long, default_value = "repo")]
    pub(crate) kind: String,
    /// The publish key; DATA/keys/publish.key when it is still there
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Take the tree of this revision from a git repository instead of the files of a directory
    #[arg(long, value_name = "REVISION")]
    pub(crate) git: Option<String>,
    /// Keep owners, modes, times and extended attributes too
    #[arg(long, conflicts_with = "git")]
    pub(crate) system: bool,
    /// Leave such paths of a directory out, in place of the usual exclusions; an empty one excludes nothing (repeatable)
    #[arg(long, value_name = "PATTERN", conflicts_with = "git")]
    pub(crate) exclude: Vec<String>,
    /// Publish only what the Manifests of this ebuild tree name, and only if it is what they say; for distfiles
    #[arg(long, value_name = "DIR")]
    pub(crate) verify_against: Option<PathBuf>,
    /// A file or a directory of OpenPGP keys: publish only what one of them has signed; for ebuild trees, snapshots and
    /// the like (repeatable)
    #[arg(long = "keyring", value_name = "PATH")]
    pub(crate) keyrings: Vec<PathBuf>,
    /// How many of the newest versions of each thing stay; for release media and snapshots
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) newest: Option<u32>,
    /// Keep the distfiles that a kept version of the ebuild tree in this channel names, and let others go that were taken
    /// out a week ago (repeatable)
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) kept_by: Vec<String>,
    /// Take the directory for all there is to be, where several publish to one channel
    #[arg(long)]
    pub(crate) replace: bool,
    /// The directory or the repository
    pub(crate) source: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportBackendArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Do it; without this it is only shown what would be published
    #[arg(long)]
    pub(crate) yes: bool,
    /// The publish key; DATA/keys/publish.key when it is still there
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// What stands in front of the names of all channels, as `gentoo`
    #[arg(long, value_name = "NAME")]
    pub(crate) channel_prefix: Option<String>,
    /// A file or a directory of OpenPGP keys: take over only such ebuild trees, snapshots, release media and binary packages
    /// as one of them has signed (repeatable)
    #[arg(long = "keyring", value_name = "PATH")]
    pub(crate) keyrings: Vec<PathBuf>,
    /// The directory with binpkgs, kernels, distfiles and so on
    pub(crate) backend: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Do it; without this the plan is printed and nothing changes
    #[arg(long)]
    pub(crate) yes: bool,
    /// Keep what was uploaded or asked for in the last hours, for publishers that are still at work
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) grace_hours: u64,
    /// Keep this many of the newest versions of each branch, whatever server.toml says; tags are kept until they are
    /// withdrawn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep: Option<u64>,
    /// Keep what each branch was at the end of each of the last days as well, whatever server.toml says
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=3650))]
    pub(crate) keep_days: Option<u32>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("means").args(["mirror", "discard"]).multiple(true))]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Print one JSON object on each line, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// Look for what is damaged or lost at this mirror
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Give up what cannot be read and no mirror has, so that publishing the same trees again brings it back
    #[arg(long)]
    pub(crate) discard: bool,
    /// Do it; without this it is only shown what would be done
    #[arg(long, requires = "means")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Remove what nothing has needed for the grace period
    #[arg(long)]
    pub(crate) prune: bool,
    /// Keep what is no longer needed for this many hours, for hosts that are still reading it
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) grace_hours: u64,
    /// The directory to write, or the URL of an object store; what is there already is not written again
    #[arg(value_name = "DIR|URL")]
    pub(crate) destination: String,
}

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Compute no bundle where none is stored
    #[arg(long)]
    pub(crate) stored_only: bool,
    /// The channel, such as repos/nixos
    pub(crate) channel: String,
    /// What the host has: REF, REF@DATE, REF#NUMBER, the id of a manifest, or none
    pub(crate) from: String,
    /// What it wants, written in the same ways
    pub(crate) to: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundlesCommand {
    /// List the stored bundles
    List {
        #[command(flatten)]
        data: Data,
    },
    /// Remove all stored bundles; those that are asked for are computed again
    Prune {
        #[command(flatten)]
        data: Data,
        /// Do it; without this they are only listed
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it cannot be shown again
    Create(TokenCreateArgs),
    /// List the tokens, without their texts
    List {
        #[command(flatten)]
        data: Data,
    },
    /// Remove a token
    Revoke {
        #[command(flatten)]
        data: Data,
        /// The name it was made with
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Whose token it is, for the list and the logs
    #[arg(long)]
    pub(crate) name: String,
    /// What it allows (repeatable)
    #[arg(long = "verb", value_name = "VERB", value_enum, required = true)]
    pub(crate) verbs: Vec<Verb>,
    /// A channel, or everything below one as `repos/`; empty for all
    #[arg(long, default_value = "")]
    pub(crate) prefix: String,
    /// The only host that `report` and `hosts` are about; all without it
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<HostName>,
    /// Days until it ends
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub(crate) days: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostsCommand {
    /// Forget what a host has reported: it is gone
    Forget {
        #[command(flatten)]
        data: Data,
        /// The name that it reported by
        name: HostName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Recompute the log and every table of heads from its leaves
    Audit {
        #[command(flatten)]
        data: Data,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
