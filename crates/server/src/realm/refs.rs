//! All refs of a view, with what was last published to them.
//!
//! Reading a publication costs a leaf, and there may be very many refs, so a view makes its list when it is first
//! asked for it and takes over from the list before it whatever has not moved.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use smart_sync_sync::log::heads::{Head, HeadKey};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::record::Publication;

use super::Realm;
use super::view::View;

/// A ref and its newest publication.
#[derive(Debug)]
pub(crate) struct RefState {
    /// Where it stands.
    pub(crate) head: Head,
    /// What was published last.
    pub(crate) publication: Publication,
}

/// All refs, private ones included, in the order of channel and ref.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    by_channel: BTreeMap<Channel, BTreeMap<RefName, Arc<RefState>>>,
}

impl Refs {
    /// The refs one after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<RefState>> {
        self.by_channel.values().flat_map(BTreeMap::values)
    }

    /// The channels in their order, each with its refs.
    pub(crate) fn channels(&self) -> impl Iterator<Item = (&Channel, impl Iterator<Item = &Arc<RefState>>)> {
        self.by_channel.iter().map(|(channel, refs)| (channel, refs.values()))
    }

    /// The refs of a channel.
    pub(crate) fn of_channel(&self, channel: &Channel) -> impl Iterator<Item = &Arc<RefState>> {
        self.by_channel.get(channel).into_iter().flat_map(BTreeMap::values)
    }

    /// One ref.
    pub(crate) fn get(&self, channel: &Channel, reference: &RefName) -> Option<&Arc<RefState>> {
        self.by_channel.get(channel)?.get(reference)
    }
}

impl View {
    /// All channels and refs, where somebody has asked for them before.
    pub(crate) fn refs_at_hand(&self) -> Option<&Arc<Refs>> {
        self.refs.get()
    }
}

impl Realm {
    /// All channels and refs of a view, private ones included.
    pub(crate) fn refs(&self, view: &View) -> anyhow::Result<Arc<Refs>> {
        if let Some(refs) = view.refs.get() {
            return Ok(Arc::clone(refs));
        }
        let before = self.newest_refs.read().unwrap_or_else(PoisonError::into_inner).clone();
        let before: HashMap<LogHash, &Arc<RefState>> =
            before.iter().map(|state| (state.head.leaf, state)).collect();
        let mut refs = Refs::default();
        for head in self.heads_with_names(view)? {
            let state = if let Some(state) = before.get(&head.leaf) {
                Arc::clone(state)
            } else {
                let publication = self.published(head.index, view.size)?.publication;
                Arc::new(RefState { head, publication })
            };
            let (channel, reference) = (&state.publication.channel, &state.publication.reference);
            refs.by_channel.entry(channel.clone()).or_default().insert(reference.clone(), state);
        }
        let refs = Arc::new(refs);
        // Of two threads that made the list at once, either may be first.
        *self.newest_refs.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&refs);
        Ok(Arc::clone(view.refs.get_or_init(|| refs)))
    }

    /// The heads of which it is known what they stand for.
    fn heads_with_names(&self, view: &View) -> anyhow::Result<Vec<Head>> {
        let sealed = self.index().sealed_refs()?;
        let sealed: std::collections::HashSet<&str> = sealed.iter().map(|(key, ..)| key.as_str()).collect();
        let has_name = |key: &HeadKey| key.channel_and_ref().is_some() || sealed.contains(key.as_str());
        Ok(view.table.heads().iter().filter(|head| has_name(&head.key)).cloned().collect())
    }
}
