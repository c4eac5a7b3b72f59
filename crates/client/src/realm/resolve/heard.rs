//! What all servers say, and which of it is believed.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use smart_sync_store::id::ManifestId;
use smart_sync_sync::evidence::FullEvidence;
use smart_sync_sync::trust::Question;
use tokio::time::{Instant, timeout_at};

use super::ask::{Asked, update_from};
use super::{Carried, Realm, Resolved};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// How long other mirrors are waited for once one has answered: theirs may be the newer answer.
const OTHERS_WAIT: Duration = Duration::from_secs(2);

impl Realm {
    pub(super) async fn ask_all(
        &self,
        question: &Question,
        base: Option<ManifestId>,
        output: &Output,
    ) -> Result<Resolved, Asked> {
        let known = self.store.state(&self.origin)?;
        let kept = self.kept(known.as_ref(), question)?;
        let (known, kept) = (known.as_ref(), kept.as_ref());
        let mut asking: FuturesUnordered<_> = (self.remotes.iter().enumerate())
            .map(async |(index, remote)| (index, update_from(remote, question, base, known, kept).await))
            .collect();
        let mut heard = Heard::default();
        let mut deadline = None;
        let mut last = None;
        loop {
            let next = match deadline {
                None => asking.next().await,
                Some(deadline) => timeout_at(deadline, asking.next()).await.ok().flatten(),
            };
            match next {
                Some((index, Ok((evidence, carried)))) => {
                    heard.answers.push(Answered::new(index, evidence, carried));
                    deadline.get_or_insert_with(|| Instant::now() + OTHERS_WAIT);
                    if !asking.is_empty() {
                        continue;
                    }
                }
                Some((index, Err(asked))) => {
                    heard.failures.push((index, asked));
                    if !asking.is_empty() {
                        continue;
                    }
                }
                None => {}
            }
            if let Some(resolved) = self.judge_newest(question, &mut heard, &mut last, output)? {
                return Ok(resolved);
            }
            if asking.is_empty() {
                return Err(self.none_is_right(heard, last, output));
            }
            // What came first was no good. Whatever comes next is judged at once.
            deadline = None;
        }
    }

    /// Judges what was heard, the answer of the largest log first, until one is believed.
    fn judge_newest(
        &self,
        question: &Question,
        heard: &mut Heard,
        last: &mut Option<(usize, Asked)>,
        output: &Output,
    ) -> Result<Option<Resolved>, Asked> {
        heard.answers.sort_by_key(|answered| (std::cmp::Reverse(answered.size), answered.index));
        while !heard.answers.is_empty() {
            let Answered { index, evidence, carried, .. } = heard.answers.remove(0);
            match self.judge(evidence, question, output) {
                Ok(verified) => {
                    for (index, asked) in heard.failures.drain(..).chain(last.take()) {
                        self.tell_passed_over(index, &asked, output);
                    }
                    let others = heard.answers.iter().map(|answered| answered.index);
                    let remotes = std::iter::once(index).chain(others);
                    let remotes = remotes.map(|index| self.remotes[index].clone()).collect();
                    let reference = question.reference.clone();
                    return Ok(Some(Resolved { verified, reference, remotes, carried }));
                }
                Err(asked) if asked.may_another_know => {
                    if let Some((index, asked)) = last.replace((index, asked)) {
                        self.tell_passed_over(index, &asked, output);
                    }
                }
                Err(asked) => return Err(asked),
            }
        }
        Ok(None)
    }

    /// Says why each server is passed over but one, which stands for the failure: one that was refused rather than
    /// one that did not answer.
    fn none_is_right(&self, heard: Heard, last: Option<(usize, Asked)>, output: &Output) -> Asked {
        let mut failures = heard.failures;
        failures.sort_by_key(|(index, _)| *index);
        let last = last.or_else(|| failures.pop());
        for (index, asked) in failures {
            self.tell_passed_over(index, &asked, output);
        }
        last.map_or_else(
            || Failure::message(Exit::Arguments, "no server is known").into(),
            |(_, asked)| asked,
        )
    }

    fn tell_passed_over(&self, index: usize, asked: &Asked, output: &Output) {
        let reason = asked.failure.in_one_line();
        output.warning(&format!("{} is passed over: {reason}", self.remotes[index].base()));
    }
}

/// What servers have said so far.
#[derive(Default)]
struct Heard {
    answers: Vec<Answered>,
    failures: Vec<(usize, Asked)>,
}

/// Evidence that was not judged yet.
struct Answered {
    /// The number of the server.
    index: usize,
    /// The size of the log that it says to be of.
    size: u64,
    evidence: FullEvidence,
    carried: Option<Carried>,
}

impl Answered {
    fn new(index: usize, evidence: FullEvidence, carried: Option<Carried>) -> Self {
        Self { index, size: evidence.claimed_log().map_or(0, |log| log.size), evidence, carried }
    }
}
