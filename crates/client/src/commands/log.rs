//! `log`: what a ref was.
//!
//! Only the newest publication is proven by evidence. Each one names the one before it by its hash, so that a server
//! can neither change, leave out nor add anything between; where in the log each stands is proven by the log's tiles.

use indicatif::HumanBytes;
use smart_sync_store::codec::{DecodeError, Reader};
use smart_sync_sync::log::merkle::{LogHash, SIZE_MAX};
use smart_sync_sync::note::NOTE_BYTES_MAX;
use smart_sync_sync::record::{COMMITMENT_RANDOM_BYTES, Opening, Publication, Sealed, Unverified};

use super::{Listing, count, open_realm, wait_for};
use crate::args::inspect::LogArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::realm::log_tiles::LogTiles;
use crate::realm::remote::{OTHER_ANSWER_HINT, Remote};
use crate::realm::resolve::RefHead;
use crate::settings::ChannelSettings;
use crate::sync::Surroundings;

/// The most publications of one answer, and the most bytes of it.
const ANSWER_MAX: u64 = 100;
const ANSWER_BYTES_MAX: u64 = ANSWER_MAX * (2 * NOTE_BYTES_MAX as u64 + 80);

/// Lists the publications of a ref, newest first.
pub fn run(args: &LogArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let (realm, settings) = open_realm(&args.tree, config, surroundings)?;
    let output = surroundings.output;
    let head = realm.head(&settings.channel, &settings.reference, output);
    let head = wait_for(surroundings, head)?;
    let get = |remote: &Remote, path: &str, limit: u64| {
        wait_for(surroundings, async { Ok(remote.get(path, limit).await?) })
    };
    let tiles = LogTiles::new(&head.log, &head.remotes, get);
    let mut chain = Chain { seq: head.seq, next: Some(head.leaf) };
    let mut left = args.number;
    while left > 0 && chain.next.is_some() {
        let entries = ask(&head, &settings, chain.seq, surroundings)?;
        let mut listing = Listing::default();
        for entry in entries.iter().take(left as usize) {
            let publication = chain.follow(entry)?;
            tiles.check(entry.index, &LogHash::of_leaf(&entry.leaf))?;
            say(&publication, entry.index, &mut listing, output);
            left -= 1;
        }
        listing.print(output)?;
    }
    Ok(Exit::Success)
}

/// The publications up to a number, newest first, from the first server that has them.
fn ask(
    head: &RefHead,
    settings: &ChannelSettings,
    seq: u64,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<HistoryEntry>, Failure> {
    let (channel, reference) = (settings.channel.to_url_segment(), head.reference.to_url_segment());
    let path = format!("v1/history/{channel}/{reference}?before={}", seq + 1);
    wait_for(surroundings, async {
        let mut last = None;
        for remote in &head.remotes {
            match ask_one(remote, &path).await {
                Ok(notes) => return Ok(notes),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::message(Exit::Network, "no server could be asked")))
    })
}

/// Whether a publication is in the history of a ref whose newest publication is proven.
pub(super) async fn holds(
    remote: &Remote,
    path: &str,
    newest: (u64, LogHash),
    wanted: (u64, LogHash),
) -> Result<bool, Failure> {
    let mut chain = Chain { seq: newest.0, next: Some(newest.1) };
    while chain.seq > wanted.0 {
        for entry in ask_one(remote, &format!("{path}?before={}", chain.seq + 1)).await? {
            if chain.seq == wanted.0 {
                break;
            }
            chain.follow(&entry)?;
        }
    }
    Ok(chain.next == Some(wanted.1))
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
struct HistoryEntry {
    /// Where in the log it stands.
    index: u64,
    /// The leaf that stands there.
    leaf: Vec<u8>,
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
struct Chain {
    /// The number of the next publication.
    seq: u64,
    /// The hash of its note; none after the first publication of all.
    next: Option<LogHash>,
}

impl Chain {
    fn follow(&mut self, entry: &HistoryEntry) -> Result<Publication, Failure> {
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

fn say(publication: &Publication, index: u64, listing: &mut Listing, output: &Output) {
    let Publication { seq, time, content, .. } = publication;
    let manifest = publication.manifest.map(|manifest| format!("blake3:{}", manifest.id));
    let commit = publication.git.map(|git| git.commit.to_string());
    if output.format() == Format::Json {
        return output.event(&serde_json::json!({
            "event": "publication",
            "channel": publication.channel.as_str(),
            "ref": publication.reference.to_string(),
            "seq": seq,
            "leaf": index,
            "time": time.seconds(),
            "content_time": publication.content_time.seconds(),
            "kind": publication.kind.as_str(),
            "manifest": manifest,
            "entries": content.entries,
            "bytes": content.bytes,
            "commit": commit,
        }));
    }
    let Some(manifest) = manifest else {
        return listing.line(&format!("{seq:>5}  {time}  leaf {index}  withdrawn"));
    };
    let entries = count(content.entries, "entry", "entries");
    let commit = commit.map_or_else(String::new, |commit| format!("  commit {commit}"));
    let bytes = HumanBytes(content.bytes);
    listing.line(&format!("{seq:>5}  {time}  leaf {index}  {manifest}  {entries}, {bytes}{commit}"));
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
