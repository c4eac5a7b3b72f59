//! Learning what lists of a tree name, while the server serves.
//!
//! A tree of names has tens of thousands of lists, so no request waits for them: a thread of the lowest priority looks
//! again and again whether a tree has changed, and reads the lists that have. What it learnt stays over a restart.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::TryStreamExt as _;
use rusqlite::Connection;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Content, Manifest};
use smart_sync_sync::kinds::pull::PullThrough;
use tokio::runtime::Handle;

use super::Mirrors;
use super::mirror::NamesFrom;
use super::names::{self, Learnt, List};
use crate::http::now;
use crate::priority;
use crate::realm::Realm;
use crate::realm::pages::StorePages;

/// How often it is looked whether a tree has changed.
const POLL: Duration = Duration::from_secs(1);
/// How often a directory is gone through.
const DIRECTORY_EVERY: Duration = Duration::from_secs(600);
/// How long a tree is left alone that could not be read.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// The lists that are taken at once.
const BATCH: usize = 256;
/// The most lists of a tree.
const LISTS_MAX: usize = 1_000_000;
/// The version of a directory that was gone through.
const GONE_THROUGH: &[u8] = b"directory";

/// A thread that learns names; it is told to end when this goes.
pub(crate) struct Learning {
    is_stopped: Arc<AtomicBool>,
    /// Nothing is sent: the thread notices that this end has gone.
    _awake: mpsc::Sender<()>,
}

