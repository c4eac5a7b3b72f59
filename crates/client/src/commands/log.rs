//! `log`: what a ref was.
//!
//! Only the newest publication is proven by evidence. Each one names the one before it by its hash, so that a server
//! can neither change, leave out nor add anything between.

use indicatif::HumanBytes;
use smart_sync_store::codec::Reader;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::note::NOTE_BYTES_MAX;
use smart_sync_sync::record::{COMMITMENT_RANDOM_BYTES, Publication, Unverified};

use super::{Listing, count, open_realm, wait_for};
use crate::args::inspect::LogArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::realm::remote::{OTHER_ANSWER_HINT, Remote};
use crate::realm::resolve::RefHead;
use crate::settings::ChannelSettings;
use crate::sync::Surroundings;

/// The most publications of one answer, and the most bytes of it.
const ANSWER_MAX: u64 = 100;
const ANSWER_BYTES_MAX: u64 = ANSWER_MAX * (2 * NOTE_BYTES_MAX as u64 + 64);

/// Lists the publications of a ref, newest first.
pub fn run(args: &LogArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let (realm, settings) = open_realm(&args.tree, config, surroundings)?;
    let output = surroundings.output;
    let head = realm.head(&settings.channel, &settings.reference, output);
    let head = wait_for(surroundings, head)?;
    let mut chain = Chain { seq: head.seq, next: Some(head.leaf) };
    let mut left = args.number;
    while left > 0 && chain.next.is_some() {
        let notes = ask(&head, &settings, chain.seq, surroundings)?;
        let mut listing = Listing::default();
        for note in notes.iter().take(left as usize) {
            let publication = chain.follow(note)?;
            say(&publication, &mut listing, output);
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
) -> Result<Vec<Vec<u8>>, Failure> {
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
        for note in ask_one(remote, &format!("{path}?before={}", chain.seq + 1)).await? {
            if chain.seq == wanted.0 {
                break;
            }
            chain.follow(&note)?;
        }
    }
    Ok(chain.next == Some(wanted.1))
}

async fn ask_one(remote: &Remote, path: &str) -> Result<Vec<Vec<u8>>, Failure> {
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

/// The notes of an answer. Each comes as the leaf of the log, and in a private channel with what it seals.
fn decode(bytes: &[u8]) -> Result<Vec<Vec<u8>>, smart_sync_store::codec::DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut notes = Vec::new();
    while !reader.is_empty() {
        let leaf = reader.prefixed("a leaf", NOTE_BYTES_MAX)?;
        reader.prefixed("what opens a seal", COMMITMENT_RANDOM_BYTES)?;
        let note = reader.prefixed("a note", NOTE_BYTES_MAX)?;
        notes.push(if note.is_empty() { leaf } else { note }.to_vec());
    }
    Ok(notes)
}

/// How far a history was followed.
struct Chain {
    /// The number of the next publication.
    seq: u64,
    /// The hash of its note; none after the first publication of all.
    next: Option<LogHash>,
}

impl Chain {
    fn follow(&mut self, note: &[u8]) -> Result<Publication, Failure> {
        let broken = || {
            Failure::message(
                Exit::Refused,
                format!("the history that the server shows does not lead on to number {}", self.seq),
            )
            .hint("nothing was changed; try another mirror with --server, and tell the realm's owner if it persists")
        };
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

fn say(publication: &Publication, listing: &mut Listing, output: &Output) {
    let Publication { seq, time, content, .. } = publication;
    let manifest = publication.manifest.map(|manifest| format!("blake3:{}", manifest.id));
    let commit = publication.git.map(|git| git.commit.to_string());
    if output.format() == Format::Json {
        return output.event(&serde_json::json!({
            "event": "publication",
            "channel": publication.channel.as_str(),
            "ref": publication.reference.to_string(),
            "seq": seq,
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
        return listing.line(&format!("{seq:>5}  {time}  withdrawn"));
    };
    let entries = count(content.entries, "entry", "entries");
    let commit = commit.map_or_else(String::new, |commit| format!("  commit {commit}"));
    listing.line(&format!("{seq:>5}  {time}  {manifest}  {entries}, {}{commit}", HumanBytes(content.bytes)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_store::codec::put_prefixed;

    #[test]
    fn an_answer_is_taken_apart_and_nothing_else() {
        let mut bytes = Vec::new();
        for part in [&b"leaf"[..], b"", b"", b"seal", &[7; COMMITMENT_RANDOM_BYTES], b"note"] {
            put_prefixed(&mut bytes, part);
        }
        assert_eq!(decode(&bytes).unwrap(), [b"leaf".to_vec(), b"note".to_vec()]);
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&[0xff; 12]).is_err());
    }

    #[test]
    fn another_note_than_the_one_that_is_named_ends_the_history() {
        let mut chain = Chain { seq: 2, next: Some(LogHash::of_leaf(b"this")) };
        assert_eq!(chain.follow(b"that").unwrap_err().exit(), Exit::Refused);
        assert_eq!(chain.follow(b"this").unwrap_err().exit(), Exit::Refused, "it is no note");
        let mut ended = Chain { seq: 0, next: None };
        assert_eq!(ended.follow(b"this").unwrap_err().exit(), Exit::Refused);
    }
}
