//! The data directory: where everything of a server lies.
//!
//! ```text
//! server.toml     settings
//! tokens.toml     hashes of tokens
//! keys/           log.key, clock.key; root.key and publish.key until they are moved away
//! log/            checkpoint and tiles: the log itself, in the layout in which it is served
//! cache/          what publish-local has hashed before, and archives that were made of trees; may be deleted
//! store/          packs, bundles and the catalogue; bundles may be deleted
//! spool/          bundles while they are computed, as files without names: it always looks empty
//! views/          trees as programs of others want them, git and rsync; made anew when they are missing
//! index.db        where publications stand in the log; made anew from the log when it is missing
//! hosts.db        what hosts have reported last; they report again
//! upstream.db     which files came from upstream, and which may; the former are known nowhere else
//! incoming/       files on their way from upstream; what is there after a crash is removed
//! secrets/        secret bytes of private channels
//! attachments/    sidecar signatures by leaf
//! lock            held while the log is appended to
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

use crate::config::Config;

/// Paths below a data directory.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// A data directory that exists.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        let data = Self { root: root.to_owned() };
        if !data.config().is_file() {
            bail!(
                "{} is not the data directory of a server: it has no server.toml\n\
                 hint: make one with `smart-sync-server init --data {} --origin NAME`",
                root.display(),
                root.display()
            );
        }
        Ok(data)
    }

    /// A data directory that is being made; it must be empty or not exist yet.
    pub(crate) fn create(root: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let data = Self { root: root.to_owned() };
        if fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} is not empty; a realm is made once, in a directory of its own", root.display());
        }
        for directory in
            [root.to_owned(), data.keys(), data.log(), data.store(), data.secrets(), data.attachments()]
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(data)
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The settings.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("server.toml")
    }

    /// Reads the settings.
    pub(crate) fn load_config(&self) -> anyhow::Result<Config> {
        Config::load(&self.config())
    }

    /// The keys.
    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The log.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Packs and catalogue.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The index of the log.
    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.db")
    }

    /// What hosts have reported.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.root.join("hosts.db")
    }

    /// What mirrors remember.
    pub(crate) fn upstream_db(&self) -> PathBuf {
        self.root.join("upstream.db")
    }

    /// Files on their way from upstream.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Secret bytes of private channels.
    pub(crate) fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// What was hashed before, by place.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Archives that were made of directories of trees.
    pub(crate) fn archives(&self) -> PathBuf {
        self.cache().join("archives")
    }

    /// Where bundles are written while they are computed.
    pub(crate) fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Trees as programs of others want them.
    pub(crate) fn views(&self) -> PathBuf {
        self.root.join("views")
    }

    /// Sidecars.
    pub(crate) fn attachments(&self) -> PathBuf {
        self.root.join("attachments")
    }

    /// Waits for the right to append to the log, among all processes of this machine.
    pub(crate) fn lock(&self) -> anyhow::Result<LogLock> {
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("locking {}", path.display()))?;
        Ok(LogLock { _file: file })
    }
}

/// The right to append to the log, until it is dropped.
#[derive(Debug)]
pub(crate) struct LogLock {
    _file: File,
}
