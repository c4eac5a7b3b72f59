//! Asking one server what a ref is.

use smart_sync_store::id::ManifestId;
use smart_sync_sync::evidence::FullEvidence;
use smart_sync_sync::name::update_path as path_of_update;
use smart_sync_sync::trust::{Question, Refusal, TrustState};
use smart_sync_sync::wire::update::{UPDATE_BYTES_MAX, Update};

use super::Carried;
use crate::failure::{Exit, Failure};
use crate::realm::continuation::continued;
use crate::realm::remote::{OTHER_ANSWER_HINT, Remote};

/// A failure to learn something from one server.
pub(super) struct Asked {
    pub(super) failure: Box<Failure>,
    pub(super) may_another_know: bool,
    /// What the evidence was refused for, where there was any.
    pub(super) refusal: Option<Refusal>,
}

impl Asked {
    fn of_network(failure: Failure) -> Self {
        Self { failure: Box::new(failure), may_another_know: true, refusal: None }
    }

    pub(super) const fn is_absence(&self) -> bool {
        matches!(self.refusal, Some(Refusal::NotFound { .. }))
    }
}

impl From<Failure> for Asked {
    fn from(failure: Failure) -> Self {
        Self { failure: Box::new(failure), may_another_know: false, refusal: None }
    }
}

impl From<Asked> for Failure {
    fn from(asked: Asked) -> Self {
        *asked.failure
    }
}

/// Asks one server for evidence, from what is known of the log and was kept of the last time, and for what leads there
/// from a manifest.
pub(super) async fn update_from(
    remote: &Remote,
    question: &Question,
    base: Option<ManifestId>,
    known: Option<&TrustState>,
    kept: Option<&FullEvidence>,
) -> Result<(FullEvidence, Option<Carried>), Asked> {
    let path = update_path(question, base, known, kept.is_some());
    let limit = UPDATE_BYTES_MAX as u64;
    let bytes = remote.get(&path, limit).await.map_err(|error| Asked::of_network(error.into()))?;
    let Update { evidence, bundle } = Update::decode(&bytes).map_err(|error| {
        Asked::of_network(
            Failure::new(Exit::Network, error)
                .context(format!("{} does not answer as a smart-sync server does", remote.base()))
                .hint(OTHER_ANSWER_HINT),
        )
    })?;
    let Some(full) = evidence.complete(kept) else {
        let text =
            format!("{} says that nothing changed, without having been told what is known", remote.base());
        let failure = Failure::message(Exit::Network, text).hint("try another mirror with --server");
        return Err(Asked::of_network(failure));
    };
    let size = known.map_or(0, TrustState::size);
    let full = continued(remote, full, size).await.map_err(Asked::of_network)?;
    let carried = base.filter(|_| !bundle.is_empty()).map(|from| Carried { from, bytes: bundle });
    Ok((full, carried))
}

fn update_path(
    question: &Question,
    base: Option<ManifestId>,
    known: Option<&TrustState>,
    has_kept: bool,
) -> String {
    let mut query = Vec::new();
    let mut had = None;
    if let Some(at) = question.at {
        query.push(format!("at={}", at.seconds()));
    }
    if let Some(known) = known.filter(|known| known.size() > 0) {
        query.push(format!("size={}", known.size()));
        if let Some(reference) = known.reference(&question.channel, &question.reference).filter(|_| has_kept)
        {
            query.push(format!("have={}", reference.manifest));
            had = Some(reference.manifest);
        }
    }
    match base.filter(|_| question.at.is_none()) {
        Some(base) if had == Some(base) => query.push("bundle=".to_owned()),
        Some(base) => query.push(format!("bundle={base}")),
        None => {}
    }
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", path_of_update(&question.channel, &question.reference), query.join("&"))
}
