//! Repositories read from a server on loopback that imitates GitHub, with every fault a server can have.
//!
//! What the server says comes from a real repository through the git program, which is thus the oracle for every id.

mod faults;
mod limits;
mod reading;
mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{Address, Clock, Notice, Options, Repository, SourceError, VerifiedBlob};
use crate::failure::{Exit, Failure};
use crate::reference;
use crate::token::Token;
use server::Server;
use smart_sync_store::id::BlobId;

/// A clock that never waits: pauses end at once and are written down, timeouts end when the test says so.
struct TestClock {
    now: Mutex<Timestamp>,
    pauses: Mutex<Vec<Duration>>,
    expired: watch::Sender<bool>,
}

/// A client of a server, and what it told.
struct Client {
    repository: Repository,
    clock: Arc<TestClock>,
    told: Arc<Mutex<Vec<String>>>,
    folder: Arc<tempfile::TempDir>,
}

/// A row of a tree: path, mode, and the content or what tells it from others.
type Shown = (String, String, String);

/// The second in which every test begins.
const NOW: i64 = 1_798_760_000;

impl Client {
    fn new(server: &Server) -> Self {
        Self::in_folder(server.address(), Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Another run on the same machine.
    fn again(&self, server: &Server) -> Self {
        Self::in_folder(server.address(), self.folder.clone())
    }

    fn of(address: Address) -> Self {
        Self::in_folder(address, Arc::new(tempfile::tempdir().unwrap()))
    }

    fn in_folder(address: Address, folder: Arc<tempfile::TempDir>) -> Self {
        let clock = Arc::new(TestClock {
            now: Mutex::new(Timestamp::from_second(NOW).unwrap()),
            pauses: Mutex::default(),
            expired: watch::Sender::new(false),
        });
        let options = Options {
            token: Some(Token::parse("ghp_secret", "test").unwrap()),
            folder: folder.path().to_owned(),
            connections: 4,
            stall: Duration::from_secs(30),
            rate_limit_wait: Duration::from_secs(60),
            clock: clock.clone(),
        };
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = told.clone();
        let tell = Arc::new(move |notice: Notice<'_>| kept.lock().unwrap().push(name(&notice)));
        Self { repository: Repository::new(address, &options, tell).unwrap(), clock, told, folder }
    }

    /// The notices so far, by their names.
    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// Resolves a ref, lists its tree, downloads all of it, and returns each path with its mode and content.
    async fn read(&self, reference: &str) -> Result<Vec<Shown>, SourceError> {
        let head = self.repository.resolve(&reference::parse(reference).unwrap()).await?;
        let tree = self.repository.tree(&head).await?;
        let mut contents = std::collections::HashMap::<BlobId, Vec<u8>>::new();
        let mut sink = |blob: VerifiedBlob| {
            let (id, size) = (blob.id, blob.size);
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut blob.into_reader(), &mut bytes)?;
            let hasher = sha1::Digest::chain_update(super::tree_id::blob_hasher(size), &bytes);
            assert_eq!(super::tree_id::blob_id(hasher), id, "a wrong blob came");
            assert!(contents.insert(id, bytes).is_none(), "a blob came twice");
            Ok(())
        };
        self.repository.download(&tree, &tree.entries, &mut sink).await?;
        let rows = tree.entries.iter().map(|entry| {
            let content = match entry.node {
                super::RemoteNode::Blob { id, .. } => brief(&contents[&id]),
                super::RemoteNode::Submodule(commit) => commit.to_string(),
                super::RemoteNode::Directory => String::new(),
            };
            (entry.path.to_string(), format!("{:06o}", entry.mode.bits()), content)
        });
        Ok(rows.collect())
    }

    /// The exit status and the message that reading ends with.
    async fn failure(&self, reference: &str) -> (Exit, String) {
        let failure = Failure::from(self.read(reference).await.expect_err("it was read"));
        (failure.exit(), failure.messages().next().unwrap())
    }
}

impl TestClock {
    fn pauses(&self) -> Vec<u64> {
        self.pauses.lock().unwrap().iter().map(Duration::as_secs).collect()
    }

    /// Ends every timeout, those that begin later too.
    fn expire(&self) {
        self.expired.send_replace(true);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn pause(&self, length: Duration) -> BoxFuture<'static, ()> {
        self.pauses.lock().unwrap().push(length);
        let mut now = self.now.lock().unwrap();
        *now = now.checked_add(length).unwrap();
        Box::pin(std::future::ready(()))
    }

    fn timeout(&self, _: Duration) -> BoxFuture<'static, ()> {
        let mut expired = self.expired.subscribe();
        Box::pin(async move {
            if expired.wait_for(|expired| *expired).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// A content that is short, or what tells it from others.
fn brief(content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) if text.len() <= 100 => text.to_owned(),
        _ => format!("{} bytes, {}", content.len(), smart_sync_store::id::ObjectId::of(content)),
    }
}

fn name(notice: &Notice<'_>) -> String {
    match notice {
        Notice::Waiting { .. } => "waiting".to_owned(),
        Notice::Retrying { .. } => "retrying".to_owned(),
        Notice::ListingInParts => "listing in parts".to_owned(),
        Notice::UsingGit { error } => format!("using git: {error}"),
        Notice::TokenWithheld { host } => format!("token withheld from {host}"),
    }
}