impl Drop for Learning {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// Starts the thread. Nobody waits for its end: what it is about to learn is learnt again.
pub(crate) fn learn(mirrors: &Arc<Mirrors>) -> anyhow::Result<Learning> {
    let (awake, asleep) = mpsc::channel::<()>();
    let is_stopped = Arc::<AtomicBool>::default();
    let learner = Learner {
        realm: Arc::clone(&mirrors.realm),
        trees: mirrors.pulled().map(|mirror| (mirror.names.clone(), mirror.pull)).collect(),
        is_stopped: Arc::clone(&is_stopped),
    };
    let mut db = super::database::open(&mirrors.realm.data.upstream_db())?;
    let runtime = Handle::current();
    let working = move || {
        priority::lower();
        let _runtime = runtime.enter();
        let mut until = HashMap::new();
        loop {
            learner.go(&mut db, &mut until);
            if asleep.recv_timeout(POLL) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("upstream-names".to_owned())
        .spawn(working)
        .context("starting the thread that learns names")?;
    Ok(Learning { is_stopped, _awake: awake })
}

/// Learns what is named now, for whoever cannot wait until the thread has done it. On a thread of the runtime that may
/// block.
pub(super) fn learn_now(
    realm: &Arc<Realm>,
    names: &NamesFrom,
    pull: &'static dyn PullThrough,
) -> anyhow::Result<()> {
    let mut db = super::database::open(&realm.data.upstream_db())?;
    let learner = Learner { realm: Arc::clone(realm), trees: Vec::new(), is_stopped: Arc::default() };
    learner.look(names, pull, &mut db)
}

/// The manifest that a channel's names are in now; None where there is none.
pub(super) fn newest(realm: &Realm, names: &NamesFrom) -> anyhow::Result<Option<(Domain, ManifestId)>> {
    let NamesFrom::Channel(channel) = names else { return Ok(None) };
    let main = smart_sync_sync::name::RefName::branch("main")?;
    let view = realm.newest_view()?;
    let refs = realm.refs(&view)?;
    let manifest = refs.get(channel, &main).and_then(|state| state.publication.manifest);
    manifest.map(|manifest| Ok((realm.domain(channel)?, manifest.id))).transpose()
}

/// Whether all names are known that there are now.
pub(super) fn is_up_to_date(realm: &Realm, names: &NamesFrom, db: &Connection) -> anyhow::Result<bool> {
    let learnt = names::version(db, &names.key())?;
    Ok(match names {
        NamesFrom::Directory(_) => learnt.is_some(),
        NamesFrom::Channel(_) => match newest(realm, names)? {
            Some((_, manifest)) => learnt.is_some_and(|learnt| learnt == manifest.root_page().as_bytes()),
            None => true,
        },
    })
}

struct Learner {
    realm: Arc<Realm>,
    trees: Vec<(NamesFrom, &'static dyn PullThrough)>,
    is_stopped: Arc<AtomicBool>,
}

impl Learner {
    /// Looks at every tree once that is not to be left alone yet.
    fn go(&self, db: &mut Connection, until: &mut HashMap<NamesFrom, Instant>) {
        let mut seen = HashSet::new();
        for (names, pull) in self.trees.iter().filter(|(names, _)| seen.insert(names.clone())) {
            if until.get(names).is_some_and(|until| *until > Instant::now()) {
                continue;
            }
            let pause = match (self.look(names, *pull, db), names) {
                (Ok(()), NamesFrom::Channel(_)) => continue,
                (Ok(()), NamesFrom::Directory(_)) => DIRECTORY_EVERY,
                (Err(error), _) => {
                    let (tree, error) = (names.key(), format!("{error:#}"));
                    tracing::warn!(tree, error, "learning which files a mirror may fetch");
                    AFTER_FAILURE
                }
            };
            until.insert(names.clone(), Instant::now() + pause);
        }
    }

    fn look(
        &self,
        names: &NamesFrom,
        pull: &'static dyn PullThrough,
        db: &mut Connection,
    ) -> anyhow::Result<()> {
        match names {
            NamesFrom::Channel(_) => {
                let Some((domain, manifest)) = newest(&self.realm, names)? else { return Ok(()) };
                let version = manifest.root_page();
                let known = names::version(db, &names.key())?;
                if known.is_some_and(|known| known == version.as_bytes()) {
                    return Ok(());
                }
                let pages = StorePages::new(Arc::clone(&self.realm.store), domain.clone());
                let tree =
                    Published { realm: &self.realm, domain, tree: Manifest::open(pages, manifest, None)? };
                self.read(&names.key(), &tree, version.as_bytes(), pull, db)
            }
            NamesFrom::Directory(path) => {
                self.read(&names.key(), &Directory { root: path.clone() }, GONE_THROUGH, pull, db)
            }
        }
    }

    /// Reads the lists that changed since the last time.
    fn read<T: Tree>(
        &self,
        key: &str,
        tree: &T,
        version: &[u8],
        pull: &dyn PullThrough,
        db: &mut Connection,
    ) -> anyhow::Result<()> {
        let mut known = names::lists(db, key)?;
        let mut changed = Vec::new();
        for listed in tree.lists(pull)? {
            if known.remove(&listed.path).is_none_or(|known| known != listed.version) {
                changed.push(listed);
            }
        }
        let count = changed.len() + known.len();
        for batch in changed.chunks(BATCH) {
            if self.is_stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let mut learnt = Vec::with_capacity(batch.len());
            for Listed { path, version, list } in batch {
                let read = tree.read(list, pull.list_bytes_max());
                let named = read.and_then(|bytes| pull.read_list(&bytes).map_err(anyhow::Error::msg));
                // One list that cannot be believed does not keep the others from being.
                let files = named.unwrap_or_else(|error| {
                    let (list, error) = (path.escape_ascii().to_string(), format!("{error:#}"));
                    tracing::warn!(tree = key, list, error, "what a list names is not believed");
                    Vec::new()
                });
                learnt.push(Learnt {
                    path: path.clone(),
                    list: Some(List { version: version.clone(), files }),
                });
            }
            names::learn(db, key, &learnt, now())?;
        }
        let gone: Vec<_> = known.into_keys().map(|path| Learnt { path, list: None }).collect();
        names::learn(db, key, &gone, now())?;
        names::settle(db, key, version, now())?;
        tracing::info!(tree = key, lists = count, "learnt which files a mirror may fetch");
        Ok(())
    }
}

/// A list that is there.
pub(super) struct Listed<L> {
    pub(super) path: Vec<u8>,
    /// What tells it from another version.
    version: Vec<u8>,
    /// How it is read.
    pub(super) list: L,
}

/// Where lists are.
pub(super) trait Tree {
    type List;

    fn lists(&self, pull: &dyn PullThrough) -> anyhow::Result<Vec<Listed<Self::List>>>;

    fn read(&self, list: &Self::List, bytes_max: u64) -> anyhow::Result<Vec<u8>>;
}

/// A tree that is published.
pub(super) struct Published<'a> {
    pub(super) realm: &'a Realm,
    pub(super) domain: Domain,
    pub(super) tree: Manifest<StorePages>,
}

impl Tree for Published<'_> {
    type List = Content;

    fn lists(&self, pull: &dyn PullThrough) -> anyhow::Result<Vec<Listed<Content>>> {
        let mut lists = Vec::new();
        for entry in &self.tree {
            let entry = entry?;
            let path = entry.path.as_bytes();
            if pull.is_list(path)
                && let Some(content) = entry.content()
            {
                let version = content.id.as_bytes().to_vec();
                lists.push(Listed { path: path.to_vec(), version, list: *content });
                ensure!(lists.len() <= LISTS_MAX, "there are more than {LISTS_MAX} lists");
            }
        }
        Ok(lists)
    }

    fn read(&self, list: &Content, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
        ensure!(list.size <= bytes_max, "it is longer than {bytes_max} bytes");
        let reading = self.realm.store.read_content(&self.domain, *list, 0..list.size);
        let pieces: Vec<Bytes> = Handle::current().block_on(reading.try_collect())?;
        Ok(pieces.concat())
    }
}

/// A directory of this machine.
struct Directory {
    root: PathBuf,
}

impl Directory {
    fn walk(
        &self,
        below: &Path,
        depth: usize,
        pull: &dyn PullThrough,
        lists: &mut Vec<Listed<PathBuf>>,
    ) -> anyhow::Result<()> {
        let at = self.root.join(below);
        for entry in fs::read_dir(&at).with_context(|| format!("reading {}", at.display()))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() && depth > 1 {
                self.walk(&path, depth - 1, pull, lists)?;
            } else if kind.is_file() && pull.is_list(path.as_os_str().as_bytes()) {
                let stat = entry.metadata()?;
                let version =
                    format!("{} {}.{} {}", stat.ino(), stat.mtime(), stat.mtime_nsec(), stat.size());
                let (bytes, version) = (path.as_os_str().as_bytes().to_vec(), version.into_bytes());
                lists.push(Listed { path: bytes, version, list: path });
                ensure!(lists.len() <= LISTS_MAX, "there are more than {LISTS_MAX} lists");
            }
        }
        Ok(())
    }
}

impl Tree for Directory {
    type List = PathBuf;

    fn lists(&self, pull: &dyn PullThrough) -> anyhow::Result<Vec<Listed<PathBuf>>> {
        let mut lists = Vec::new();
        self.walk(Path::new(""), pull.list_depth(), pull, &mut lists)?;
        Ok(lists)
    }

    fn read(&self, list: &PathBuf, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.root.join(list))?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= bytes_max, "it is longer than {bytes_max} bytes");
        Ok(bytes)
    }
}
