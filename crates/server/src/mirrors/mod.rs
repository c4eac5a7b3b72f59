//! Mirrors of others: files of a channel come from upstream, when somebody asks for them first or as upstream gets them.
//!
//! A mirror that [follows](follow) its upstream looks what is new there, and publishes it. Of one that is asked, what may be fetched stands in a tree that this server has published, with the digests that it must have; nothing else
//! is ever asked for, and nothing else is ever kept. However many ask for a file, it is fetched once ([`flight`]), from
//! whichever upstream gives it as it has to be ([`fetch`]), and stays, in the store and in [`kept`].

mod answer;
mod client;
mod configured;
mod database;
mod fetch;
mod flight;
mod follow;
mod health;
mod keep;
mod kept;
mod kept_trees;
mod landing;
mod learn;
mod marks;
mod mirror;
mod names;
mod pace;
mod prefetch;
mod prune;
mod publication;
mod record;
mod round;
mod transport;
mod upstreams;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Client;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use smart_sync_store::manifest::Content;
use smart_sync_sync::kinds::Located;
use smart_sync_sync::kinds::pull::{Asked, Expected};
use smart_sync_sync::name::Channel;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::realm::{Realm, timestamp};
use configured::{Configured, configured};
pub(crate) use flight::{Failure, Flight};
pub(crate) use follow::{State, tend};
pub(crate) use kept::Kept;
pub(crate) use kept_trees::names_in_kept;
use landing::Landing;
pub(crate) use learn::learn;
use marks::Mark;
pub(crate) use mirror::Mirror;
pub(crate) use prune::{forget_files, forgettable};
pub(crate) use record::{SourceStatus, Status};
pub(crate) use round::Order;
use upstreams::{Turns, host_name_of};

/// The most files that are on their way or wait for their turn.
const FLIGHTS_MAX: usize = 1024;
/// What the file of a flight is called, in a directory of its own.
const FILE: &str = "file";

/// All mirrors of a server.
pub(crate) struct Mirrors {
    realm: Arc<Realm>,
    /// As they are configured, in that order.
    all: Vec<Configured>,
    outside: Outside,
    db: Mutex<Connection>,
    flights: Mutex<HashMap<Key, Arc<Flight>>>,
    tasks: Mutex<JoinSet<()>>,
    incoming: PathBuf,
    /// Held by the one process that may clear the directory of what is incoming.
    _incoming_lock: Option<File>,
}

/// How upstreams are asked, by all mirrors together.
struct Outside {
    client: Client,
    /// Files that are fetched at once.
    turns: Semaphore,
    /// How many these are.
    connections: usize,
    /// How long an upstream may give nothing.
    stall: Duration,
}

/// What a flight is about: one file of one channel.
type Key = (Channel, [u8; 64]);

/// What became of a question for a file.
pub(crate) enum Pulled {
    /// It is here.
    Kept(Kept),
    /// It is on its way.
    Coming(Arc<Flight>),
    /// It could be fetched, which the question was not about.
    Known {
        /// Its name.
        name: String,
        /// What it has to be.
        expected: Expected,
    },
    /// Nothing names it.
    Unknown,
    /// It is not known yet what is named.
    Learning,
    /// It does not come.
    Failed(Failure),
}

/// What somebody wants who asks for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The file.
    Content,
    /// To know that there is one.
    Head,
}

impl Mirrors {
    /// The mirrors that are configured; None if there are none.
    pub(crate) fn open(realm: &Arc<Realm>) -> anyhow::Result<Option<Arc<Self>>> {
        if realm.config.mirrors.is_empty() {
            return Ok(None);
        }
        Self::with_room(realm, realm.data.incoming()).map(Some)
    }

    /// The mirrors that are configured, for a process beside a server.
    pub(crate) fn open_beside(realm: &Arc<Realm>) -> anyhow::Result<Arc<Self>> {
        Self::with_room(realm, realm.data.cache().join("incoming"))
    }

