//! The one function that decides. Its steps stand in the order of `docs/trust.md`.

use super::refusal::{Fork, LogFault, Refusal, RootFault};
use super::state::{Anchor, RefState, Seen, TrustState};
use super::{CLOCK_SKEW_SECONDS, Freshness, Policy, Question, Verified, roots};
use crate::evidence::{Answer, FullEvidence, IndexedLeaf};
use crate::log::checkpoint::SignedCheckpoint;
use crate::log::heads::{Head, HeadKey};
use crate::log::merkle::LogHash;
use crate::log::proof::Proof;
use crate::record::{Heads, Publication, Root, Sealed, Signed, SlotSecret, Unverified};
use crate::time::UnixTime;

/// Decides whether the evidence answers the question, given what is known and what time it is.
///
/// `state` is what [`Verified::state`] was the last time, or a pin; `now` is this machine's time, which is never
/// corrected by what the network says.
pub fn verify(
    state: Option<&TrustState>,
    evidence: &FullEvidence,
    question: &Question,
    now: UnixTime,
    policy: &Policy,
) -> Result<Verified, Refusal> {
    let state = state.ok_or(Refusal::NoPin)?;
    if state.fork.is_some() {
        return Err(Refusal::Latched(state.origin.clone()));
    }
    // A machine whose clock was lost has the newest time that it ever verified.
    let now = state.time_floor().map_or(now, |floor| floor.max(now));
    let root = roots::walk(state, &evidence.roots)?;
    check_expiry(root.record(), now)?;
    let checkpoint = SignedCheckpoint::verify(&evidence.checkpoint, root.record())?;
    let freshness = check_time(state, &checkpoint, root.record(), now, policy)?;
    let proof = check_tree(state, evidence, &checkpoint)?;
    let log = Log { root: &root, checkpoint: &checkpoint, proof };
    let last = log.last_heads(state, evidence)?;
    let answering = log.answering_heads(evidence, question, &last)?;
    let (publication, head, secret) = log.publication(state, evidence, question, &answering)?;
    let before = state.reference(&question.channel, &question.reference);
    check_history(question, before, &head, publication.record())?;
    check_answer(question, publication.record())?;
    let Some(manifest) = publication.record().manifest else {
        let (channel, reference) = (question.channel.clone(), question.reference.clone());
        let (seq, leaf) = (head.seq, publication.leaf());
        let log = Box::new(checkpoint.checkpoint().clone());
        return Err(Refusal::Withdrawn { channel, reference, at: question.at, seq, leaf, log });
    };

    let mut next = state.clone();
    if let Freshness::Stale { age_seconds, max_age_seconds } = freshness {
        // An old checkpoint may repeat what is known. It may not say anything new, or move anything.
        if before.is_none_or(|before| before.leaf != head.leaf) {
            return Err(Refusal::Stale { age_seconds, max_age_seconds });
        }
    } else {
        next.anchor = Anchor::Seen(Box::new(Seen {
            root: root.clone(),
            checkpoint: checkpoint.checkpoint().clone(),
            checkpoint_note: checkpoint.note().clone(),
            time: checkpoint.time(),
            heads_time: last.heads.time,
        }));
        if question.at.is_none() {
            let seen = RefState { seq: head.seq, index: head.index, leaf: head.leaf, manifest: manifest.id };
            next.refs.insert((question.channel.clone(), question.reference.clone()), seen);
        }
        if let Some(secret) = secret {
            next.private.insert(question.channel.clone(), secret);
        }
    }
    Ok(Verified {
        state: next,
        publication,
        manifest,
        head,
        before: before.cloned(),
        size: checkpoint.checkpoint().size,
        checkpoint_time: checkpoint.time(),
        heads_time: answering.heads.time,
        freshness,
        root,
    })
}

fn check_expiry(root: &Root, now: UnixTime) -> Result<(), RootFault> {
    if now <= root.expires {
        return Ok(());
    }
    Err(RootFault::Expired { origin: root.origin.clone(), version: root.version, expires: root.expires })
}

