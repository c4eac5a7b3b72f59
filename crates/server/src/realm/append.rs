//! How the log grows: publications, root documents, and the clock's signature.
//!
//! An append holds the lock of the log from reading where a ref stands to writing the checkpoint, so of two
//! publishers who saw the same state one is first and the other is told. The order on disk is: what opens a sealed
//! leaf, sidecars, tiles, checkpoint. Only the last of these makes a publication; a process that is killed before it
//! leaves nothing that anybody would see.

use std::sync::Arc;

use anyhow::{Context, ensure};
use smart_sync_sync::kinds;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::heads::{Head, HeadKey, HeadsTable};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::note::{Note, VerifiedBy};
use smart_sync_sync::record::{Heads, Publication, Root, RootRef, Sealed, Signed, Unverified};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::wire::submission::Sidecar;

use super::peers::BehindPeer;
use super::secrets::Secrets;
use super::view::View;
use super::{Realm, index};
use crate::durable;

/// How far a publisher's clock may be ahead of this server's.
const AHEAD_SECONDS_MAX: u64 = 600;

/// Why something was not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// Somebody else published in between.
    #[error("{0}")]
    Moved(String),
    /// It is not right.
    #[error("{0}")]
    Refused(String),
    /// A mirror has more of the log than this server.
    #[error(transparent)]
    Behind(#[from] BehindPeer),
    /// The server could not.
    #[error(transparent)]
    Fault(#[from] anyhow::Error),
}

impl Realm {
    /// Appends a publication whose tree has been found complete, and makes it durable.
    pub(crate) fn append_publication(
        &self,
        note: &[u8],
        sidecars: &[Sidecar],
        now: u64,
    ) -> Result<(Arc<View>, u64), AppendError> {
        let _lock = self.data.lock()?;
        let view = self.newest_view()?;
        self.peers.check(&view)?;
        let publication = self.check_publication(&view, note, now)?;
        let leaf = self.leaf_of(&view, &publication)?;
        let hash = LogHash::of_leaf(&leaf.bytes);
        for sidecar in sidecars {
            self.keep_sidecar(&hash, sidecar)?;
        }
        let seq = publication.record().seq;
        let head = Head { key: leaf.key, seq, index: view.size, leaf: hash };
        let table = view.table.with([head]);
        let index = view.size;
        let time = time_of_its_own(publication.record(), &view, now);
        Ok((self.grow(&view, leaf.bytes, table, Arc::clone(&view.root), time)?, index))
    }

    /// Whether a note is a publication that may be appended to this view.
    pub(crate) fn check_publication(
        &self,
        view: &View,
        note: &[u8],
        now: u64,
    ) -> Result<Signed<Publication>, AppendError> {
        let refused = |error: &dyn std::fmt::Display| AppendError::Refused(error.to_string());
        let unverified = Unverified::<Publication>::parse(note).map_err(|error| refused(&error))?;
        let claims = unverified.claims().map_err(|error| refused(&error))?;
        let channel = claims.channel;
        let signed = unverified.verify(&view.root, &channel, view.size).map_err(|error| refused(&error))?;
        let publication = signed.record();
        if publication.time.seconds() > now + AHEAD_SECONDS_MAX {
            return Err(AppendError::Refused(
                "the publication's time is in the future; set the publisher's clock".to_owned(),
            ));
        }
        let newest = self.newest(view, &channel, &publication.reference)?;
        let (seq, prev) =
            newest.as_ref().map_or((0, None), |newest| (newest.publication.seq, Some(newest.note_leaf())));
        if publication.seq != seq + 1 || publication.prev != prev {
            return Err(AppendError::Moved(format!(
                "{channel} {} is at number {seq} now, and this would be number {}: somebody else published in \
                 between; publish again",
                publication.reference, publication.seq
            )));
        }
        if let Some(newest) = newest {
            if newest.publication.kind != publication.kind {
                return Err(AppendError::Refused(format!(
                    "{channel} {} is of the kind {}, which does not change",
                    publication.reference, newest.publication.kind
                )));
            }
            if newest.publication.manifest.is_none() && publication.reference.is_tag() {
                return Err(AppendError::Refused("a tag that was withdrawn is not used again".to_owned()));
            }
        }
        Ok(signed)
    }

    fn leaf_of(&self, view: &View, publication: &Signed<Publication>) -> anyhow::Result<Leaf> {
        let record = publication.record();
        if !self.is_private(&record.channel) {
            let key = HeadKey::open(&record.channel, &record.reference);
            return Ok(Leaf { key, bytes: publication.to_bytes() });
        }
        let secret = self.secrets.make_slot_secret(&record.channel)?;
        let opening = Secrets::seal(publication.to_bytes())?;
        let slot = secret.slot(&record.channel, &record.reference);
        let key = HeadKey::sealed(&slot);
        let prev = view.table.get(&key).map(|head| head.leaf);
        let sealed = Sealed { slot, seq: record.seq, prev, commitment: opening.commitment() };
        let bytes = sealed.to_text().into_bytes();
        self.secrets.keep(&LogHash::of_leaf(&bytes), &opening)?;
        Ok(Leaf { key, bytes })
    }

    /// Appends the next root document.
    pub(crate) fn append_root(&self, note: &[u8], now: u64) -> Result<Arc<View>, AppendError> {
        let _lock = self.data.lock()?;
        let view = self.newest_view()?;
        self.peers.check(&view)?;
        let refused = |error: &dyn std::fmt::Display| AppendError::Refused(error.to_string());
        let root = Unverified::<Root>::parse(note)
            .and_then(|root| root.verify_next(&view.root))
            .map_err(|error| refused(&error))?;
        if root.record().expires.seconds() <= now {
            return Err(AppendError::Refused("the root document has expired already".to_owned()));
        }
        let bytes = root.to_bytes();
        Ok(self.grow(&view, bytes, HeadsTable::clone(&view.table), Arc::new(root), now)?)
    }

    /// Appends a leaf and the heads that follow from it. Once the checkpoint is written, nothing that fails makes the
    /// append undone, so nothing that fails is reported as a failure of it.
    fn grow(
        &self,
        view: &View,
        leaf: Vec<u8>,
        table: HeadsTable,
        root: Arc<Signed<Root>>,
        now: u64,
    ) -> anyhow::Result<Arc<View>> {
        let now = unix_time(now)?;
        let heads = Heads {
            // Time does not go back, whatever the machine's clock does.
            time: now.max(view.heads.time),
            prev: Some(view.heads_hash()),
            root: RootRef { version: root.record().version, leaf: root.leaf() },
            table: table.root(),
            count: table.count(),
        };
        let edge = self.files.write_leaves(&view.edge, &[leaf, heads.to_text().into_bytes()])?;
        let checkpoint = Checkpoint { origin: self.origin.clone(), size: edge.size(), root: edge.root() };
        let checkpoint = self.sign_checkpoint(&checkpoint, heads.time)?;
        self.files.write_checkpoint(&checkpoint)?;
        Ok(self.advance(View::after(&self.files, checkpoint, edge, heads, table, root)?))
    }

    fn sign_checkpoint(&self, checkpoint: &Checkpoint, time: UnixTime) -> anyhow::Result<Vec<u8>> {
        let mut note = Note::new(checkpoint.to_text())?;
        note.sign(&self.log_key).context("signing the checkpoint")?;
        if let Some(clock) = &self.clock_key {
            note.cosign(clock, time).context("signing the checkpoint with the clock key")?;
        }
        Ok(note.to_bytes())
    }

    /// Signs the newest checkpoint again with the time of now, when the clock runs in this server.
    pub(crate) fn tick(&self, now: u64) -> anyhow::Result<()> {
        let Some(clock) = &self.clock_key else { return Ok(()) };
        let _lock = self.data.lock()?;
        let view = self.newest_view()?;
        self.peers.check(&view)?;
        // The clock stands for the table, so it looks at the log itself and not at what the index made of it.
        ensure!(view.table.root() == view.heads.table, "the table of heads does not follow from the log");
        let mut note = Note::parse(&view.checkpoint)?;
        note.cosign(clock, unix_time(now)?.max(view.heads.time))?;
        self.files.write_checkpoint(&note.to_bytes())
    }

    /// Takes over the signature of a clock or witness on the newest checkpoint.
    pub(crate) fn add_cosignature(&self, note: &[u8]) -> Result<(), AppendError> {
        let refused = |text: &str| AppendError::Refused(text.to_owned());
        let _lock = self.data.lock()?;
        let view = self.newest_view()?;
        self.peers.check(&view)?;
        let offered = Note::parse(note).map_err(|error| AppendError::Refused(error.to_string()))?;
        let mut checkpoint = Note::parse(&view.checkpoint).context("the own checkpoint")?;
        if offered.text() != checkpoint.text() {
            return Err(AppendError::Moved("the log has grown; sign the newest checkpoint".to_owned()));
        }
        let root = view.root.record();
        let keys: Vec<_> =
            root.clock.keys.iter().chain(root.witness.iter().flat_map(|role| &role.keys)).collect();
        let signed = offered
            .verified_by(keys.iter().copied())
            .map_err(|error| AppendError::Refused(error.to_string()))?;
        if signed.is_empty() {
            return Err(refused("no clock or witness key of the root document has signed this"));
        }
        let own = checkpoint.clone();
        let own = own.verified_by(keys).context("the own checkpoint")?;
        // An older signature may be sent again by anybody; it must not make the checkpoint look older.
        let is_newer = |by: &VerifiedBy<'_>| !own.iter().any(|own| own.key == by.key && own.time >= by.time);
        for by in signed.iter().filter(|by| is_newer(by)) {
            checkpoint.take_over(&offered, by.key);
        }
        Ok(self.files.write_checkpoint(&checkpoint.to_bytes())?)
    }

    fn keep_sidecar(&self, leaf: &LogHash, sidecar: &Sidecar) -> anyhow::Result<()> {
        durable::write(&self.sidecar_path(leaf, &sidecar.name), &sidecar.bytes)
    }

    /// A sidecar of a publication, if it has one.
    pub(crate) fn sidecar(&self, leaf: &LogHash, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.sidecar_path(leaf, name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn sidecar_path(&self, leaf: &LogHash, name: &str) -> std::path::PathBuf {
        self.data.attachments().join(format!("{}.{name}", index::file_name(leaf)))
    }
}

/// The time of the heads after a publication. One that is found by the day of its content is shown as of a second, so that it
/// needs one in which nothing else stands at its ref.
fn time_of_its_own(publication: &Publication, view: &View, now: u64) -> u64 {
    let last = view.heads.time.seconds();
    if kinds::is_dated_by_content(&publication.kind) && (now..now + AHEAD_SECONDS_MAX / 2).contains(&last) {
        return last + 1;
    }
    now
}

struct Leaf {
    key: HeadKey,
    bytes: Vec<u8>,
}

fn unix_time(now: u64) -> anyhow::Result<UnixTime> {
    UnixTime::new(now).context("the clock of this machine is beyond the year 9999")
}
