//! What can be typed about the mirrors of others.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Data;
use crate::config::Current;

#[derive(Debug, Subcommand)]
pub(crate) enum MirrorCommand {
    /// Add a mirror to server.toml
    Add(Box<MirrorAddArgs>),
    /// Remove a mirror from server.toml; what came from upstream for it is kept
    Remove {
        #[command(flatten)]
        data: Data,
        /// Its name
        name: String,
    },
    /// Publish what is new upstream, or what came from there and is not published yet, so that it is signed and hosts can
    /// follow it
    Sync(MirrorSyncArgs),
    /// Show which files from upstream no kept tree names any more, and forget them with --yes
    Prune {
        #[command(flatten)]
        data: Data,
        /// Do it; without this the plan is printed and nothing changes
        #[arg(long)]
        yes: bool,
        /// The name of the mirror
        name: String,
    },
    /// Show what came from upstream, what that saved, and what went wrong
    Status {
        #[command(flatten)]
        data: Data,
        /// Print one JSON object for each mirror, on a line of its own
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct MirrorAddArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Where it is served
    #[arg(long)]
    pub(crate) channel: String,
    /// What kind of tree that is
    #[arg(long, default_value = "distfiles")]
    pub(crate) kind: String,
    /// A directory upstream that has the files, by http, https, ftp, rsync or file; the best one first (repeatable)
    #[arg(long = "source", value_name = "URL", required_unless_present = "source_lists")]
    pub(crate) sources: Vec<String>,
    /// A file with more of them, a URL on each line (repeatable)
    #[arg(long = "source-list", value_name = "FILE")]
    pub(crate) source_lists: Vec<PathBuf>,
    /// Of distfiles: a channel with an ebuild tree, or a directory that begins with a slash: where it stands which files
    /// there are
    #[arg(long, value_name = "CHANNEL|DIR")]
    pub(crate) names_from: Option<String>,
    /// Of distfiles: fetch everything that is named before anybody asks for it, when it is the mirror's turn
    #[arg(long)]
    pub(crate) prefetch: bool,
    /// An architecture that is wanted, as upstream calls it; all without it (repeatable)
    #[arg(long = "architecture", value_name = "NAME")]
    pub(crate) architectures: Vec<String>,
    /// A variant that is wanted of each of them; all without it (repeatable)
    #[arg(long = "variant", value_name = "NAME")]
    pub(crate) variants: Vec<String>,
    /// How many of the newest versions of each thing are wanted
    #[arg(long, value_name = "N")]
    pub(crate) newest: Option<usize>,
    /// Of kernels: which version hosts follow; the one that somebody makes current without it
    #[arg(long, value_enum, value_name = "newest")]
    pub(crate) current: Option<Current>,
    /// A file or directory with OpenPGP keys that may have signed what comes (repeatable)
    #[arg(long, value_name = "PATH")]
    pub(crate) keyring: Vec<PathBuf>,
    /// Take what nobody has signed
    #[arg(long)]
    pub(crate) allow_unsigned: bool,
    /// The file upstream that has the digests of all others, such as SHA512SUMS, signed by a key of --keyring
    #[arg(long, value_name = "PATH", conflicts_with = "digests_file")]
    pub(crate) digests: Option<String>,
    /// A file of this machine that has them
    #[arg(long, value_name = "FILE")]
    pub(crate) digests_file: Option<PathBuf>,
    /// How often upstream is looked at while the server runs, such as 6h: from 1m to 30d; only by `mirror sync` without it
    #[arg(long, value_name = "INTERVAL")]
    pub(crate) every: Option<String>,
    /// The most that one look may bring
    #[arg(long, value_name = "GIB")]
    pub(crate) max_gib: Option<u64>,
    /// The key that publishes what comes
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// What it is called
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct MirrorSyncArgs {
    #[command(flatten)]
    pub(crate) data: Data,
    /// The publish key of the mirror's channel; what server.toml says, or DATA/keys/publish.key when it is still there
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Of distfiles: first fetch everything that is named and not here
    #[arg(long)]
    pub(crate) prefetch: bool,
    /// Take what upstream has, though it lost something or went back
    #[arg(long)]
    pub(crate) accept: bool,
    /// The name of the mirror
    pub(crate) name: String,
}