fn check_time(
    state: &TrustState,
    checkpoint: &SignedCheckpoint,
    root: &Root,
    now: UnixTime,
    policy: &Policy,
) -> Result<Freshness, Refusal> {
    let time = checkpoint.time();
    if time > now.plus(CLOCK_SKEW_SECONDS) {
        return Err(Refusal::FromTheFuture { time, now });
    }
    if let Some(floor) = state.time_floor().filter(|floor| time < *floor) {
        let (seen, offered) = (format!("a checkpoint from {floor}"), format!("one from {time}"));
        return Err(Refusal::Behind { seen, offered });
    }
    let age_seconds = now.seconds_since(time);
    let max_age_seconds = policy.max_age_seconds.unwrap_or(root.max_age_seconds);
    if age_seconds <= max_age_seconds {
        return Ok(Freshness::Fresh);
    }
    let says_nothing_new = state.checkpoint() == Some(checkpoint.checkpoint());
    if says_nothing_new && age_seconds <= max_age_seconds.saturating_add(policy.stale_grace_seconds) {
        return Ok(Freshness::Stale { age_seconds, max_age_seconds });
    }
    Err(Refusal::Stale { age_seconds, max_age_seconds })
}

/// Holds the tree against the one that was seen, and takes the hashes that everything else is proven with.
fn check_tree(
    state: &TrustState,
    evidence: &FullEvidence,
    offered: &SignedCheckpoint,
) -> Result<Proof, Refusal> {
    let tree = offered.checkpoint();
    if let Some(seen) = state.seen() {
        let known = &seen.checkpoint;
        if tree.size < known.size {
            let (seen, offered) =
                (format!("a log of {} leaves", known.size), format!("one of {}", tree.size));
            return Err(Refusal::Behind { seen, offered });
        }
        if tree.size == known.size && tree.root != known.root {
            let fork = Fork { known: seen.checkpoint_note.clone(), offered: offered.note().clone() };
            let latched = Box::new(state.latched(fork.clone()));
            return Err(Refusal::Fork { size: tree.size, fork: Box::new(fork), latched });
        }
        if tree.size > known.size && evidence.base != known.size {
            let (base, size) = (evidence.base, known.size);
            return Err(Refusal::Unproven(format!(
                "it continues a log of {base} leaves, not the known one of {size}"
            )));
        }
    }
    let proof = Proof::new(tree.size, &evidence.claims(tree.size), &evidence.nodes)?;
    if let Some(known) = state.checkpoint().filter(|known| known.size < tree.size) {
        proof.check_prefix(&tree.root, known.size, &known.root)?;
    }
    Ok(proof)
}

/// A log that its checkpoint stands for, and what can be shown of it.
struct Log<'a> {
    root: &'a Signed<Root>,
    checkpoint: &'a SignedCheckpoint,
    proof: Proof,
}

/// A heads leaf and where it stands.
#[derive(Clone)]
struct ProvenHeads {
    heads: Heads,
    index: u64,
    leaf: LogHash,
}

