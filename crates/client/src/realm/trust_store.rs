//! What is believed of each realm, on disk.
//!
//! ```text
//! trust/<origin>/state            the trust state, as text
//! trust/<origin>/servers          addresses that were added with it, one per line
//! trust/<origin>/lock             held while the state is read, judged and replaced
//! trust/<origin>/fork-<n>.notes   both checkpoints, if the realm ever showed two histories
//! trust/<origin>/evidence/<name>  the last full evidence for a channel and ref
//! trust/<origin>/root.note        the root document that was shown when the realm was added
//! forks/<origin>-<n>.notes        what is kept of a realm that was forgotten after a fork
//! ```
//!
//! The state is replaced as a whole and durably, and only with what was accepted, so trust never goes backwards.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use smart_sync_sync::evidence::{Evidence, FullEvidence};
use smart_sync_sync::name::{Channel, Origin, RefName};
use smart_sync_sync::trust::{Fork, TrustState};

use crate::failure::{Exit, Failure};
use crate::server_url::ServerUrl;
use crate::state_dir::make_private;

/// The most forks of one realm that are kept.
const FORKS_MAX: u32 = 1000;

/// The realms that are known.
#[derive(Debug, Clone)]
pub struct TrustStore {
    directory: PathBuf,
}

/// One realm, held by this run.
#[derive(Debug)]
pub struct HeldRealm {
    directory: PathBuf,
    _lock: File,
}

impl TrustStore {
    /// The realms in this state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("trust") }
    }

    /// The realms that are known, in the order of their names.
    pub fn origins(&self) -> Result<Vec<Origin>, Failure> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed("reading", error)),
        };
        let mut origins = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| self.failed("reading", error))?.file_name();
            origins.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        origins.sort_by(|one: &Origin, other| one.as_str().cmp(other.as_str()));
        Ok(origins)
    }

    /// The realm that a server was added for.
    pub fn origin_of(&self, server: &ServerUrl) -> Result<Option<Origin>, Failure> {
        for origin in self.origins()? {
            if self.servers(&origin)?.contains(server) {
                return Ok(Some(origin));
            }
        }
        Ok(None)
    }

    /// The servers of a realm.
    pub fn servers(&self, origin: &Origin) -> Result<Vec<ServerUrl>, Failure> {
        let path = self.path(origin).join("servers");
        let text = read_if_there(&path)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// What is believed of a realm, without holding it.
    pub fn state(&self, origin: &Origin) -> Result<Option<TrustState>, Failure> {
        read_state(&self.path(origin).join("state"))
    }

    /// Takes a realm for reading and replacing its state. Another run that has it is waited for: it holds it for a
    /// moment only.
    pub fn hold(&self, origin: &Origin) -> Result<HeldRealm, Failure> {
        let directory = self.path(origin);
        make_private(&directory.join("evidence"))
            .map_err(|error| Failure::from(error).context(format!("making {}", directory.display())))?;
        let path = directory.join("lock");
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Failure::from(error).context(format!("opening {}", path.display())))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| {
            Failure::from(io::Error::from(error)).context(format!("locking {}", path.display()))
        })?;
        Ok(HeldRealm { directory, _lock: lock })
    }

    /// The root document that was shown when the realm was added, for people to look at before the first one is
    /// part of the state.
    pub fn shown_root(&self, origin: &Origin) -> Option<Vec<u8>> {
        read_if_there(&self.path(origin).join("root.note")).ok().flatten()
    }

    /// The files that prove that a realm has shown two histories.
    pub fn forks(&self, origin: &Origin) -> Vec<PathBuf> {
        let directory = self.path(origin);
        (1..=FORKS_MAX)
            .map(|number| directory.join(format!("fork-{number}.notes")))
            .take_while(|path| path.exists())
            .collect()
    }

    /// Forgets a realm. Proofs of a fork are moved aside, and their new places returned.
    pub fn remove(&self, origin: &Origin) -> Result<Vec<PathBuf>, Failure> {
        let path = self.path(origin);
        let _held = self.hold(origin)?;
        let kept = self.directory.with_file_name("forks");
        let mut moved = Vec::new();
        for fork in self.forks(origin) {
            make_private(&kept)?;
            let places = (1..=FORKS_MAX).map(|number| kept.join(format!("{origin}-{number}.notes")));
            let place = places.into_iter().find(|place| !place.exists()).ok_or_else(|| {
                Failure::message(Exit::General, format!("{} is full of proofs of forks", kept.display()))
            })?;
            fs::rename(&fork, &place)
                .map_err(|error| Failure::from(error).context(format!("moving {}", fork.display())))?;
            moved.push(place);
        }
        if !moved.is_empty() {
            // A proof must not be lost with the place that it is moved from.
            File::open(&kept)?.sync_all()?;
        }
        fs::remove_dir_all(&path)
            .and_then(|()| File::open(&self.directory)?.sync_all())
            .map_err(|error| Failure::from(error).context(format!("removing {}", path.display())))?;
        Ok(moved)
    }

    fn path(&self, origin: &Origin) -> PathBuf {
        self.directory.join(origin.as_str())
    }

    fn failed(&self, doing: &str, error: io::Error) -> Failure {
        Failure::from(error).context(format!("{doing} {}", self.directory.display()))
    }
}

