//! Putting evidence together from what the realm has.

use smart_sync_sync::evidence::{BuildError, DatedIndexes, Evidence, Inquiry, LogReader, Private, build};
use smart_sync_sync::log::heads::HeadKey;
use smart_sync_sync::log::merkle::{LogHash, Node, NodeReader};
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::time::UnixTime;

use super::Realm;
use super::log_files::LogFiles;
use super::view::View;

/// What is asked, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) channel: &'a Channel,
    /// Whether the asker may know of the channel.
    pub(crate) is_visible: bool,
    pub(crate) reference: &'a RefName,
    /// The log size that the asker knows.
    pub(crate) base: Option<u64>,
    /// The time as of which the ref is asked for.
    pub(crate) at: Option<UnixTime>,
}

/// The answer to a client that has seen this very log: the checkpoint with the clock's newest signature.
pub(crate) fn short_evidence(view: &View) -> Evidence {
    Evidence::Unchanged { checkpoint: view.checkpoint.to_vec() }
}

/// Evidence for where a ref stands, or stood at a time.
pub(crate) fn evidence(realm: &Realm, view: &View, question: Question<'_>) -> anyhow::Result<Evidence> {
    let Question { channel, is_visible, reference, base, at } = question;
    // A private channel that was never published to is answered as any channel that is not there.
    let key = if is_visible { realm.head_key(channel, reference)? } else { None };
    let key = key.unwrap_or_else(|| HeadKey::open(channel, reference));
    let (dated, dated_table) = match at {
        Some(at) => {
            let index = realm.index();
            let found = index.heads_at(at.seconds(), view.size)?;
            let (found, next) = match found {
                Some((found, next)) => (Some(found), next),
                // The log is younger than that: its first heads leaf shows it.
                None => (None, index.heads_at(u64::MAX, 2)?.map(|(first, _)| first)),
            };
            let table = index.table(found.map_or(0, |found| found + 1))?;
            (Some(DatedIndexes { found, next }), Some(table))
        }
        None => (None, None),
    };
    let table = dated_table.as_ref().unwrap_or(&view.table);
    let private = match realm.secrets.slot_secret(channel)? {
        Some(secret) if is_visible && realm.is_private(channel) => {
            let head = table.get(&key);
            let opening = head.map(|head| realm.secrets.opening(&head.leaf)).transpose()?;
            Some(Private { secret, opening })
        }
        _ => None,
    };
    let inquiry = Inquiry {
        checkpoint: view.checkpoint.to_vec(),
        size: view.size,
        base: base.unwrap_or(0),
        roots: realm.roots_after(view, base)?,
        key,
        table,
        dated,
        private,
    };
    let log = LogAt { files: &realm.files, size: view.size };
    let evidence = build(&log, inquiry).map_err(|error| match error {
        BuildError::Log(error) => error,
        BuildError::Inquiry(error) => error.into(),
    })?;
    Ok(Evidence::Full(Box::new(evidence)))
}

/// The log at a size, for what puts evidence together.
pub(crate) struct LogAt<'a> {
    pub(crate) files: &'a LogFiles,
    pub(crate) size: u64,
}

impl NodeReader for LogAt<'_> {
    type Error = anyhow::Error;

    fn node(&self, node: Node) -> anyhow::Result<LogHash> {
        Ok(self.files.nodes(self.size).node(node)?)
    }
}

impl LogReader for LogAt<'_> {
    fn leaf(&self, index: u64) -> anyhow::Result<Vec<u8>> {
        self.files.leaf(index, self.size)
    }
}
