//! Arguments of `pkg`: binary packages of Gentoo that a channel holds.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use smart_sync_sync::name::Channel;

use super::sync::ChannelArgs;
use super::trust::KeySource;
use crate::server_url::ServerUrl;

/// What is done with packages.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PackageCommand {
    /// List the packages of an index.
    List(PackageListArgs),
    /// Show what an index says of a package, each of its builds.
    Show(PackageShowArgs),
    /// Show which packages have to be built: those that a host has, or wants, and that the index has not.
    Missing(PackageMissingArgs),
    /// Show what differs between the files of two packages.
    Diff(PackageDiffArgs),
    /// Fetch the packages of an index, and compare each with what the index says of it.
    Verify(PackageVerifyArgs),
    /// Show which packages of an index are not needed, and take them out of it when told to.
    Redundant(Box<PackageRedundantArgs>),
}

/// Arguments of `pkg list`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PackageListArgs {
    /// Only those that this atom names: app-misc/hello, >=app-misc/hello-2, …
    #[arg(value_name = "ATOM")]
    pub atoms: Vec<String>,

    /// Which index.
    #[command(flatten)]
    pub tree: ChannelArgs,
}

/// Arguments of `pkg show`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PackageShowArgs {
    /// The packages: app-misc/hello, =app-misc/hello-2.10, …
    #[arg(value_name = "ATOM", required = true)]
    pub atoms: Vec<String>,

    /// Which index.
    #[command(flatten)]
    pub tree: ChannelArgs,
}

/// Arguments of `pkg missing`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["installed", "pretend"]))]
pub struct PackageMissingArgs {
    /// The packages of a host, by its database: /var/db/pkg.
    #[arg(long, value_name = "DIR")]
    pub installed: Option<PathBuf>,

    /// The packages that `emerge --pretend --verbose` has printed into a file; - for standard input.
    #[arg(long, value_name = "FILE|-")]
    pub pretend: Option<PathBuf>,

    /// Another build of the same version with the same flags is as good.
    #[arg(long)]
    pub any_build: bool,

    /// Which index.
    #[command(flatten)]
    pub tree: ChannelArgs,
}

/// Arguments of `pkg diff`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PackageDiffArgs {
    /// The package to compare from; of several builds the newest.
    #[arg(value_name = "FROM")]
    pub from: String,

    /// The package to compare with.
    #[arg(value_name = "TO")]
    pub to: String,

    /// Which index.
    #[command(flatten)]
    pub tree: ChannelArgs,
}

/// Arguments of `pkg verify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PackageVerifyArgs {
    /// Only those that this atom names: app-misc/hello, >=app-misc/hello-2, …
    #[arg(value_name = "ATOM")]
    pub atoms: Vec<String>,

    /// A file or a directory of OpenPGP keys: one of them has to have signed each package. Repeat it to name several.
    #[arg(long = "keyring", value_name = "PATH")]
    pub keyrings: Vec<PathBuf>,

    /// What nobody has signed is well, too; what is signed has to be signed by one of the keys.
    #[arg(long, requires = "keyrings")]
    pub allow_unsigned: bool,

    /// Which index.
    #[command(flatten)]
    pub tree: ChannelArgs,
}

/// Arguments of `pkg redundant`.
///
/// A package is not needed where the same version was built later with the same flags. Where lists say what is needed, it is
/// not needed either if no list names it and nothing that they name needs it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PackageRedundantArgs {
    /// The channel.
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Channel,

    /// What is needed: a file of atoms, one on each line, such as /var/lib/portage/world. Repeat it to name several.
    #[arg(long = "needed", value_name = "FILE|-", help_heading = "What is needed")]
    pub needed: Vec<PathBuf>,

    /// What is needed: the packages of a host, by its database: /var/db/pkg. Repeat it to name several.
    #[arg(long, value_name = "DIR", help_heading = "What is needed")]
    pub installed: Vec<PathBuf>,

    /// What is needed: the packages that `emerge --pretend --verbose` has printed into a file. Repeat it to name several.
    #[arg(long, value_name = "FILE|-", help_heading = "What is needed")]
    pub pretend: Vec<PathBuf>,

    /// What is needed to build something is needed, too: DEPEND and BDEPEND.
    #[arg(long, help_heading = "What is needed")]
    pub with_bdeps: bool,

    /// Where several versions of a slot would do, only the N newest ones are needed [default: all of them].
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "What is needed"
    )]
    pub versions: Option<u32>,

    /// Of a version that was built with several sets of flags, only the newest build is needed.
    #[arg(long, help_heading = "What is needed")]
    pub other_use: bool,

    /// Publish an index without them. The files stay for a week, for clients that have an older index.
    #[arg(long, requires = "keys")]
    pub yes: bool,

    /// The key to sign with: a file, or agent:FINGERPRINT for one in an ssh-agent. Repeat it where several have to.
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<KeySource>,

    /// A server to ask and to publish to [default: the first one of the realm].
    #[arg(long, value_name = "URL", value_parser = ServerUrl::typed)]
    pub server: Option<ServerUrl>,

    /// Also sign for `minisign -V` with this key.
    #[arg(long, value_name = "FILE")]
    pub minisign_key: Option<PathBuf>,

    /// Also sign for `ssh-keygen -Y verify` with this key.
    #[arg(long, value_name = "KEY")]
    pub ssh_key: Option<KeySource>,
}
