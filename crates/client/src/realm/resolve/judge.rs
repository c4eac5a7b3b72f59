//! Whether evidence is believed, and what is kept of it.

use smart_sync_sync::evidence::FullEvidence;
use smart_sync_sync::trust::{Freshness, Question, Refusal, TrustState, Verified, verify};

use super::ask::Asked;
use super::{Realm, now};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::realm::trust_store::HeldRealm;

/// Days before the root document's end from which on it is mentioned.
const EXPIRY_WARNING_SECONDS: u64 = 30 * 24 * 60 * 60;

impl Realm {
    /// Judges evidence, and keeps what was accepted.
    pub(super) fn judge(
        &self,
        full: FullEvidence,
        question: &Question,
        output: &Output,
    ) -> Result<Verified, Asked> {
        let held = self.store.hold(&self.origin)?;
        // Another run may have learnt more in between.
        let state = held.state()?;
        let verified = verify(state.as_ref(), &full, question, now(), &self.policy)
            .map_err(|refusal| refused(&held, refusal, output))?;
        held.save(&verified.state)?;
        if question.at.is_none() {
            held.keep_evidence(&question.channel, &question.reference, full)?;
        }
        if let Freshness::Stale { age_seconds, max_age_seconds } = verified.freshness {
            output.warning(&format!(
                "the newest checkpoint is {age_seconds} s old, and {max_age_seconds} s are allowed; it says nothing \
                 new, so what is here stays"
            ));
        }
        warn_of_expiry(&verified, output);
        Ok(verified)
    }

    /// The last full evidence, if it is of the log that was verified last.
    pub(super) fn kept(
        &self,
        known: Option<&TrustState>,
        question: &Question,
    ) -> Result<Option<FullEvidence>, Failure> {
        let Some(known) = known.filter(|known| known.size() > 0 && question.at.is_none()) else {
            return Ok(None);
        };
        let held = self.store.hold(&self.origin)?;
        let kept = held.evidence(&question.channel, &question.reference);
        let note = known.checkpoint_note().map(|note| note.text().to_owned());
        // Evidence of another log size would not fit the newest checkpoint.
        Ok(kept.filter(|kept| {
            smart_sync_sync::note::Note::parse(&kept.checkpoint).ok().map(|kept| kept.text().to_owned())
                == note
        }))
    }
}

fn warn_of_expiry(verified: &Verified, output: &Output) {
    let root = verified.root.record();
    let left = root.expires.seconds_since(now());
    if left < EXPIRY_WARNING_SECONDS {
        output.warning(&format!(
            "the root document of {} expires at {}; whoever runs the realm has to publish a new one",
            root.origin, root.expires
        ));
    }
}

fn refused(held: &HeldRealm, refusal: Refusal, output: &Output) -> Asked {
    if let Refusal::Fork { fork, latched, .. } = &refusal {
        let kept = held.keep_fork(fork).and_then(|path| held.save(latched).map(|()| path));
        match kept {
            Ok(path) => output.warning(&format!("both checkpoints are kept in {}", path.display())),
            Err(failure) => output.failure(&failure),
        }
    }
    let may_another_know = refusal.is_worth_another_mirror();
    let exit = if refusal.exit_code() == Exit::Refused.code() { Exit::Refused } else { Exit::General };
    let hint = refusal.hint();
    let failure = Failure::new(exit, refusal.clone()).hint(hint);
    Asked { failure: Box::new(failure), may_another_know, refusal: Some(refusal) }
}
