//! What a ref was: publications as servers show them.
//!
//! Only the newest publication is proven by evidence. Each one names the one before it by its hash, so that a server
//! can neither change, leave out nor add anything between.

use smart_sync_store::codec::{DecodeError, Reader};
use smart_sync_sync::log::merkle::{LogHash, SIZE_MAX};
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::note::NOTE_BYTES_MAX;
use smart_sync_sync::record::{COMMITMENT_RANDOM_BYTES, Opening, Publication, Sealed, Unverified};

use super::remote::{OTHER_ANSWER_HINT, Remote};
use crate::failure::{Exit, Failure};

/// The most publications of one answer, and the most bytes of it.
const ANSWER_MAX: u64 = 100;
const ANSWER_BYTES_MAX: u64 = ANSWER_MAX * (2 * NOTE_BYTES_MAX as u64 + 80);

/// A ref whose history is asked for.
#[derive(Debug, Clone, Copy)]
pub struct History<'a> {
    /// The servers that may know it, in the order in which they are asked.
    pub remotes: &'a [Remote],
    /// Its channel.
    pub channel: &'a Channel,
    /// The ref.
    pub reference: &'a RefName,
}

impl History<'_> {
    /// The publications up to a number, newest first, from the first server that has them.
    pub async fn up_to(&self, seq: u64) -> Result<Vec<HistoryEntry>, Failure> {
        let (channel, reference) = (self.channel.to_url_segment(), self.reference.to_url_segment());
        let path = format!("v1/history/{channel}/{reference}?before={}", seq + 1);
        let mut last = None;
        for remote in self.remotes {
            match ask_one(remote, &path).await {
                Ok(entries) => return Ok(entries),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::message(Exit::Network, "no server could be asked")))
    }

    /// Whether a publication is in the history that ends with one that is proven.
    pub async fn holds(&self, newest: (u64, LogHash), wanted: (u64, LogHash)) -> Result<bool, Failure> {
        let mut chain = Chain::from(newest);
        while chain.seq > wanted.0 {
            for entry in self.up_to(chain.seq).await? {
                if chain.seq == wanted.0 {
                    break;
                }
                chain.follow(&entry)?;
            }
        }
        Ok(chain.next == Some(wanted.1))
    }

    /// The newest publication of which something is true, in the history that ends with one that is proven.
    pub async fn find(
        &self,
        newest: (u64, LogHash),
        is_it: impl Fn(&Publication) -> bool,
    ) -> Result<Option<(u64, LogHash)>, Failure> {
        let mut chain = Chain::from(newest);
        while let Some(mut leaf) = chain.next {
            for entry in self.up_to(chain.seq).await? {
                let seq = chain.seq;
                if is_it(&chain.follow(&entry)?) {
                    return Ok(Some((seq, leaf)));
                }
                let Some(next) = chain.next else { break };
                leaf = next;
            }
        }
        Ok(None)
    }
}

async fn ask_one(remote: &Remote, path: &str) -> Result<Vec<HistoryEntry>, Failure> {
    let bytes = remote.get(path, ANSWER_BYTES_MAX).await?;
    let notes = decode(&bytes).map_err(|error| {
        Failure::new(Exit::Network, error)
            .context(format!("{} does not answer as a smart-sync server does", remote.base()))
            .hint(OTHER_ANSWER_HINT)
    })?;
    if notes.is_empty() {
        let text = format!("{} has no history of this ref", remote.base());
        return Err(Failure::message(Exit::Network, text).hint("try another mirror with --server"));
    }
    Ok(notes)
}

/// A publication as a server shows it; nothing of it is proven.
#[derive(Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Where in the log it stands.
    pub index: u64,
    /// The leaf that stands there.
    pub leaf: Vec<u8>,
    /// What the leaf seals, in a private channel.
    opening: Option<Opening>,
}

impl HistoryEntry {
    /// The note of the publication, if the leaf is that or seals it.
    fn note(&self) -> Option<&[u8]> {
        let Some(opening) = &self.opening else { return Some(&self.leaf) };
        let sealed = Sealed::parse(&self.leaf).ok()?;
        (sealed.commitment == opening.commitment()).then_some(&opening.note)
    }
}

