//! Arguments of `patched`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use smart_sync_store::manifest::TreePath;
use smart_sync_sync::name::Channel;

use super::trust::KeySource;
use crate::server_url::ServerUrl;

/// Arguments of `patched`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PatchedArgs {
    /// Directories of patch files, laid over each other: of files at one path, that of the last directory counts.
    #[arg(value_name = "DIR", required = true)]
    pub directories: Vec<PathBuf>,

    /// The root of the system that they are compared with. Links in it lead nowhere else.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// What lies below FROM in a directory belongs below TO in the system; repeat it to name several.
    #[arg(long = "map", value_name = "FROM=TO", default_value = "portage=etc/portage")]
    pub mappings: Vec<Mapping>,

    /// Also show how texts differ.
    #[arg(long)]
    pub diff: bool,

    /// Publish what was found in this channel, with the texts of files that everybody on this host may read.
    #[arg(long, value_name = "CHANNEL", requires = "keys")]
    pub publish: Option<Channel>,

    /// The key to sign that with: a file, or agent:FINGERPRINT for one in an ssh-agent. Repeat it where several have to.
    #[arg(long = "key", value_name = "KEY", requires = "publish")]
    pub keys: Vec<KeySource>,

    /// A server to publish it to [default: the first one of the realm].
    #[arg(long, value_name = "URL", requires = "publish")]
    pub server: Option<ServerUrl>,
}

/// Where what lies in a directory of patch files belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// In a directory of patch files.
    pub from: TreePath,
    /// In the system.
    pub to: TreePath,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('=').ok_or("FROM=TO, for instance portage=etc/portage")?;
        let path = |text: &str| {
            TreePath::new(text.trim_matches('/').as_bytes()).map_err(|error| format!("`{text}`: {error}"))
        };
        Ok(Self { from: path(from)?, to: path(to)? })
    }
}
