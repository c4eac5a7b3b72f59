//! A realm with a log that grows as a test says, well or badly.

use std::collections::HashMap;

use super::{CHANNEL, ORIGIN, after, main_branch, root, secret, sign};
use crate::evidence::{DatedIndexes, FullEvidence, Inquiry, LogReader, Private, build};
use crate::log::audit::LogAudit;
use crate::log::checkpoint::Checkpoint;
use crate::log::heads::{Head, HeadKey, HeadsTable};
use crate::log::merkle::{LogHash, NoSuchNode, Node, NodeReader, NodesInMemory};
use crate::log::proof::{needed, prove};
use crate::name::{Channel, RefName};
use crate::note::Note;
use crate::record::{
    Heads, LeafKind, Opening, Publication, Root, RootRef, Sealed, Signed, SlotSecret, Unverified,
};
use crate::time::UnixTime;
use crate::trust::{Question, TrustState};

/// The channel of the realm whose publications are sealed.
pub const PRIVATE_CHANNEL: &str = "repos/private";

/// A realm with a log that grows as a test says. What it does not check, it lets a test do wrongly.
#[derive(Debug, Clone)]
pub struct TestRealm {
    leaves: Vec<Vec<u8>>,
    heads: HashMap<HeadKey, Head>,
    /// The indexes of heads leaves, with what they say and their tables.
    batches: Vec<(u64, Heads, HeadsTable)>,
    roots: Vec<Signed<Root>>,
    previous: HashMap<HeadKey, Signed<Publication>>,
    openings: HashMap<HeadKey, Opening>,
    secret: SlotSecret,
}

impl Default for TestRealm {
    fn default() -> Self {
        Self::new()
    }
}

impl TestRealm {
    /// A realm whose log holds the first root document.
    pub fn new() -> Self {
        Self::with_root(|_| {})
    }

    /// A realm whose log holds a first root document that is changed at will, signed by two of its three keys.
    pub fn with_root(change: impl FnOnce(&mut Root)) -> Self {
        let mut root = root();
        change(&mut root);
        let bytes = sign(&root, &["root-a", "root-b"]);
        let signed = Unverified::<Root>::parse(&bytes).and_then(Unverified::verify_own);
        let root = signed.expect("a sound root");
        Self {
            leaves: vec![root.to_bytes()],
            heads: HashMap::new(),
            batches: Vec::new(),
            roots: vec![root],
            previous: HashMap::new(),
            openings: HashMap::new(),
            secret: SlotSecret([42; 32]),
        }
    }

    /// A realm with one publication of the branch `main`, heads and all.
    pub fn with_main() -> Self {
        let mut realm = Self::new();
        realm.publish(&main_branch(), 1);
        realm.heads(after(60));
        realm
    }

    /// What a machine knows that was given the hash of the first root.
    pub fn pinned(&self) -> TrustState {
        TrustState::pinned(ORIGIN.parse().expect("the origin is sound"), self.roots[0].leaf())
    }

    /// The root document in force.
    pub fn root(&self) -> &Signed<Root> {
        self.roots.last().expect("a realm begins with a root")
    }

    /// All root documents.
    pub fn roots(&self) -> &[Signed<Root>] {
        &self.roots
    }

    /// The leaves of the log.
    pub fn leaves(&self) -> &[Vec<u8>] {
        &self.leaves
    }

