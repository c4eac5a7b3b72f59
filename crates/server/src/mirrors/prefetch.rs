//! Fetching everything that is named, before anybody asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use smart_sync_store::count::counted;
use smart_sync_sync::kinds::pull::{Asked, Expected};
use tokio::task::block_in_place;

use super::mirror::Mirror;
use super::round::Order;
use super::{Failure, Mirrors, Pulled, kept, learn, names, publication};
use crate::commands;
use crate::http::now;

/// Files that wait for their turn, for each that is fetched.
const WAITING: usize = 2;
/// The most failures that are said one by one.
const SHOWN_MAX: usize = 5;

impl Mirrors {
    /// Fetches what is named and not here.
    pub(super) async fn prefetch(
        self: &Arc<Self>,
        mirror: &Arc<Mirror>,
        order: &Order,
    ) -> anyhow::Result<()> {
        let missing = block_in_place(|| {
            learn::learn_now(&self.realm, &mirror.names, mirror.pull)?;
            self.named_and_missing(mirror)
        })?;
        let count = missing.len();
        let fetch = |(name, expected): (String, Expected)| {
            let (mirrors, mirror) = (Arc::clone(self), Arc::clone(mirror));
            async move {
                let fetched = mirrors.fetch_one(&mirror, name.clone(), expected).await;
                (name, fetched)
            }
        };
        let at_once = self.outside.connections.saturating_mul(WAITING).max(1);
        let mut coming = stream::iter(missing).map(fetch).buffer_unordered(at_once);
        let mut failures = Vec::new();
        while let Some((name, fetched)) = coming.next().await {
            match fetched? {
                Ok(()) => {}
                Err(Failure::Local { reason, .. }) => anyhow::bail!("keeping {name}: {reason}"),
                Err(failure) => failures.push(format!("{name}: {failure}")),
            }
        }
        let came =
            counted((count - failures.len()) as u64, "file that is named came", "files that are named came");
        order.say(format!("{came} from upstream before anybody asked"))?;
        if failures.is_empty() {
            return Ok(());
        }
        let did_not = counted(
            failures.len() as u64,
            "file that is named did not come",
            "files that are named did not come",
        );
        failures.truncate(SHOWN_MAX);
        Err(commands::Failure::Upstream(format!("{did_not}: {}", failures.join("; "))).into())
    }

    /// The files that are named, and neither published nor here. On a thread of the runtime that may block.
    fn named_and_missing(&self, mirror: &Mirror) -> anyhow::Result<BTreeMap<String, Expected>> {
        let published = publication::published_files(&self.realm, &mirror.channel)?;
        let mut missing = names::all(&self.db(), &mirror.names.key())?;
        for kept in kept::of_channel(&self.db(), &mirror.channel)? {
            if missing.get(&kept.name) == Some(&kept.expected) {
                missing.remove(&kept.name);
            }
        }
        missing.retain(|name, expected| {
            published.get(name.as_bytes()).is_none_or(|size| *size != expected.size)
        });
        Ok(missing)
    }

    /// Fetches one of them, together with whoever asks for it, and waits until it is here to stay.
    async fn fetch_one(
        self: &Arc<Self>,
        mirror: &Arc<Mirror>,
        name: String,
        expected: Expected,
    ) -> anyhow::Result<Result<(), Failure>> {
        let flight = match block_in_place(|| self.join(mirror, name, expected, now()))? {
            Pulled::Coming(flight) => flight,
            Pulled::Failed(failure) => return Ok(Err(failure)),
            _ => return Ok(Ok(())),
        };
        if let Err(failure) = flight.landed().await {
            return Ok(Err(failure));
        }
        let is_kept = kept::find(&self.db(), &mirror.channel, &Asked::Content(expected.sha512))?.is_some();
        let lost = || Failure::Local { reason: "the log says why".to_owned(), is_full: false };
        Ok(if is_kept { Ok(()) } else { Err(lost()) })
    }
}
