//! What a publisher says of a tree that is stored: the publication, and its signatures.
//!
//! The same statement is made on a build host, over the network, and on the server itself.

use smart_sync_store::id::CommitId;

use crate::ingest::Ingested;
use crate::key::{SignError, Signer};
use crate::log::merkle::LogHash;
use crate::name::{Channel, Kind, Origin, RefName};
use crate::note::{Note, NoteError};
use crate::record::{ContentSummary, GitIds, ManifestRef, NoteRecord as _, Publication};
use crate::time::UnixTime;

/// Where a ref stands before something is published to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many publications it has had.
    pub seq: u64,
    /// The leaf of the newest one.
    pub leaf: LogHash,
}

/// What is being published, and to where.
#[derive(Debug, Clone)]
pub struct Target {
    /// The realm.
    pub origin: Origin,
    /// The channel.
    pub channel: Channel,
    /// The ref.
    pub reference: RefName,
    /// What the channel carries.
    pub kind: Kind,
}

/// Why a publication could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The text is not one that can be signed.
    #[error("the publication cannot be signed")]
    Note(#[from] NoteError),
    /// A key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Target {
    /// States that the ref is this tree. `commit` is the commit that it was read from.
    pub fn publication(
        &self,
        tree: &Ingested,
        commit: Option<CommitId>,
        standing: Option<Standing>,
        content_time: UnixTime,
        now: UnixTime,
    ) -> Publication {
        let manifest = tree.manifest;
        Publication {
            manifest: Some(ManifestRef { id: manifest.id, bytes: manifest.root_length }),
            content: ContentSummary { entries: manifest.entries, bytes: manifest.bytes },
            content_time,
            git: commit.zip(tree.git_tree).map(|(commit, tree)| GitIds { commit, tree }),
            ..self.withdrawal(standing, now)
        }
    }

    /// States that the ref is no tree any more.
    pub fn withdrawal(&self, standing: Option<Standing>, now: UnixTime) -> Publication {
        Publication {
            origin: self.origin.clone(),
            channel: self.channel.clone(),
            seq: standing.map_or(1, |standing| standing.seq + 1),
            prev: standing.map(|standing| standing.leaf),
            time: now,
            kind: self.kind.clone(),
            reference: self.reference.clone(),
            manifest: None,
            content: ContentSummary::default(),
            content_time: now,
            meta: None,
            git: None,
        }
    }
}

/// Signs a publication with every key that the channel asks for.
pub fn sign(publication: &Publication, signers: &[&dyn Signer]) -> Result<Vec<u8>, PublishError> {
    let mut note = Note::new(publication.to_text())?;
    for signer in signers {
        note.sign(*signer)?;
    }
    note.sort_signatures();
    Ok(note.to_bytes())
}