    /// The log as it is now.
    pub fn log(&self) -> TestLog {
        TestLog { leaves: self.leaves.clone(), nodes: self.nodes() }
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// Where everything stands now.
    pub fn table(&self) -> HeadsTable {
        HeadsTable::new(self.heads.values().cloned().collect())
    }

    /// Replaces the root document by its next version, changed; signed by the keys of these names.
    pub fn rotate(&mut self, signers: &[&str], change: impl FnOnce(&mut Root)) {
        let old = self.root();
        let mut next = Root { version: old.record().version + 1, prev: Some(old.leaf()), ..root() };
        change(&mut next);
        let bytes = sign(&next, signers);
        let signed =
            Unverified::<Root>::parse(&bytes).and_then(Unverified::verify_own).expect("a sound root");
        self.leaves.push(bytes);
        self.roots.push(signed);
    }

    /// Publishes a tree named after `seed` in the realm's channel.
    pub fn publish(&mut self, reference: &RefName, seed: u8) -> u64 {
        self.publish_with(reference, &["publish-repos"], |publication| {
            publication.manifest = publication.manifest.map(|manifest| crate::record::ManifestRef {
                id: smart_sync_store::id::ManifestId::from_bytes([seed; 32]),
                ..manifest
            });
        })
    }

    /// Publishes, changed at will and signed by whomever, and returns the index.
    pub fn publish_with(
        &mut self,
        reference: &RefName,
        signers: &[&str],
        change: impl FnOnce(&mut Publication),
    ) -> u64 {
        let key = HeadKey::open(&CHANNEL.parse().expect("the channel is sound"), reference);
        let before = self.previous.get(&key);
        let seq = before.map_or(1, |before| before.record().seq + 1);
        let mut publication = super::publication(reference, seq, before, 1);
        change(&mut publication);
        let bytes = sign(&publication, signers);
        let key = HeadKey::open(&publication.channel, &publication.reference);
        self.append(key, publication.seq, bytes)
    }

    /// Publishes a tree in the private channel.
    pub fn publish_sealed(&mut self, reference: &RefName, seed: u8) -> u64 {
        self.publish_sealed_with(reference, seed, |_| {})
    }

    /// Publishes a tree in the private channel, under a seal that is changed at will.
    pub fn publish_sealed_with(
        &mut self,
        reference: &RefName,
        seed: u8,
        change: impl FnOnce(&mut Sealed),
    ) -> u64 {
        let channel: Channel = PRIVATE_CHANNEL.parse().expect("the channel is sound");
        let key = HeadKey::sealed(&self.secret.slot(&channel, reference));
        let before = self.previous.get(&key);
        let seq = before.map_or(1, |before| before.record().seq + 1);
        let mut publication = super::publication(reference, seq, before, seed);
        publication.channel = channel.clone();
        let note = sign(&publication, &["publish-repos"]);
        let signed = Unverified::<Publication>::parse(&note)
            .and_then(|note| note.verify(self.root(), &channel, 0))
            .expect("the publisher of repos/* signed");
        self.previous.insert(key.clone(), signed);
        let opening = Opening { random: [seed; 32], note };
        let mut sealed = Sealed {
            slot: self.secret.slot(&channel, reference),
            seq,
            prev: self.heads.get(&key).map(|head| head.leaf),
            commitment: opening.commitment(),
        };
        change(&mut sealed);
        self.openings.insert(key.clone(), opening);
        self.append(key, seq, sealed.to_text().into_bytes())
    }

    /// Ends the batch with a heads leaf.
    pub fn heads(&mut self, time: UnixTime) -> u64 {
        self.heads_with(time, |_| {})
    }

    /// Ends the batch with a heads leaf, changed at will.
    pub fn heads_with(&mut self, time: UnixTime, change: impl FnOnce(&mut Heads)) -> u64 {
        let table = self.table();
        let root = self.root();
        let mut heads = Heads {
            time,
            prev: self.batches.last().map(|(_, heads, _)| LogHash::of_leaf(heads.to_text().as_bytes())),
            root: RootRef { version: root.record().version, leaf: root.leaf() },
            table: table.root(),
            count: table.count(),
        };
        change(&mut heads);
        let index = self.size();
        self.leaves.push(heads.to_text().into_bytes());
        self.batches.push((index, heads, table));
        index
    }

    /// Appends any bytes.
    pub fn push(&mut self, leaf: Vec<u8>) {
        self.leaves.push(leaf);
    }

    /// Changes where a ref is said to stand.
    pub fn set_head(&mut self, reference: &RefName, change: impl FnOnce(&mut Head)) {
        let key = HeadKey::open(&CHANNEL.parse().expect("the channel is sound"), reference);
        let mut head = self.heads[&key].clone();
        change(&mut head);
        self.heads.insert(key, head);
    }

    /// Lets a ref be gone.
    pub fn forget(&mut self, reference: &RefName) {
        self.heads.remove(&HeadKey::open(&CHANNEL.parse().expect("the channel is sound"), reference));
    }

    /// What the checkpoint of the log says.
    pub fn tree(&self) -> Checkpoint {
        let origin = ORIGIN.parse().expect("the origin is sound");
        Checkpoint { origin, size: self.size(), root: self.nodes().root() }
    }

    /// The checkpoint, signed by the log and cosigned by the clock.
    pub fn checkpoint(&self, time: UnixTime) -> Vec<u8> {
        Self::sign_checkpoint(&self.tree(), &["log"], &[("clock", time)])
    }

    /// Any checkpoint, signed and cosigned by the keys of these names.
    pub fn sign_checkpoint(tree: &Checkpoint, signers: &[&str], cosigners: &[(&str, UnixTime)]) -> Vec<u8> {
        let mut note = Note::new(tree.to_text()).expect("a checkpoint is plain text");
        for name in signers {
            note.sign(&secret(name)).expect("a key in memory always signs");
        }
        for (name, time) in cosigners {
            note.cosign(&secret(name), *time).expect("a key in memory always signs");
        }
        note.to_bytes()
    }

    /// What `verify` is asked about a ref of the realm's channel.
    pub fn question(reference: &RefName) -> Question {
        let channel = CHANNEL.parse().expect("the channel is sound");
        Question {
            channel,
            reference: reference.clone(),
            at: None,
            kind: Some("repo".parse().expect("a kind")),
        }
    }

    /// The evidence for a question, for a machine that knows a log of `base` leaves, under the checkpoint of this
    /// time.
    pub fn evidence(&self, question: &Question, base: u64, time: UnixTime) -> FullEvidence {
        let private = question.channel.as_str() == PRIVATE_CHANNEL;
        let key = if private {
            HeadKey::sealed(&self.secret.slot(&question.channel, &question.reference))
        } else {
            HeadKey::open(&question.channel, &question.reference)
        };
        let empty = HeadsTable::default();
        let dated = question.at.map(|at| {
            let next = self.batches.partition_point(|(_, heads, _)| heads.time <= at);
            let found = next.checked_sub(1);
            (found, self.batches.get(next).map(|(index, ..)| *index))
        });
        let answering = match &dated {
            Some((found, _)) => found.map(|found| &self.batches[found]),
            None => self.batches.last(),
        };
        let inquiry = Inquiry {
            checkpoint: self.checkpoint(time),
            size: self.size(),
            base,
            roots: self.roots.iter().map(Signed::to_bytes).collect(),
            table: answering.map_or(&empty, |(_, _, table)| table),
            dated: dated
                .map(|(found, next)| DatedIndexes { found: found.map(|found| self.batches[found].0), next }),
            private: private
                .then(|| Private { secret: self.secret.clone(), opening: self.openings.get(&key).cloned() }),
            key,
        };
        build(&self.log(), inquiry).expect("the realm holds its own log")
    }

    /// The nodes that evidence needs after a test has changed what it claims.
    pub fn log_nodes(&self, evidence: &FullEvidence) -> Vec<LogHash> {
        let nodes = needed(self.size(), &evidence.claims(self.size())).expect("the claims are about the log");
        prove(&nodes, &self.log()).expect("the realm holds its own log")
    }

    /// What an auditor finds who reads the whole log.
    pub fn audit(&self) -> Result<LogAudit, crate::log::audit::AuditFault> {
        let mut audit = LogAudit::new(ORIGIN.parse().expect("the origin is sound"));
        self.leaves.iter().try_for_each(|leaf| audit.push(leaf).map(|_: LeafKind| ()))?;
        Ok(audit)
    }

    fn append(&mut self, key: HeadKey, seq: u64, leaf: Vec<u8>) -> u64 {
        let index = self.size();
        let hash = LogHash::of_leaf(&leaf);
        if let Ok(note) = Unverified::<Publication>::parse(&leaf)
            && let Ok(claimed) = note.claims()
            && let Ok(signed) = note.verify(self.root(), &claimed.channel, index)
        {
            self.previous.insert(key.clone(), signed);
        }
        self.leaves.push(leaf);
        self.heads.insert(key.clone(), Head { key, seq, index, leaf: hash });
        index
    }

    fn nodes(&self) -> NodesInMemory {
        NodesInMemory::of_leaves(self.leaves.iter().map(|leaf| LogHash::of_leaf(leaf)).collect())
    }
}

/// The log of a realm as it is at one moment.
#[derive(Debug, Clone)]
pub struct TestLog {
    leaves: Vec<Vec<u8>>,
    nodes: NodesInMemory,
}

impl NodeReader for TestLog {
    type Error = NoSuchNode;

    fn node(&self, node: Node) -> Result<LogHash, NoSuchNode> {
        self.nodes.node(node)
    }
}

impl LogReader for TestLog {
    fn leaf(&self, index: u64) -> Result<Vec<u8>, NoSuchNode> {
        let place = usize::try_from(index).ok().and_then(|index| self.leaves.get(index));
        place.cloned().ok_or(NoSuchNode(Node::leaf(index)))
    }
}
