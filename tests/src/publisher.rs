//! A publisher on another machine, put together by hand: each step of a publication can be left out or falsified.

use std::path::Path;

use smart_sync_store::manifest::{Content, Fidelity, FileTime, ManifestSummary};
use smart_sync_store::object::ObjectKey;
use smart_sync_store::pack::VerifiedPack;
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{Destination, DestinationError, IngestOptions, Ingested, ingest};
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::publish::{Standing, Target, sign};
use smart_sync_sync::record::Publication;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::wire::locate::{self, Wanted};
use smart_sync_sync::wire::submission::Submission;

use crate::environment::TestEnvironment;
use crate::http::{self, Answer};

/// The time of a publication: a server accepts one from its past.
const NOW: u64 = 1_767_300_000;

/// A publisher with a key and a token.
pub struct Publisher<'environment> {
    environment: &'environment TestEnvironment,
    url: String,
    token: Option<String>,
    key: SecretKey,
    origin: String,
}

/// A publication that was sent, and the server's answer.
#[derive(Debug)]
pub struct Sent {
    /// What it says.
    pub publication: Publication,
    /// The signed note.
    pub note: Vec<u8>,
    /// The answer.
    pub answer: Answer,
}

impl Sent {
    /// Where the ref stands after this publication, if it was accepted and the channel is public.
    pub fn standing(&self) -> Standing {
        Standing { seq: self.publication.seq, leaf: LogHash::of_leaf(&self.note) }
    }
}

impl<'environment> Publisher<'environment> {
    /// A publisher for the server at a URL.
    pub fn new(
        environment: &'environment TestEnvironment,
        url: &str,
        origin: &str,
        key: &Path,
        token: Option<&str>,
    ) -> Self {
        let key = SecretKey::load(key, &mut || None).expect("the key has no passphrase");
        let (url, origin, token) = (url.to_owned(), origin.to_owned(), token.map(str::to_owned));
        Self { environment, url, token, key, origin }
    }

    /// The same publisher with another key.
    #[must_use]
    pub fn with_key(self, key: SecretKey) -> Self {
        Self { key, ..self }
    }

    /// What is being published to a ref, written `branch:main`.
    pub fn target(&self, channel: &str, reference: &str) -> Target {
        Target {
            origin: self.origin.parse().expect("the origin is a name"),
            channel: channel.parse().expect("the channel is a name"),
            reference: reference.parse().expect("the ref is a name"),
            kind: "repo".parse().expect("a kind"),
        }
    }

    /// Uploads a directory to a channel.
    pub fn upload(&self, channel: &str, directory: &Path) -> Ingested {
        let options = DirectoryOptions {
            fidelity: Fidelity::Git,
            exclusions: Exclusions::default(),
            now: FileTime { seconds: i64::MAX, nanoseconds: 0 },
        };
        let mut source = DirectorySource::open(directory, options, ContentCache::default())
            .expect("the directory can be opened");
        let mut destination = Upload { publisher: self, channel };
        ingest(&mut source, &mut destination, IngestOptions::default()).expect("the upload is accepted")
    }

    /// States that a ref is a tree that was uploaded.
    pub fn publication(&self, target: &Target, tree: &Ingested, standing: Option<Standing>) -> Publication {
        let now = UnixTime::new(NOW).expect("a time");
        target.publication(tree, None, standing, now, now)
    }

    /// Signs a publication and sends it.
    #[track_caller]
    pub fn submit(&self, publication: Publication) -> Sent {
        let note = sign(&publication, &[&self.key]).expect("a publication can be signed");
        let answer = self.submit_note(&note);
        Sent { publication, note, answer }
    }

    /// Sends a note.
    #[track_caller]
    pub fn submit_note(&self, note: &[u8]) -> Answer {
        let submission = Submission { note: note.to_vec(), sidecars: Vec::new() };
        self.send("POST", "v1/publish", &submission.encode())
    }

    /// Uploads a directory and publishes it.
    #[track_caller]
    pub fn publish(
        &self,
        channel: &str,
        reference: &str,
        directory: &Path,
        standing: Option<Standing>,
    ) -> Sent {
        let tree = self.upload(channel, directory);
        self.submit(self.publication(&self.target(channel, reference), &tree, standing))
    }

    /// Sends a body.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        http::send(self.environment, method, &format!("{}/{path}", self.url), self.token.as_deref(), body)
    }

    /// Asks for something.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        http::get(self.environment, &format!("{}/{path}", self.url), self.token.as_deref())
    }
}

/// A channel on the server as a destination.
struct Upload<'a> {
    publisher: &'a Publisher<'a>,
    channel: &'a str,
}

impl Upload<'_> {
    fn path(&self, verb: &str, rest: &str) -> String {
        format!("v1/{verb}/{}{rest}", self.channel.replace('/', "%2F"))
    }
}

fn answers(answer: &Answer) -> Result<Vec<bool>, DestinationError> {
    if answer.status != 200 {
        return Err(format!("{}: {}", answer.status, answer.text()).into());
    }
    Ok(answer.body.iter().map(|byte| *byte == 1).collect())
}

impl Destination for Upload<'_> {
    fn missing(&mut self, keys: &[ObjectKey]) -> Result<Vec<bool>, DestinationError> {
        let body: Vec<u8> =
            keys.iter().flat_map(|key| [&[key.kind.code()][..], key.id.as_bytes()].concat()).collect();
        answers(&self.publisher.send("POST", &self.path("missing", ""), &body))
    }

    fn missing_contents(&mut self, contents: &[Content]) -> Result<Vec<bool>, DestinationError> {
        let wanted: Vec<_> =
            contents.iter().map(|content| Wanted { id: content.id, size: content.size }).collect();
        let body = locate::encode(&wanted);
        answers(&self.publisher.send("POST", &self.path("missing-contents", ""), &body))
    }

    fn has_manifest(&mut self, manifest: &ManifestSummary) -> Result<bool, DestinationError> {
        let path = self.path("has-manifest", &format!("/{}", manifest.id));
        match self.publisher.get(&path).status {
            200 => Ok(true),
            404 => Ok(false),
            status => Err(format!("has-manifest was answered with {status}").into()),
        }
    }

    fn put_pack(&mut self, pack: &VerifiedPack) -> Result<(), DestinationError> {
        let path = self.path("pack", &format!("/{}", pack.id()));
        let answer = self.publisher.send("PUT", &path, pack.bytes());
        if matches!(answer.status, 200 | 201) { Ok(()) } else { Err(answer.text().into()) }
    }
}