    fn with_room(realm: &Arc<Realm>, incoming: PathBuf) -> anyhow::Result<Arc<Self>> {
        let mirrors = configured(&realm.config, &mut Turns::new())?;
        let limits = &realm.config.upstream;
        let urls = mirrors.iter().flat_map(Configured::sources).map(|source| source.url.as_str());
        let hosts: HashSet<String> = urls.filter_map(host_name_of).collect();
        let lock = clear(&incoming).with_context(|| format!("clearing {}", incoming.display()))?;
        let connections = limits.connections.max(1);
        Ok(Arc::new(Self {
            outside: Outside {
                client: client::client(hosts)?,
                turns: Semaphore::new(connections),
                connections,
                stall: Duration::from_secs(limits.stall_seconds.max(1)),
            },
            db: Mutex::new(database::open(&realm.data.upstream_db())?),
            realm: Arc::clone(realm),
            all: mirrors,
            flights: Mutex::default(),
            tasks: Mutex::default(),
            incoming,
            _incoming_lock: lock,
        }))
    }

    /// Those whose files come when they are asked for.
    fn pulled(&self) -> impl Iterator<Item = &Arc<Mirror>> {
        self.all.iter().filter_map(|configured| match configured {
            Configured::Pulled(mirror) => Some(mirror),
            Configured::Followed(_) => None,
        })
    }

    /// Those that are looked after by themselves, each with its interval in seconds.
    fn scheduled(&self) -> Vec<(String, u64)> {
        let configs = self.realm.config.mirrors.iter();
        // What is configured was read at the start.
        configs.filter_map(|config| Some((config.name.clone(), config.every_seconds().ok()??))).collect()
    }

    /// The mirror with the longest channel that a path begins with, and how many of its segments that is.
    pub(crate) fn at(&self, segments: &[&str]) -> Option<(&Arc<Mirror>, usize)> {
        let length = |mirror: &Mirror| {
            let channel: Vec<&str> = mirror.channel.as_str().split('/').collect();
            (segments.starts_with(&channel) && segments.len() > channel.len()).then_some(channel.len())
        };
        let found = self.pulled().filter_map(|mirror| Some((mirror, length(mirror)?)));
        found.max_by_key(|(_, length)| *length)
    }

    /// Looks for a file of a mirror, by a path below its channel, and has it fetched. On a thread of the runtime that may
    /// block.
    pub(crate) fn pull(
        self: &Arc<Self>,
        mirror: &Arc<Mirror>,
        path: &[u8],
        want: Want,
        now: u64,
    ) -> anyhow::Result<Pulled> {
        let Some(asked) = mirror.pull.asked(path) else { return Ok(Pulled::Unknown) };
        let named = names::find(&self.db(), &mirror.names.key(), &asked)?;
        // What is named now counts, not what was by that name when it came.
        let asked = named.as_ref().map_or(asked, |(_, expected)| Asked::Content(expected.sha512));
        if let Some(kept) = self.kept(mirror, &asked, now)? {
            return Ok(Pulled::Kept(kept));
        }
        match named {
            Some((name, expected)) if want == Want::Head => Ok(Pulled::Known { name, expected }),
            Some((name, expected)) => self.join(mirror, name, expected, now),
            None if learn::is_up_to_date(&self.realm, &mirror.names, &self.db())? => Ok(Pulled::Unknown),
            None => Ok(Pulled::Learning),
        }
    }

    /// What is here, unless its content was lost.
    fn kept(&self, mirror: &Mirror, asked: &Asked, now: u64) -> anyhow::Result<Option<Kept>> {
        let Some(kept) = kept::find(&self.db(), &mirror.channel, asked)? else { return Ok(None) };
        let domain = self.realm.domain(&mirror.channel)?;
        let contents = [kept.content];
        let missing = self.realm.store.missing_contents(&domain, &contents, timestamp(now));
        if kept.content.size == 0 || Handle::current().block_on(missing)?.is_empty() {
            return Ok(Some(kept));
        }
        tracing::warn!(
            mirror = mirror.name,
            file = kept.name,
            "what came from upstream was lost, and is fetched again"
        );
        kept::forget(&self.db(), &mirror.channel, &kept)?;
        Ok(None)
    }

