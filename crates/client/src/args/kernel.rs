//! Arguments of `kernel`: kernels that a channel holds.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use smart_sync_sync::kinds::kernels::version::Version;
use smart_sync_sync::name::Channel;
use smart_sync_sync::time::UnixTime;

use super::trust::KeySource;
use crate::config::{Span, TargetKind};
use crate::reference;
use crate::server_url::ServerUrl;

/// What is done with kernels.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KernelCommand {
    /// List the kernels of a channel, the newest first.
    List(KernelListArgs),
    /// Publish a kernel; it becomes the current one, and older ones are deprecated.
    ///
    /// The directory is what `make install modules_install` has written, or a directory with vmlinuz, System.map, config
    /// and modules as they lie on a server of kernels.
    Publish(KernelPublishArgs),
    /// Say that kernels should not be run any more.
    Deprecate(KernelStateArgs),
    /// Say that kernels are current.
    Current(KernelStateArgs),
    /// Say that kernels are for hosts that newer ones do not work on.
    Compat(KernelStateArgs),
    /// Bring a target of this host to the newest current kernel, or to the one that is named.
    ///
    /// What the configuration has for after an update of the target is run, such as a `kernel = {…}` that installs it.
    Pull(Box<KernelPullArgs>),
}

/// Which channel of kernels, and who is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Which kernels")]
pub struct KernelChannelArgs {
    /// The channel, such as kernels/amd64 [default: that of the target in the configuration].
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<Channel>,

    /// The channel as it was at a time.
    ///
    /// A date such as 2026-11-01 is the end of that day, UTC; a time is written as 2026-11-01T12:00Z.
    #[arg(long, value_name = "DATE", value_parser = reference::parse_time)]
    pub at: Option<UnixTime>,

    /// A server of the channel, or the directory of an export; repeat it to name mirrors.
    #[arg(long = "server", value_name = "URL|DIR", value_parser = ServerUrl::typed)]
    pub servers: Vec<ServerUrl>,

    /// How old the realm's word may be that this is the newest version, such as 30d.
    #[arg(long, value_name = "AGE")]
    pub max_age: Option<Span>,
}

/// Arguments of `kernel list`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KernelListArgs {
    /// Which kernels.
    #[command(flatten)]
    pub channel: KernelChannelArgs,
}

/// Where kernels are published, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KernelPublishingArgs {
    /// The channel to publish in, such as kernels/amd64.
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Channel,

    /// The key to sign with: a file, or agent:FINGERPRINT for one in an ssh-agent. Repeat it where several have to.
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub keys: Vec<KeySource>,

    /// A server to publish to [default: the first one of the realm].
    #[arg(long, value_name = "URL", value_parser = ServerUrl::typed)]
    pub server: Option<ServerUrl>,

    /// Also sign for `minisign -V` with this key.
    #[arg(long, value_name = "FILE")]
    pub minisign_key: Option<PathBuf>,

    /// Also sign for `ssh-keygen -Y verify` with this key.
    #[arg(long, value_name = "KEY")]
    pub ssh_key: Option<KeySource>,

    /// Show what would be published, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `kernel publish`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KernelPublishArgs {
    /// The directory with the kernel, or with those of several versions: VERSION, or with their states current/VERSION,
    /// deprecated/VERSION, compat/VERSION.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Where, and by whom.
    #[command(flatten)]
    pub publishing: KernelPublishingArgs,
}

/// Arguments of `kernel deprecate`, `kernel current` and `kernel compat`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KernelStateArgs {
    /// The versions.
    #[arg(value_name = "VERSION", required = true)]
    pub versions: Vec<Version>,

    /// Where, and by whom.
    #[command(flatten)]
    pub publishing: KernelPublishingArgs,
}

/// Arguments of `kernel pull`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line; settings make enums of them"
)]
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KernelPullArgs {
    /// The version, whatever its state [default: the newest one that is current].
    #[arg(value_name = "VERSION")]
    pub version: Option<Version>,

    /// Which kernels.
    #[command(flatten)]
    pub channel: KernelChannelArgs,

    /// The directory to bring up to date [default: the target of the configuration that installs kernels].
    #[arg(long, value_name = "DIR", help_heading = "What to do")]
    pub target: Option<PathBuf>,

    /// How the target is kept, the first time it is synced; decided by its file system otherwise.
    #[arg(long, value_enum, value_name = "KIND", help_heading = "What to do")]
    pub kind: Option<TargetKind>,

    /// Neither run the commands that the configuration has for after an update, nor its checks.
    #[arg(long, help_heading = "What to do")]
    pub skip_rebuild: bool,

    /// Try a version again that was found not to be healthy here.
    #[arg(long, help_heading = "What to do")]
    pub retry_failed: bool,

    /// Show what would change, and change nothing.
    #[arg(long, help_heading = "What to do", conflicts_with = "check_only")]
    pub dry_run: bool,

    /// Ask only whether there is an update: exit status 10 if so, 0 if not.
    #[arg(long, help_heading = "What to do")]
    pub check_only: bool,
}