impl HeldRealm {
    /// What is believed.
    pub fn state(&self) -> Result<Option<TrustState>, Failure> {
        read_state(&self.directory.join("state"))
    }

    /// Replaces what is believed, durably.
    pub fn save(&self, state: &TrustState) -> Result<(), Failure> {
        write(&self.directory.join("state"), state.to_text().as_bytes())
    }

    /// Adds a server.
    pub fn add_server(&self, server: &ServerUrl) -> Result<(), Failure> {
        let path = self.directory.join("servers");
        let text = read_if_there(&path)?.unwrap_or_default();
        let mut text = String::from_utf8_lossy(&text).into_owned();
        let line = server.to_string();
        if !text.lines().any(|known| known == line) {
            text.push_str(&line);
            text.push('\n');
            write(&path, text.as_bytes())?;
        }
        Ok(())
    }

    /// Keeps the root document that was shown when the realm was added.
    pub fn keep_shown_root(&self, note: &[u8]) -> Result<(), Failure> {
        write(&self.directory.join("root.note"), note)
    }

    /// Keeps the proof that the realm has shown two histories.
    pub fn keep_fork(&self, fork: &Fork) -> Result<PathBuf, Failure> {
        // A realm is latched by its first fork; more than one file means that it was trusted again.
        let paths = (1..=FORKS_MAX).map(|number| self.directory.join(format!("fork-{number}.notes")));
        let path = paths.into_iter().find(|path| !path.exists()).ok_or_else(|| {
            Failure::message(Exit::Refused, format!("{FORKS_MAX} forks of this realm are kept already"))
        })?;
        let notes = [&fork.known.to_bytes()[..], b"\n", &fork.offered.to_bytes()].concat();
        write(&path, &notes)?;
        Ok(path)
    }

    /// The last full evidence for a ref, if it was kept and can be read.
    pub fn evidence(&self, channel: &Channel, reference: &RefName) -> Option<FullEvidence> {
        let bytes = fs::read(self.evidence_path(channel, reference)).ok()?;
        match Evidence::decode(&bytes).ok()? {
            Evidence::Full(full) => Some(*full),
            Evidence::Unchanged { .. } => None,
        }
    }

    /// Keeps evidence, so that next time the checkpoint alone has to be sent.
    pub fn keep_evidence(
        &self,
        channel: &Channel,
        reference: &RefName,
        evidence: FullEvidence,
    ) -> Result<(), Failure> {
        let bytes = Evidence::Full(Box::new(evidence)).encode();
        let path = self.evidence_path(channel, reference);
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        write(&path, &bytes)
    }

    fn evidence_path(&self, channel: &Channel, reference: &RefName) -> PathBuf {
        let name = format!("{}+{}", channel.to_url_segment(), reference.to_url_segment());
        self.directory.join("evidence").join(name)
    }
}

fn read_state(path: &Path) -> Result<Option<TrustState>, Failure> {
    let Some(bytes) = read_if_there(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|error| error.to_string());
    let state = text.and_then(|text| text.parse::<TrustState>().map_err(|error| error.to_string()));
    state.map(Some).map_err(|reason| {
        Failure::message(Exit::Refused, format!("{}: {reason}", path.display())).hint(
            "the file is damaged; `smart-sync trust reset ORIGIN` forgets the realm, and `trust add` starts again",
        )
    })
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::from(error).context(format!("reading {}", path.display()))),
    }
}

/// Replaces a file durably: temporary, fsync, rename, fsync of the directory.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let temporary = path.with_extension("tmp");
    let result = (|| {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    })();
    result.map_err(|error: io::Error| Failure::from(error).context(format!("writing {}", path.display())))
}
