//! The realm that a server keeps: its log, its store, and the rules by which both grow.
//!
//! Everything that the log says is on disk before anybody is told of it. One process at a time appends, under a lock
//! that all processes of the machine share, so that `publish-local`, `gc` and `serve` run side by side; readers work
//! on views and wait for nobody.

pub(crate) mod append;
pub(crate) mod before;
pub(crate) mod bundle;
pub(crate) mod complete;
pub(crate) mod destination;
pub(crate) mod evidence;
pub(crate) mod fetch;
pub(crate) mod index;
mod kept;
pub(crate) mod log_files;
pub(crate) mod pages;
pub(crate) mod peers;
pub(crate) mod refs;
pub(crate) mod secrets;
pub(crate) mod view;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Context;
use smart_sync_store::Store;
use smart_sync_store::catalogue::Timestamp;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::heads::{Head, HeadKey};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::{Channel, ChannelPattern, Origin, RefName};
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{NoteRecord as _, Opening, Publication};
use smart_sync_sync::time::UnixTime;

use crate::config::Config;
use crate::data_dir::DataDir;
use index::Index;
use log_files::LogFiles;
use peers::Peers;
use refs::{RefState, Refs};
use secrets::Secrets;
use view::{Identity, View, catch_up};

/// A realm and everything it consists of.
pub(crate) struct Realm {
    pub(crate) data: DataDir,
    pub(crate) config: Config,
    pub(crate) origin: Origin,
    pub(crate) files: LogFiles,
    pub(crate) secrets: Secrets,
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Peers,
    private: Vec<ChannelPattern>,
    log_key: SecretKey,
    clock_key: Option<SecretKey>,
    index: Mutex<Index>,
    view: RwLock<Arc<View>>,
    /// What readers were shown last.
    served: RwLock<Arc<View>>,
    /// The refs of the newest view that was asked for them.
    newest_refs: RwLock<Arc<Refs>>,
}

/// A publication as the log holds it, with what opens it where it is sealed.
pub(crate) struct Published {
    pub(crate) leaf: LogHash,
    pub(crate) bytes: Vec<u8>,
    pub(crate) opening: Option<Opening>,
    pub(crate) publication: Publication,
}

impl Published {
    /// The note that the publisher signed.
    pub(crate) fn note(&self) -> &[u8] {
        self.opening.as_ref().map_or(&self.bytes, |opening| &opening.note)
    }

    /// What the next publication of the ref names as its predecessor: the hash of the note as a leaf, also where the
    /// log has a commitment in its place, because the publisher knows the note.
    pub(crate) fn note_leaf(&self) -> LogHash {
        LogHash::of_leaf(self.note())
    }
}

impl Realm {
    /// Opens the realm in a data directory.
    pub(crate) async fn open(data: DataDir, now: u64) -> anyhow::Result<Self> {
        let config = data.load_config()?;
        let files = LogFiles::new(data.log());
        let secrets = Secrets::new(data.secrets());
        let checkpoint = files.checkpoint()?.context("the log has no checkpoint")?;
        let size = Checkpoint::parse(Note::parse(&checkpoint)?.text())?.size;
        let first = files.leaf(0, size).context("reading the first leaf of the log")?;
        let mut index = Index::open(&data.index(), &LogHash::of_leaf(&first))?;
        let view = Arc::new(View::load(&files, &mut index, &secrets, None)?);
        let store = Store::open(&data.store(), timestamp(now)).await.context("opening the store")?;
        if view.table.count() > 0 && store.catalogue().packs()?.is_empty() {
            // Something was published, and not a single pack is left of it.
            store.catalogue().raise_doubt()?;
        }
        Ok(Self {
            origin: config.origin.parse().context("origin in server.toml")?,
            private: config.private_patterns()?,
            log_key: load_key(&data, "log")?,
            clock_key: if config.clock_interval_seconds > 0 { Some(load_key(&data, "clock")?) } else { None },
            peers: Peers::new(&config.peers)?,
            index: Mutex::new(index),
            served: RwLock::new(Arc::clone(&view)),
            view: RwLock::new(view),
            newest_refs: RwLock::default(),
            store: Arc::new(store),
            data,
            config,
            files,
            secrets,
        })
    }

