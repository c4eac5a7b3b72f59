//! Deltas that were computed lately, because many hosts make the same step.
//!
//! A delta is computed once however many ask for it at the same time, a few are computed at once, and the finished
//! ones are kept in a bounded number of bytes for a bounded time: they name packs, which collecting garbage may
//! rewrite, and stay well below the shortest time for which a rewritten pack is still there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use tokio::sync::{OnceCell, Semaphore};

use super::problem::Problem;

/// The bytes of deltas that are kept.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// What a kept delta costs beside its bytes.
const OVERHEAD_BYTES: usize = 512;
/// How long a delta is kept.
const KEPT_SECONDS: u64 = 300;
/// Deltas that are computed at once.
const COMPUTED_MAX: usize = 4;
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Which delta.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DeltaKey {
    /// Where both manifests are.
    pub(super) domain: Domain,
    /// What the client has.
    pub(super) from: Option<ManifestId>,
    /// What it wants.
    pub(super) to: ManifestId,
}

/// The deltas of a server.
pub(super) struct Deltas {
    kept: Mutex<Kept>,
    computing: Mutex<HashMap<DeltaKey, Arc<OnceCell<Bytes>>>>,
    turns: Arc<Semaphore>,
}

impl Default for Deltas {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            computing: Mutex::default(),
            turns: Arc::new(Semaphore::new(COMPUTED_MAX)),
        }
    }
}

impl Deltas {
    /// The delta, computed by `compute` on a thread that may block unless it is at hand.
    pub(super) async fn get(
        &self,
        key: DeltaKey,
        now: u64,
        compute: impl FnOnce() -> anyhow::Result<Bytes> + Send + 'static,
    ) -> Result<Bytes, Problem> {
        if let Some(bytes) = lock(&self.kept).get(&key, now) {
            return Ok(bytes);
        }
        let cell = Arc::clone(lock(&self.computing).entry(key.clone()).or_default());
        // Whoever asks while another computes waits for that; when the other goes away, the next one computes.
        let computed = cell.get_or_try_init(|| self.compute(compute)).await.cloned();
        let mut computing = lock(&self.computing);
        if computing.get(&key).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
            computing.remove(&key);
        }
        drop(computing);
        let bytes = computed?;
        lock(&self.kept).put(key, bytes.clone(), now);
        Ok(bytes)
    }

    async fn compute(
        &self,
        compute: impl FnOnce() -> anyhow::Result<Bytes> + Send + 'static,
    ) -> Result<Bytes, Problem> {
        const BUSY: Problem = Problem::Busy("too many updates are being computed");
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| BUSY)?.map_err(|_| BUSY)?;
        super::blocking(move || {
            // The turn ends with the work, also when nobody waits for it any longer.
            let _turn = turn;
            Ok(compute()?)
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finished deltas, of which the one that was asked for longest ago goes first.
#[derive(Default)]
struct Kept {
    deltas: HashMap<DeltaKey, KeptDelta>,
    bytes: usize,
    asked: u64,
}

struct KeptDelta {
    bytes: Bytes,
    computed: u64,
    asked: u64,
}

impl Kept {
    fn get(&mut self, key: &DeltaKey, now: u64) -> Option<Bytes> {
        self.asked += 1;
        let delta = self.deltas.get_mut(key)?;
        if now.saturating_sub(delta.computed) >= KEPT_SECONDS {
            self.remove(&key.clone());
            return None;
        }
        delta.asked = self.asked;
        Some(delta.bytes.clone())
    }

    fn put(&mut self, key: DeltaKey, bytes: Bytes, now: u64) {
        let cost = bytes.len() + OVERHEAD_BYTES;
        if cost > KEPT_BYTES_MAX || self.deltas.contains_key(&key) {
            return;
        }
        while self.bytes + cost > KEPT_BYTES_MAX {
            let oldest = self.deltas.iter().min_by_key(|(_, delta)| delta.asked).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
        self.bytes += cost;
        self.deltas.insert(key, KeptDelta { bytes, computed: now, asked: self.asked });
    }

    fn remove(&mut self, key: &DeltaKey) {
        if let Some(delta) = self.deltas.remove(key) {
            self.bytes -= delta.bytes.len() + OVERHEAD_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn key(number: u8) -> DeltaKey {
        DeltaKey { domain: Domain::public(), from: None, to: ManifestId::from_bytes([number; 32]) }
    }

    #[test]
    fn deltas_are_kept_for_a_while_and_the_least_asked_for_goes_first() {
        let mut kept = Kept::default();
        let large = Bytes::from(vec![0; KEPT_BYTES_MAX / 3]);
        for number in 0..2 {
            kept.put(key(number), large.clone(), 100);
        }
        assert!(kept.get(&key(0), 100).is_some());
        kept.put(key(2), large.clone(), 100);
        assert!(kept.get(&key(1), 100).is_none() && kept.get(&key(0), 100).is_some());
        assert!(kept.get(&key(2), 100 + KEPT_SECONDS).is_none());
        assert_eq!(kept.bytes, large.len() + OVERHEAD_BYTES);
        kept.put(key(3), Bytes::from(vec![0; KEPT_BYTES_MAX]), 100);
        assert!(kept.get(&key(3), 100).is_none());
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cause_one_computation() {
        let deltas = Deltas::default();
        let computed = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let computed = Arc::clone(&computed);
            deltas.get(key(1), 100, move || {
                computed.fetch_add(1, Ordering::Relaxed);
                Ok(Bytes::from_static(b"delta"))
            })
        };
        let answers = futures::future::join_all((0..20).map(|_| ask())).await;
        assert!(answers.into_iter().all(|answer| answer.is_ok_and(|bytes| &bytes[..] == b"delta")));
        assert_eq!(computed.load(Ordering::Relaxed), 1);
        assert!(lock(&deltas.computing).is_empty());
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let deltas = Deltas::default();
        assert!(deltas.get(key(1), 100, || anyhow::bail!("no")).await.is_err());
        assert!(deltas.get(key(1), 100, || Ok(Bytes::new())).await.is_ok());
    }
}
