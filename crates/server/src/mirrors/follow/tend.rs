//! Looking at upstreams while the server runs, each when it is its turn.
//!
//! When that is stands in `upstream.db`: a server that starts again does not look again at once, and a look by hand counts
//! for everybody.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::round::Order;
use super::super::{Mirrors, chance};
use super::{schedule, state};
use crate::http::now;

/// How often it is looked whose turn it is, at the least.
const POLL: Duration = Duration::from_secs(30);

/// Looks at upstreams until it is stopped.
pub(crate) async fn tend(mirrors: Arc<Mirrors>) {
    let turns = Arc::new(Semaphore::new(mirrors.realm.config.upstream.looks.max(1)));
    let at_work = Arc::<Mutex<HashSet<String>>>::default();
    let mut looks = JoinSet::new();
    loop {
        while looks.try_join_next().is_some() {}
        for (name, every) in mirrors.scheduled() {
            let is_due = match is_due(&mirrors, &name, every) {
                Ok(is_due) => is_due,
                Err(error) => {
                    tracing::error!(
                        mirror = name,
                        error = format!("{error:#}"),
                        "reading when to look at an upstream"
                    );
                    false
                }
            };
            let begins =
                is_due && at_work.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
            if begins {
                let (mirrors, turns, at_work) =
                    (Arc::clone(&mirrors), Arc::clone(&turns), Arc::clone(&at_work));
                looks.spawn(async move {
                    // The turns are never taken away.
                    let _turn = turns.acquire().await;
                    look(&mirrors, &name).await;
                    at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                });
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether it is the turn of a mirror. One that never was looked at gets its moment.
fn is_due(mirrors: &Mirrors, name: &str, every: u64) -> anyhow::Result<bool> {
    let next = state::load(&mirrors.db(), name)?.next;
    let latest = now().saturating_add(every.saturating_mul(2)).saturating_add(2 * 86_400);
    // One that is far off is of a clock that was wrong, or of another interval.
    if let Some(next) = next.filter(|next| *next < latest) {
        return Ok(next <= now());
    }
    let first = schedule::first(every, now(), chance());
    state::change(&mut mirrors.db(), name, |state| state.next = Some(first))?;
    Ok(first <= now())
}

async fn look(mirrors: &Arc<Mirrors>, name: &str) {
    let mirror = name.to_owned();
    let order = Order::by_itself(Box::new(move |line: String| {
        tracing::info!(mirror, "{line}");
        Ok(())
    }));
    if let Err(error) = mirrors.round(name, &order).await {
        tracing::warn!(mirror = name, error = format!("{error:#}"), "an upstream could not be followed");
    }
}