    /// Joins those who wait for a file, or is the first of them.
    fn join(
        self: &Arc<Self>,
        mirror: &Arc<Mirror>,
        name: String,
        expected: Expected,
        now: u64,
    ) -> anyhow::Result<Pulled> {
        let key = (mirror.channel.clone(), expected.sha512);
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&key) {
            return Ok(Pulled::Coming(Arc::clone(flight)));
        }
        // It may have arrived since it was looked for.
        if let Some(kept) = kept::find(&self.db(), &mirror.channel, &Asked::Content(expected.sha512))? {
            return Ok(Pulled::Kept(kept));
        }
        if mirror.is_marked(&expected.sha512, Mark::Absent, now) {
            return Ok(Pulled::Failed(Failure::Absent));
        }
        if flights.len() >= FLIGHTS_MAX {
            return Ok(Pulled::Failed(Failure::Busy));
        }
        let directory = tempfile::tempdir_in(&self.incoming).context("making room for what comes")?;
        let path = directory.path().join(FILE);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("making {}", path.display()))?;
        let flight = Arc::new(Flight::new(name, expected, now, file));
        flights.insert(key.clone(), Arc::clone(&flight));
        drop(flights);
        let landing = Landing { mirrors: Arc::clone(self), key, flight: Arc::clone(&flight) };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(landing.land(Arc::clone(mirror), directory), &Handle::current());
        Ok(Pulled::Coming(flight))
    }

    /// Gives up what is on its way.
    pub(crate) fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.write_down_given();
    }

    /// Writes down what clients were given since this was last done.
    fn write_down_given(&self) {
        for mirror in self.pulled() {
            let Some((files, bytes)) = mirror.take_given() else { continue };
            if let Err(error) = record::gave(&self.db(), &mirror.name, files, bytes) {
                tracing::error!(error = format!("{error:#}"), "writing down what clients were given");
            }
        }
    }

    /// What is known of the mirrors whose channel passes. On a thread that may block.
    pub(crate) fn status(&self, passes: impl Fn(&Channel) -> bool) -> anyhow::Result<Vec<Status>> {
        self.write_down_given();
        let db = self.db();
        let shown = self.all.iter().filter(|mirror| passes(mirror.channel()));
        shown.map(|mirror| mirror.status(&db)).collect()
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirror {
    /// What stands at a path whatever the mirror has.
    pub(crate) fn made(&self, path: &[u8]) -> Option<&'static [u8]> {
        match self.kind.other_names().and_then(|names| names.locate(path)) {
            Some(Located::Made(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

/// Refuses a configuration whose mirrors make no sense.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    configured(config, &mut Turns::new()).map(drop)
}

/// What is known of the mirrors of a data directory, whether a server is at work there or not.
pub(crate) fn status_of(data: &DataDir) -> anyhow::Result<Vec<Status>> {
    let mirrors = configured(&data.load_config()?, &mut Turns::new())?;
    if mirrors.is_empty() {
        return Ok(Vec::new());
    }
    let db = database::open(&data.upstream_db())?;
    mirrors.iter().map(|mirror| mirror.status(&db)).collect()
}

/// What came from upstream for a channel.
pub(crate) fn kept_of(data: &DataDir, channel: &Channel) -> anyhow::Result<Vec<Kept>> {
    let path = data.upstream_db();
    kept::of_channel(&database::open(&path)?, channel).with_context(|| format!("reading {}", path.display()))
}

/// What came from upstream and has to stay.
pub(crate) fn kept_contents(data: &DataDir) -> anyhow::Result<Vec<(Channel, Content)>> {
    let path = data.upstream_db();
    if !path.exists() {
        return Ok(Vec::new());
    }
    kept::all(&database::open(&path)?).with_context(|| format!("reading {}", path.display()))
}

/// Forgets how a mirror stands that is no more. What came from upstream is kept.
pub(crate) fn forget(data: &DataDir, name: &str) -> anyhow::Result<()> {
    let path = data.upstream_db();
    if !path.exists() {
        return Ok(());
    }
    follow::state::forget(&mut database::open(&path)?, name)
        .with_context(|| format!("writing {}", path.display()))
}

/// A number that nobody can tell beforehand, which is all that spreads looks.
fn chance() -> u64 {
    let mut bytes = [0; 8];
    // Where there is no chance, looks are not spread.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}

/// Removes what a killed server has left of files that were on their way. Returns the right to do so, which another
/// server on the same data directory may have; then what is there is its.
fn clear(incoming: &Path) -> anyhow::Result<Option<File>> {
    std::fs::create_dir_all(incoming)?;
    let lock = File::open(incoming)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    for entry in std::fs::read_dir(incoming)? {
        std::fs::remove_dir_all(entry?.path())?;
    }
    Ok(Some(lock))
}
