//! Arguments of `trust`, `root` and `key`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use smart_sync_store::id::from_hex;
use smart_sync_sync::name::Origin;

use crate::server_url::ServerUrl;

/// Whom this host believes.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TrustCommand {
    /// Begin to trust the realm that a server serves.
    Add(TrustAddArgs),
    /// Show each realm, its root document, when it expires, and what the clock covers.
    Show(TrustShowArgs),
    /// Forget a realm, after a fork or when it began anew; what proves a fork is kept.
    Reset(TrustResetArgs),
}

/// Arguments of `trust add`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["root", "first_use"]))]
pub struct TrustAddArgs {
    /// A server of the realm, or the directory of an export.
    #[arg(value_name = "URL|DIR", value_parser = ServerUrl::typed)]
    pub server: ServerUrl,

    /// The hash of the realm's root document, as its administrators publish it.
    #[arg(long, value_name = "sha256:HEX")]
    pub root: Option<RootPin>,

    /// Believe whatever root document the server shows now.
    ///
    /// Whoever controls the network or the server at this moment decides whom this host trusts from then on. Compare
    /// the hash that is shown with the one that the administrators publish.
    #[arg(long)]
    pub first_use: bool,
}

/// Arguments of `trust show`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct TrustShowArgs {
    /// Only this realm.
    #[arg(value_name = "ORIGIN")]
    pub origin: Option<Origin>,
}

/// Arguments of `trust reset`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TrustResetArgs {
    /// The realm.
    #[arg(value_name = "ORIGIN")]
    pub origin: Origin,

    /// Do it; without, what would be forgotten is shown.
    #[arg(long)]
    pub yes: bool,
}

/// The ceremony that makes a root document.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RootCommand {
    /// Draft the first root document of a realm.
    New(RootNewArgs),
    /// Draft the next version of a root document.
    Edit(RootEditArgs),
    /// Sign a draft; each signer does so on a machine of their own.
    Sign(RootSignArgs),
    /// Put the signatures of several signed drafts together.
    Assemble(RootAssembleArgs),
    /// Show a root document, its hash and who has signed it.
    Show(RootShowArgs),
    /// Hand a root document to a server; needs a token that allows `admin`.
    Publish(RootPublishArgs),
}

/// Arguments of `root new`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RootNewArgs {
    /// The name of the realm, such as lab.example.org.
    #[arg(value_name = "ORIGIN")]
    pub origin: Origin,

    /// What the draft holds.
    #[command(flatten)]
    pub changes: RootChanges,

    /// Write the draft here.
    #[arg(long, short, value_name = "FILE", default_value = "root.draft")]
    pub output: PathBuf,
}

/// Arguments of `root edit`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RootEditArgs {
    /// The root document in force.
    #[arg(value_name = "FILE")]
    pub current: PathBuf,

    /// What changes.
    #[command(flatten)]
    pub changes: RootChanges,

    /// Write the draft here.
    #[arg(long, short, value_name = "FILE", default_value = "root.draft")]
    pub output: PathBuf,
}

/// What a draft holds, or what changes in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RootChanges {
    /// A role, its threshold and its keys, as in the document: "publish repos/* 1 VKEY". May be repeated.
    ///
    /// Roles are root, log, clock, witness, and publish with a channel or NAME/*. The line replaces all keys that the
    /// role had; "publish repos/* none" takes a role away. `smart-sync key show` prints a VKEY: the cosignature one for
    /// clock and witness, the signature one for all others.
    #[arg(long = "role", value_name = "LINE")]
    pub roles: Vec<String>,

    /// Revoke a key for everything after an index of the log: "VKEY after 1041". May be repeated.
    #[arg(long = "revoke", value_name = "LINE")]
    pub revoke: Vec<String>,

    /// The last day on which the document is valid, such as 2027-11-01 [default: in a year; for edit as before].
    #[arg(long, value_name = "DATE")]
    pub expires: Option<String>,

    /// For how many seconds a host goes on with a proof that nothing newer is hidden [default: 604800; for edit as before].
    #[arg(long, value_name = "SECONDS")]
    pub max_age: Option<u64>,
}

/// Arguments of `root sign`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RootSignArgs {
    /// The draft; the signatures are added to it.
    #[arg(value_name = "FILE")]
    pub draft: PathBuf,

    /// A key to sign with: a file, or agent:FINGERPRINT for one in an ssh-agent. May be repeated.
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub keys: Vec<KeySource>,
}

/// Arguments of `root assemble`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RootAssembleArgs {
    /// Signed copies of the same draft.
    #[arg(value_name = "FILE", required = true)]
    pub signed: Vec<PathBuf>,

    /// The root document in force, whose keys have to sign its successor.
    #[arg(long, value_name = "FILE")]
    pub current: Option<PathBuf>,

    /// Write the root document here.
    #[arg(long, short, value_name = "FILE", default_value = "root.note")]
    pub output: PathBuf,
}

/// Arguments of `root show`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RootShowArgs {
    /// A draft or a root document.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `root publish`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RootPublishArgs {
    /// The root document, as `root assemble` writes it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The server to hand it to [default: the first one of the realm].
    #[arg(long, value_name = "URL")]
    pub server: Option<ServerUrl>,
}

/// Keys that sign.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// Make a key.
    Generate(KeyGenerateArgs),
    /// Show the public half of a key.
    Show(KeyShowArgs),
}

/// Arguments of `key generate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KeyGenerateArgs {
    /// The name of the key in notes, such as lab.example.org/publish/alice.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Write the secret half here, readable by its owner alone.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,

    /// Ask for a passphrase and encrypt the key with it.
    #[arg(long)]
    pub passphrase: bool,
}

/// Arguments of `key show`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct KeyShowArgs {
    /// A file, or agent:FINGERPRINT.
    #[arg(value_name = "KEY")]
    pub key: KeySource,

    /// The name of the key in notes, where the key itself does not say.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Where a secret key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// In the ssh-agent, by its fingerprint.
    Agent(String),
}

/// The hash of a root document that somebody vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootPin(pub [u8; 32]);

impl FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("agent:") {
            Some("") => Err("a fingerprint follows `agent:`, as `ssh-add -l` shows it".to_owned()),
            Some(fingerprint) => Ok(Self::Agent(fingerprint.to_owned())),
            None if text.is_empty() => Err("a file, or agent:FINGERPRINT".to_owned()),
            None => Ok(Self::File(text.into())),
        }
    }
}

impl FromStr for RootPin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix("sha256:").and_then(from_hex);
        hex.map(Self).ok_or_else(|| "`sha256:` and 64 lower-case hexadecimal digits".to_owned())
    }
}
