//! Root documents from a server, and the walk along them.
//!
//! Documents are asked for from the newest back to one that is trusted, and verified from there to the newest: a
//! server that withholds or invents one is found out by the hashes that connect them.

use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::Origin;
use smart_sync_sync::note::NOTE_BYTES_MAX;
use smart_sync_sync::record::{Root, Signed, Unverified};
use smart_sync_sync::trust::{ROOT_STEPS_MAX, TrustState, pin_of};

use super::remote::{OTHER_ANSWER_HINT, Remote};
use crate::failure::{Exit, Failure};

/// Root documents as a server shows them, from the oldest that was asked for to the newest it has.
#[derive(Debug)]
pub struct RootChain {
    origin: Origin,
    notes: Vec<Vec<u8>>,
}

impl RootChain {
    /// Asks for the newest document, and for earlier ones until all of `trusted` were seen, or there are no more.
    pub async fn fetch(
        remote: &Remote,
        trusted: impl Fn(&Origin) -> Result<Vec<LogHash>, Failure>,
    ) -> Result<Self, Failure> {
        let newest = fetch_one(remote, "latest").await?;
        let mut root = claims(remote, &newest)?;
        let origin = root.origin.clone();
        let mut missing = trusted(&origin)?;
        let mut notes = vec![newest];
        loop {
            let leaf = pin_of(notes.last().expect("there is the newest one"));
            missing.retain(|trusted| *trusted != leaf);
            if missing.is_empty() || root.version <= 1 || notes.len() >= ROOT_STEPS_MAX {
                break;
            }
            let version = root.version - 1;
            let note = fetch_one(remote, &version.to_string()).await?;
            root = claims(remote, &note)?;
            if root.version != version {
                let text = format!("{} sent version {} for version {version}", remote.base(), root.version);
                return Err(Failure::message(Exit::Network, text));
            }
            notes.push(note);
        }
        notes.reverse();
        Ok(Self { origin, notes })
    }

    /// The realm that the documents say they are of.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The hash of the newest document.
    pub fn newest(&self) -> LogHash {
        pin_of(self.notes.last().expect("a chain has a document"))
    }

    /// Whether a document is in the chain.
    pub fn holds(&self, leaf: &LogHash) -> bool {
        self.notes.iter().any(|note| pin_of(note) == *leaf)
    }

    /// Verifies the chain from a trusted document, which has to be in it, to its end.
    pub fn verify(&self, trusted: &LogHash) -> Result<Signed<Root>, Failure> {
        let place = self.notes.iter().position(|note| pin_of(note) == *trusted).ok_or_else(|| {
            Failure::message(
                Exit::Refused,
                format!("none of the root documents that the server shows is {trusted}"),
            )
            .hint("check the address and the hash; the server may be of another realm, or have begun anew")
        })?;
        let refused = |error| {
            Failure::new(Exit::Refused, error)
                .context("verifying the root documents")
                .hint("nothing was changed; ask whoever runs the realm, and try another mirror")
        };
        let mut root = Unverified::parse(&self.notes[place])
            .and_then(|note| note.verify_pinned(trusted))
            .map_err(refused)?;
        for note in &self.notes[place + 1..] {
            root = Unverified::parse(note).and_then(|note| note.verify_next(&root)).map_err(refused)?;
        }
        Ok(root)
    }
}

/// The hashes that a state trusts: the root document in force, or the pin before the first was seen.
pub fn trusted_by(state: Option<&TrustState>) -> Vec<LogHash> {
    let Some(state) = state else { return Vec::new() };
    state.root().map(Signed::leaf).or_else(|| state.pin()).into_iter().collect()
}

async fn fetch_one(remote: &Remote, version: &str) -> Result<Vec<u8>, Failure> {
    let bytes = remote.get(&format!("v1/root/{version}"), NOTE_BYTES_MAX as u64).await;
    let bytes = bytes.map_err(|error| Failure::from(error).context("asking for the root document"))?;
    Ok(bytes.to_vec())
}

/// What a document says, to find the others by. Nothing of it is believed.
fn claims(remote: &Remote, note: &[u8]) -> Result<Root, Failure> {
    Unverified::<Root>::parse(note).and_then(|note| note.claims()).map_err(|error| {
        Failure::new(Exit::Network, error)
            .context(format!("{} does not answer as a smart-sync server does", remote.base()))
            .hint(OTHER_ANSWER_HINT)
    })
}