/// The publications of an answer.
fn decode(bytes: &[u8]) -> Result<Vec<HistoryEntry>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while !reader.is_empty() {
        let index = reader.number("the index of a leaf", SIZE_MAX)?;
        let leaf = reader.prefixed("a leaf", NOTE_BYTES_MAX)?.to_vec();
        let random = reader.prefixed("what opens a seal", COMMITMENT_RANDOM_BYTES)?;
        let note = reader.prefixed("a note", NOTE_BYTES_MAX)?;
        let opening = match (random, note) {
            ([], []) => None,
            (random, note) => {
                let random =
                    random.try_into().map_err(|_| DecodeError::invalid("a seal opens with 32 bytes"))?;
                Some(Opening { random, note: note.to_vec() })
            }
        };
        entries.push(HistoryEntry { index, leaf, opening });
    }
    Ok(entries)
}

/// How far a history was followed.
pub struct Chain {
    /// The number of the next publication.
    pub seq: u64,
    /// The hash of its note; none after the first publication of all.
    pub next: Option<LogHash>,
}

impl Chain {
    /// The history that ends with a publication, which was proven.
    pub const fn from((seq, leaf): (u64, LogHash)) -> Self {
        Self { seq, next: Some(leaf) }
    }

    /// Goes on to the next publication, if that is what was shown.
    pub fn follow(&mut self, entry: &HistoryEntry) -> Result<Publication, Failure> {
        let broken = || {
            Failure::message(
                Exit::Refused,
                format!("the history that the server shows does not lead on to number {}", self.seq),
            )
            .hint("nothing was changed; try another mirror with --server, and tell the realm's owner if it persists")
        };
        let note = entry.note().ok_or_else(broken)?;
        if self.next != Some(LogHash::of_leaf(note)) {
            return Err(broken());
        }
        let publication =
            Unverified::<Publication>::parse(note).and_then(|note| note.claims()).map_err(|_| broken())?;
        if publication.seq != self.seq {
            return Err(broken());
        }
        self.seq -= 1;
        self.next = publication.prev;
        Ok(publication)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_store::codec::{put_number, put_prefixed};

    fn plain(leaf: &[u8]) -> HistoryEntry {
        HistoryEntry { index: 7, leaf: leaf.to_vec(), opening: None }
    }

    #[test]
    fn an_answer_is_taken_apart_and_nothing_else() {
        let mut bytes = Vec::new();
        for (index, parts) in
            [(7, [&b"leaf"[..], b"", b""]), (300, [b"seal", &[7; COMMITMENT_RANDOM_BYTES], b"note"])]
        {
            put_number(&mut bytes, index);
            for part in parts {
                put_prefixed(&mut bytes, part);
            }
        }
        let opening = Opening { random: [7; COMMITMENT_RANDOM_BYTES], note: b"note".to_vec() };
        let sealed = HistoryEntry { index: 300, leaf: b"seal".to_vec(), opening: Some(opening) };
        assert_eq!(decode(&bytes).unwrap(), [plain(b"leaf"), sealed]);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&[0xff; 12]).is_err());
    }

    #[test]
    fn another_note_than_the_one_that_is_named_ends_the_history() {
        let mut chain = Chain { seq: 2, next: Some(LogHash::of_leaf(b"this")) };
        assert_eq!(chain.follow(&plain(b"that")).unwrap_err().exit(), Exit::Refused);
        assert_eq!(chain.follow(&plain(b"this")).unwrap_err().exit(), Exit::Refused, "it is no note");
        let mut ended = Chain { seq: 0, next: None };
        assert_eq!(ended.follow(&plain(b"this")).unwrap_err().exit(), Exit::Refused);
    }

    /// Else a server could show the note of one leaf at the place of another.
    #[test]
    fn a_note_that_is_not_what_was_sealed_is_none() {
        let opening = Opening { random: [7; COMMITMENT_RANDOM_BYTES], note: b"note".to_vec() };
        let sealed = |commitment| {
            let hash = LogHash::of_leaf(b"");
            let seal = Sealed { slot: hash, seq: 1, prev: None, commitment };
            HistoryEntry { index: 7, leaf: seal.to_text().into_bytes(), opening: Some(opening.clone()) }
        };
        assert_eq!(sealed(opening.commitment()).note(), Some(&b"note"[..]));
        assert_eq!(sealed(LogHash::of_leaf(b"other")).note(), None);
    }
}