    /// The realm as it stands now, for readers. Where the newest state cannot be had, such as on a full disk, or has
    /// not been signed yet by a clock or witness on another machine, the one before it is served: clients would
    /// refuse the newest one until then.
    pub(crate) fn view(&self) -> Arc<View> {
        let newest = self.newest_view().unwrap_or_else(|error| {
            tracing::error!(
                error = format!("{error:#}"),
                "the log has grown, and what is new cannot be served"
            );
            Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
        });
        let served = Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner));
        if Arc::ptr_eq(&served, &newest) || (served.is_signed && !newest.is_signed) {
            return served;
        }
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&newest);
        newest
    }

    /// What [`Self::view`] gives, where the log has not moved since: nobody waits for more than the metadata of a file.
    pub(crate) fn view_at_hand(&self) -> Option<Arc<View>> {
        let newest = Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner));
        let served = Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner));
        let is_newest = Arc::ptr_eq(&served, &newest)
            && Identity::of(&self.files.checkpoint_path()).is_ok_and(|identity| identity == newest.identity);
        is_newest.then_some(served)
    }

    /// The realm as it stands now, for whoever goes on from there.
    pub(crate) fn newest_view(&self) -> anyhow::Result<Arc<View>> {
        let current = Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner));
        if Identity::of(&self.files.checkpoint_path())? == current.identity {
            return Ok(current);
        }
        let mut index = self.index();
        // Another thread may have been faster while this one waited for the index.
        let current = Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner));
        if Identity::of(&self.files.checkpoint_path())? == current.identity {
            return Ok(current);
        }
        let newest = Arc::new(View::load(&self.files, &mut index, &self.secrets, Some(&current))?);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&newest);
        Ok(newest)
    }

    /// Makes a view the newest one. The index follows if it can: what it lacks it reads from the log another time.
    fn advance(&self, view: View) -> Arc<View> {
        let view = Arc::new(view);
        let mut index = self.index();
        if let Err(error) = catch_up(&self.files, &mut index, &self.secrets, view.size) {
            tracing::error!(error = format!("{error:#}"), "the index of the log could not be updated");
        }
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        view
    }

    /// The index of the log.
    pub(crate) fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a channel is invisible without a token.
    pub(crate) fn is_private(&self, channel: &Channel) -> bool {
        self.private.iter().any(|pattern| pattern.matches(channel))
    }

    /// Where a channel's objects are. Each private channel has a domain of its own.
    pub(crate) fn domain(&self, channel: &Channel) -> anyhow::Result<Domain> {
        if self.is_private(channel) {
            return format!("private/{channel}")
                .parse()
                .with_context(|| format!("the channel {channel} has too many parts for a private one"));
        }
        Ok(Domain::public())
    }

    /// The key of a ref in the table of heads. A private channel that was never published to has none.
    pub(crate) fn head_key(&self, channel: &Channel, reference: &RefName) -> anyhow::Result<Option<HeadKey>> {
        if !self.is_private(channel) {
            return Ok(Some(HeadKey::open(channel, reference)));
        }
        let secret = self.secrets.slot_secret(channel)?;
        Ok(secret.map(|secret| HeadKey::sealed(&secret.slot(channel, reference))))
    }

    /// Where a ref stands in a view.
    pub(crate) fn head(
        &self,
        view: &View,
        channel: &Channel,
        reference: &RefName,
    ) -> anyhow::Result<Option<Head>> {
        Ok(self.head_key(channel, reference)?.and_then(|key| view.table.get(&key).cloned()))
    }

    /// The publication at a leaf.
    pub(crate) fn published(&self, index: u64, size: u64) -> anyhow::Result<Published> {
        let bytes = self.files.leaf(index, size)?;
        let leaf = LogHash::of_leaf(&bytes);
        let is_sealed = bytes.starts_with(smart_sync_sync::record::Sealed::HEADER.as_bytes());
        let opening = if is_sealed { Some(self.secrets.opening(&leaf)?) } else { None };
        let note = Note::parse(opening.as_ref().map_or(&bytes, |opening| &opening.note))?;
        let publication = Publication::parse(note.text())?;
        Ok(Published { leaf, bytes, opening, publication })
    }

    /// The newest publication of a ref.
    pub(crate) fn newest(
        &self,
        view: &View,
        channel: &Channel,
        reference: &RefName,
    ) -> anyhow::Result<Option<Published>> {
        self.head(view, channel, reference)?.map(|head| self.published(head.index, view.size)).transpose()
    }

    /// The newest publication of a ref at a time: the newest one whose content is of that time, where its kind dates
    /// trees by that, and else the one that stood there.
    pub(crate) fn newest_at(
        &self,
        view: &View,
        channel: &Channel,
        reference: &RefName,
        time: UnixTime,
    ) -> anyhow::Result<Option<Published>> {
        let Some(key) = self.head_key(channel, reference)? else { return Ok(None) };
        if let Some(newest) = self.newest(view, channel, reference)?
            && kinds::is_dated_by_content(&newest.publication.kind)
        {
            return self.newest_content_at(view, &key, newest, time);
        }
        let leaf = {
            let index = self.index();
            let Some((heads, _)) = index.heads_at(time.seconds(), view.size)? else { return Ok(None) };
            index.history(&key, None, 1, heads)?.first().map(|(_, leaf)| *leaf)
        };
        leaf.map(|leaf| self.published(leaf, view.size)).transpose()
    }

    /// The newest publication of a ref, of which this is the newest one of all, whose content is of a time or before it.
    fn newest_content_at(
        &self,
        view: &View,
        key: &HeadKey,
        newest: Published,
        time: UnixTime,
    ) -> anyhow::Result<Option<Published>> {
        let is_of_then =
            |publication: &Publication| publication.manifest.is_some() && publication.content_time <= time;
        let mut published = newest;
        loop {
            if is_of_then(&published.publication) {
                return Ok(Some(published));
            }
            let before = self.index().history(key, Some(published.publication.seq), 1, view.size)?;
            let Some((_, leaf)) = before.first() else { return Ok(None) };
            published = self.published(*leaf, view.size)?;
        }
    }

    /// Whether a ref of the channel's domain is this manifest now, which means that all of it is here and stays:
    /// nothing is published that is not. Where something may have been lost since, the answer is no, and the
    /// publisher asks for each object instead and sends what is missing.
    pub(crate) fn has_published(&self, channel: &Channel, manifest: ManifestId) -> anyhow::Result<bool> {
        if self.store.catalogue().doubt()?.is_some() {
            return Ok(false);
        }
        let view = self.newest_view()?;
        let domain = self.domain(channel)?;
        for (other, mut refs) in self.refs(&view)?.channels() {
            let is_it =
                |state: &Arc<RefState>| state.publication.manifest.is_some_and(|it| it.id == manifest);
            if self.domain(other)? == domain && refs.any(is_it) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The root documents that a client may lack that last verified a log of `base` leaves.
    pub(crate) fn roots_after(&self, view: &View, base: Option<u64>) -> anyhow::Result<Vec<Vec<u8>>> {
        let leaves = self.index().roots_from(base.unwrap_or(0), view.size)?;
        leaves.into_iter().map(|leaf| self.files.leaf(leaf, view.size)).collect()
    }
}

/// The store's time.
pub(crate) fn timestamp(now: u64) -> Timestamp {
    Timestamp(i64::try_from(now).unwrap_or(i64::MAX))
}

/// A key of the server. It signs without anybody being there, so it has no passphrase.
pub(crate) fn load_key(data: &DataDir, name: &str) -> anyhow::Result<SecretKey> {
    Ok(SecretKey::load(&data.keys().join(format!("{name}.key")), &mut || None)?)
}
