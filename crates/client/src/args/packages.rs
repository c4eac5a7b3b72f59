//! Arguments of `pkg`: binary packages of Gentoo that a channel holds.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::sync::ChannelArgs;

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