impl Log<'_> {
    fn heads(&self, index: u64, leaf: &[u8]) -> Result<ProvenHeads, Refusal> {
        let hash = LogHash::of_leaf(leaf);
        self.proof.check_leaf(&self.checkpoint.checkpoint().root, index, &hash)?;
        let heads = Heads::parse(leaf).map_err(LogFault::NotHeads)?;
        Ok(ProvenHeads { heads, index, leaf: hash })
    }

    /// The last leaf, which has to be heads that fit what was seen and name the root in force.
    fn last_heads(&self, state: &TrustState, evidence: &FullEvidence) -> Result<ProvenHeads, Refusal> {
        let last = self.heads(self.checkpoint.checkpoint().size - 1, &evidence.heads)?;
        let (offered, clock) = (last.heads.time, self.checkpoint.time());
        if let Some(seen) = state.seen().map(|seen| seen.heads_time).filter(|seen| offered < *seen) {
            return Err(LogFault::TimeBackwards { seen, offered }.into());
        }
        if offered > clock.plus(CLOCK_SKEW_SECONDS) {
            return Err(LogFault::HeadsAfterClock { heads: offered, clock }.into());
        }
        let (named, known) = (last.heads.root, self.root.record().version);
        if named.version > known {
            return Err(Refusal::RootWithheld { named: named.version, known });
        }
        if named.version != known || named.leaf != self.root.leaf() {
            return Err(LogFault::OtherRoot.into());
        }
        Ok(last)
    }

    /// The heads leaf whose table answers: the last one, or the last one at or before the date.
    fn answering_heads(
        &self,
        evidence: &FullEvidence,
        question: &Question,
        last: &ProvenHeads,
    ) -> Result<ProvenHeads, Refusal> {
        let unproven = |reason: &str| Err(Refusal::Unproven(reason.to_owned()));
        let (at, dated) = match (question.at, &evidence.dated) {
            (None, None) => return Ok(last.clone()),
            (Some(at), Some(dated)) => (at, dated),
            (Some(_), None) => return unproven("a date was asked for, and the answer is for today"),
            (None, Some(_)) => return unproven("no date was asked for, and the answer is for one"),
        };
        let prove = |leaf: &Option<IndexedLeaf>| match leaf {
            Some(leaf) => self.heads(leaf.index, &leaf.leaf).map(Some),
            None => Ok(None),
        };
        let (found, next) = (prove(&dated.found)?, prove(&dated.next)?);
        let is_next_later = next.as_ref().is_none_or(|next| next.heads.time > at);
        let follows = |found: &ProvenHeads, next: &ProvenHeads| {
            next.index > found.index && next.heads.prev == Some(found.leaf)
        };
        match (found, next) {
            (Some(found), _) if found.heads.time > at => unproven("the heads shown are from after the date"),
            (Some(_), Some(_)) if !is_next_later => unproven("later heads before the date are passed over"),
            (Some(found), Some(next)) if follows(&found, &next) => Ok(found),
            (Some(found), None) if found.index == last.index => Ok(found),
            // The first heads leaf of a log is the one without a predecessor.
            (None, Some(next)) if is_next_later && next.heads.prev.is_none() => {
                let (channel, reference) = (question.channel.clone(), question.reference.clone());
                Err(Refusal::NotFound { channel, reference, at: question.at, is_proven: true })
            }
            _ => unproven("the heads shown are not the last ones before the date"),
        }
    }

    /// The publication that stands at the ref, its place, and the secret of the channel if it is private.
    fn publication(
        &self,
        state: &TrustState,
        evidence: &FullEvidence,
        question: &Question,
        answering: &ProvenHeads,
    ) -> Result<(Signed<Publication>, Head, Option<SlotSecret>), Refusal> {
        let (key, secret) = key(state, evidence, question)?;
        let head = evidence.head.check(&answering.heads.table, answering.heads.count, &key)?;
        let (leaf, head) = match (&evidence.answer, head) {
            (Answer::Absent | Answer::SealedAbsent { .. }, None) => {
                return Err(not_found(state, evidence, question));
            }
            (Answer::Publication(leaf) | Answer::Sealed { leaf, .. }, Some(head)) => (leaf, head),
            _ => {
                let reason = "the answer says one thing of the ref, and the table another";
                return Err(Refusal::Unproven(reason.to_owned()));
            }
        };
        if head.index >= answering.index {
            return Err(LogFault::Contradiction("the entry names a leaf after the table").into());
        }
        let hash = LogHash::of_leaf(leaf);
        self.proof.check_leaf(&self.checkpoint.checkpoint().root, head.index, &hash)?;
        if hash != head.leaf {
            return Err(LogFault::Contradiction("the entry names another leaf").into());
        }
        let note = match &evidence.answer {
            Answer::Sealed { opening, .. } => {
                let sealed = Sealed::parse(leaf)?;
                if sealed.commitment != opening.commitment() {
                    return Err(Refusal::Unproven("what was sent is not what was sealed".to_owned()));
                }
                if HeadKey::sealed(&sealed.slot) != key || sealed.seq != head.seq {
                    return Err(LogFault::Contradiction("the seal is of another slot or number").into());
                }
                &opening.note
            }
            _ => leaf,
        };
        let unverified = Unverified::<Publication>::parse(note)?;
        let (seq, leaf) = (head.seq, unverified.leaf());
        let publication = unverified
            .verify(self.root, &question.channel, head.index)
            .map_err(|source| Refusal::NotSigned { source, seq, leaf })?;
        if publication.record().seq != head.seq {
            return Err(LogFault::Contradiction("they have different sequence numbers").into());
        }
        Ok((publication, head, secret))
    }
}

