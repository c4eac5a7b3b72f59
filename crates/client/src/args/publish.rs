//! Arguments of `publish`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, ValueEnum};
use smart_sync_sync::kinds::built_on::{BuiltOn, BuiltOnError};
use smart_sync_sync::name::{Channel, Kind, RefQuery};

use super::trust::KeySource;
use crate::reference;
use crate::server_url::ServerUrl;

/// Arguments of `publish`.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["tree", "git", "withdraw"]))]
pub struct PublishArgs {
    /// A directory, or - for a tar on standard input.
    #[arg(value_name = "DIR|-")]
    pub tree: Option<TreeInput>,

    /// A git repository; its objects are read, nothing is checked out.
    #[arg(long, value_name = "DIR")]
    pub git: Option<PathBuf>,

    /// Withdraw the ref: say that it is no more.
    #[arg(long, requires = "reference")]
    pub withdraw: bool,

    /// The channel to publish in.
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Channel,

    /// What the channel holds [default: what it held before, else repo for git and tree for others].
    #[arg(long, value_name = "KIND")]
    pub kind: Option<Kind>,

    /// The ref to publish [default: the branch that is checked out, else main].
    #[arg(long = "ref", value_name = "REF", conflicts_with = "all_refs", value_parser = reference::parse)]
    pub reference: Option<RefQuery>,

    /// Publish every branch and tag of the repository.
    #[arg(long, conflicts_with_all = ["tree", "withdraw"])]
    pub all_refs: bool,

    /// The key to sign with: a file, or agent:FINGERPRINT for one in an ssh-agent. Repeat it where several have to.
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub keys: Vec<KeySource>,

    /// A server to publish to [default: the first one of the realm].
    #[arg(long, value_name = "URL")]
    pub server: Option<ServerUrl>,

    /// How much of a file's metadata is published [default: git].
    #[arg(long, value_enum, conflicts_with = "git")]
    pub fidelity: Option<FidelityArg>,

    /// Leave such paths of a directory or a tar out, in place of the usual exclusions; repeat it to name several.
    ///
    /// The usual ones are .git/, result/, target/, tools/target/, var/ and *.socket. An empty pattern excludes nothing.
    #[arg(long, value_name = "PATTERN", conflicts_with = "git")]
    pub exclude: Vec<String>,

    /// The directory is all there is to be. Else what is published and not in the directory stays, where the kind of the
    /// channel is one that several publish parts of.
    #[arg(long, conflicts_with_all = ["git", "withdraw"])]
    pub replace: bool,

    /// How many of the newest versions of each thing stay published, where the kind of the channel keeps only so many.
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with_all = ["git", "withdraw"])]
    pub newest: Option<usize>,

    /// Publish only what is named there, and only if it is what is said there: for distfiles, an ebuild tree.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["git", "withdraw"])]
    pub verify_against: Option<PathBuf>,

    /// A file or a directory of OpenPGP keys: publish only what one of them has signed. Repeat it to name several. For
    /// binary packages, release media, snapshots and ebuild trees, and for the ebuild tree that --verify-against names.
    #[arg(long = "keyring", value_name = "PATH", conflicts_with = "withdraw")]
    pub keyrings: Vec<PathBuf>,

    /// Publish what nobody has signed, too; what is signed has to be signed by one of the keys.
    #[arg(long, requires = "keyrings")]
    pub allow_unsigned: bool,

    /// Sign binary packages that nobody has signed with this OpenPGP key, a file of `gpg --export-secret-keys`; those of
    /// the older form are converted. The directory stays as it is.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["git", "withdraw"])]
    pub sign_with: Option<PathBuf>,

    /// The file that holds the passphrase of that key, in its first line.
    #[arg(long, value_name = "FILE", requires = "sign_with")]
    pub sign_passphrase: Option<PathBuf>,

    /// Publish binary packages of the older form, xpak, in the newer one, GPKG. The directory stays as it is.
    #[arg(long, conflicts_with_all = ["git", "withdraw"])]
    pub convert: bool,

    /// Publish binary packages of the older form, xpak, too: .tbz2 and .xpak, which have neither digests nor signatures.
    #[arg(long, conflicts_with_all = ["git", "withdraw"])]
    pub allow_xpak: bool,

    /// Say on which machine binary packages that are new were built: host=NAME,kernel=VERSION or one of the two; this
    /// machine where nothing stands behind it. It is published with them, and `pkg show` shows it.
    #[arg(
        long,
        value_name = "MACHINE",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["git", "withdraw"]
    )]
    pub built_on: Option<Machine>,

    /// Also sign for `minisign -V` with this key.
    #[arg(long, value_name = "FILE")]
    pub minisign_key: Option<PathBuf>,

    /// Also sign for `ssh-keygen -Y verify` with this key.
    #[arg(long, value_name = "KEY")]
    pub ssh_key: Option<KeySource>,

    /// Show what would be published and uploaded, and do neither.
    #[arg(long)]
    pub dry_run: bool,
}

impl PublishArgs {
    /// What publishes a tree as the branch `main` of a channel.
    pub fn of(tree: Option<TreeInput>, channel: Channel, kind: Kind, keys: Vec<KeySource>) -> Self {
        Self {
            tree,
            git: None,
            withdraw: false,
            channel,
            kind: Some(kind),
            reference: None,
            all_refs: false,
            keys,
            server: None,
            fidelity: None,
            exclude: Vec::new(),
            replace: false,
            newest: None,
            verify_against: None,
            keyrings: Vec::new(),
            allow_unsigned: false,
            sign_with: None,
            sign_passphrase: None,
            convert: false,
            allow_xpak: false,
            built_on: None,
            minisign_key: None,
            ssh_key: None,
            dry_run: false,
        }
    }
}

/// Reads a number that is not zero: something stays in any case.
fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "a number from 1 on".to_owned())
}

/// How much of a file's metadata is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FidelityArg {
    /// The executable bit and symbolic links.
    Git,
    /// Modes, owners, times, extended attributes and hard links too.
    System,
}

/// A machine that something was built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    /// The one that this runs on.
    This,
    /// Another one, or what somebody wants to be said of this one.
    Said(BuiltOn),
}

impl FromStr for Machine {
    type Err = BuiltOnError;

    fn from_str(text: &str) -> Result<Self, BuiltOnError> {
        if text.is_empty() { Ok(Self::This) } else { text.parse().map(Self::Said) }
    }
}

/// A tree that is not in a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeInput {
    /// A directory.
    Directory(PathBuf),
    /// A tar on standard input.
    TarOnStdin,
}

impl FromStr for TreeInput {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a directory, or -".to_owned()),
            "-" => Ok(Self::TarOnStdin),
            directory => Ok(Self::Directory(directory.into())),
        }
    }
}