/// The entry that the answer is about. Once a channel was seen to be private, with a secret, it stays so: else
/// its refs could be hidden by proving something of a slot or a name that nobody uses.
fn key(
    state: &TrustState,
    evidence: &FullEvidence,
    question: &Question,
) -> Result<(HeadKey, Option<SlotSecret>), Refusal> {
    let (channel, reference) = (&question.channel, &question.reference);
    let secret = match &evidence.answer {
        Answer::Absent | Answer::Publication(_) => None,
        Answer::Sealed { secret, .. } | Answer::SealedAbsent { secret } => Some(secret),
    };
    if state.private.get(channel).is_some_and(|known| Some(known) != secret) {
        return Err(Refusal::Unproven(
            "the channel is private, and the answer is of another slot, as for somebody without its token"
                .to_owned(),
        ));
    }
    Ok(match secret {
        Some(secret) => (HeadKey::sealed(&secret.slot(channel, reference)), Some(secret.clone())),
        None => (HeadKey::open(channel, reference), None),
    })
}

fn not_found(state: &TrustState, evidence: &FullEvidence, question: &Question) -> Refusal {
    let (channel, reference) = (question.channel.clone(), question.reference.clone());
    if question.at.is_none() && state.reference(&channel, &reference).is_some() {
        return LogFault::RefGone.into();
    }
    // Anybody can prove that nothing stands in a slot that nobody uses; the secret has to be one that was seen.
    let is_proven = evidence.answer == Answer::Absent || state.private.contains_key(&channel);
    Refusal::NotFound { channel, reference, at: question.at, is_proven }
}

/// Sequence numbers never go back, and one number is one publication.
fn check_history(
    question: &Question,
    before: Option<&RefState>,
    head: &Head,
    publication: &Publication,
) -> Result<(), LogFault> {
    let Some(before) = before else {
        return Ok(());
    };
    if head.seq == before.seq && (head.leaf != before.leaf || head.index != before.index) {
        return Err(LogFault::TwoPublications(head.seq));
    }
    // The past of a ref has lower numbers; that is what was asked for.
    if head.seq < before.seq && question.at.is_none() {
        return Err(LogFault::SequenceBack { seen: before.seq, offered: head.seq });
    }
    if (head.seq > before.seq) != (head.index > before.index) {
        return Err(LogFault::Contradiction("numbers and places are in different orders"));
    }
    if head.seq > before.seq && question.reference.is_tag() && publication.manifest.is_some() {
        return Err(LogFault::Contradiction("a tag was written twice"));
    }
    Ok(())
}

fn check_answer(question: &Question, publication: &Publication) -> Result<(), Refusal> {
    if publication.reference != question.reference {
        let (asked, found) = (question.reference.to_string(), publication.reference.to_string());
        return Err(Refusal::OtherThing { asked, found });
    }
    match &question.kind {
        Some(kind) if *kind != publication.kind => {
            let (asked, found) = (format!("the kind {kind}"), format!("the kind {}", publication.kind));
            Err(Refusal::OtherThing { asked, found })
        }
        _ => Ok(()),
    }
}
