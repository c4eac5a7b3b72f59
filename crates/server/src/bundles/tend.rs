//! Looking after the bundles: what was published is prepared, what is hot is made smaller, what is old goes.
//!
//! A round finds out where the refs stand, asks [`plan`], and acts on the answer. A publication of this process begins
//! one at once; one of another process is noticed because the log has grown.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use smart_sync_store::object::ObjectKey;
use smart_sync_sync::log::merkle::LogHash;
use tokio::time::Instant;

use super::policy::{History, Rules, Situation, Stored, plan};
use super::step::Quality;
use super::{Bundles, Preparation, bounded};
use crate::realm::Realm;
use crate::realm::refs::RefState;
use crate::realm::view::View;

/// How often it is looked whether the log has grown.
const POLL: Duration = Duration::from_secs(2);
/// How often a round is made though nothing has happened: time passes, and garbage is collected.
const ROUND: Duration = Duration::from_secs(60);
/// How often it is looked what other processes have stored and removed.
const LOOK: Duration = Duration::from_secs(300);
/// How long a variant stays that another took the place of.
const REPLACED_SECONDS: u64 = 3600;

/// Looks after the bundles of a realm until it is told to stop.
pub(crate) async fn tend(bundles: Arc<Bundles>, realm: Arc<Realm>) {
    let mut known = Known::default();
    let (mut last_round, mut last_look) = (None, Instant::now());
    loop {
        let is_news = tokio::time::timeout(POLL, bundles.news.notified()).await.is_ok();
        let asked = Arc::clone(&realm);
        let view = tokio::task::spawn_blocking(move || asked.newest_view()).await;
        // Whoever serves requests says that the log cannot be read.
        let Ok(Ok(view)) = view else { continue };
        let is_due = last_round.is_none_or(|last: Instant| last.elapsed() >= ROUND);
        if !is_news && !is_due && known.size == view.size {
            continue;
        }
        last_round = Some(Instant::now());
        if last_look.elapsed() >= LOOK {
            last_look = Instant::now();
            if let Err(error) = bundles.look().await {
                tracing::warn!(error = format!("{error:#}"), "listing the bundles");
            }
        }
        known = round(&bundles, &realm, view, known).await;
    }
}

/// Where the refs stand, as of a size of the log.
#[derive(Debug, Default)]
struct Known {
    size: u64,
    /// By the hash of the newest leaf: what has not moved is not read again.
    histories: HashMap<LogHash, History>,
}

async fn round(bundles: &Arc<Bundles>, realm: &Arc<Realm>, view: Arc<View>, known: Known) -> Known {
    let (asked, named, ladder) = (Arc::clone(realm), bundles.named(), bundles.settings.config.ladder);
    let reading = move || -> anyhow::Result<(Known, HashSet<_>)> {
        let known = if known.size == view.size { known } else { read(&asked, &view, &known, ladder)? };
        Ok((known, gone(&asked, named)?))
    };
    match tokio::task::spawn_blocking(reading).await.map_err(anyhow::Error::from).flatten() {
        Ok((known, gone)) => {
            let histories: Vec<_> = known.histories.values().cloned().collect();
            bundles.act(&histories, &gone).await;
            known
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "finding out which bundles to prepare");
            Known::default()
        }
    }
}

fn read(realm: &Realm, view: &View, known: &Known, ladder: u32) -> anyhow::Result<Known> {
    let mut histories = HashMap::new();
    for state in realm.refs(view)?.iter() {
        let leaf = state.head.leaf;
        let history = match known.histories.get(&leaf) {
            Some(history) => Some(history.clone()),
            None => history_of(realm, view, state, ladder)?,
        };
        histories.extend(history.map(|history| (leaf, history)));
    }
    Ok(Known { size: view.size, histories })
}

/// A ref's versions at the distances that matter; nothing if it was withdrawn.
fn history_of(realm: &Realm, view: &View, state: &RefState, ladder: u32) -> anyhow::Result<Option<History>> {
    let Some(current) = state.publication.manifest else { return Ok(None) };
    let domain = realm.domain(&state.publication.channel)?;
    let longest = 1u64.checked_shl(ladder).unwrap_or(u64::MAX);
    let mut earlier = Vec::new();
    let mut distance = 1;
    while distance <= longest && distance < state.head.seq {
        let before = state.head.seq - distance + 1;
        let leaf = realm.index().history(&state.head.key, Some(before), 1, view.size)?.pop();
        if let Some((_, leaf)) = leaf
            && let Some(manifest) = realm.published(leaf, view.size)?.publication.manifest
        {
            earlier.push((distance, manifest.id));
        }
        distance = distance.saturating_mul(2);
    }
    Ok(Some(History { domain, moved: state.head.index, current: current.id, earlier }))
}

/// Of these manifests, those that are not here.
fn gone(
    realm: &Realm,
    named: HashMap<Domain, HashSet<ManifestId>>,
) -> anyhow::Result<HashSet<(Domain, ManifestId)>> {
    let mut gone = HashSet::new();
    for (domain, manifests) in named {
        let manifests: Vec<_> = manifests.into_iter().collect();
        let keys: Vec<_> = manifests.iter().map(|id| ObjectKey::page(id.root_page())).collect();
        for (manifest, found) in manifests.into_iter().zip(realm.store.locate(&domain, &keys)?) {
            if found.is_none() {
                gone.insert((domain.clone(), manifest));
            }
        }
    }
    Ok(gone)
}

impl Bundles {
    /// The manifests that stored bundles speak of.
    fn named(&self) -> HashMap<Domain, HashSet<ManifestId>> {
        let mut named: HashMap<_, HashSet<_>> = HashMap::new();
        for kept in self.state().shelf.iter() {
            let step = &kept.file.step;
            named.entry(step.domain.clone()).or_default().extend(step.from.into_iter().chain([step.to]));
        }
        named
    }

    /// Removes what is to go, and begins to prepare what is wanted.
    pub(super) async fn act(self: &Arc<Self>, histories: &[History], gone: &HashSet<(Domain, ManifestId)>) {
        let config = &self.settings.config;
        let rules = Rules {
            bytes: config.store_mib.saturating_mul(1 << 20),
            ladder: config.ladder,
            hot: config.hot,
            grace: REPLACED_SECONDS,
        };
        let plan = {
            let state = self.state();
            let stored: Vec<_> = state
                .shelf
                .iter()
                .map(|kept| Stored {
                    file: kept.file.clone(),
                    asked: kept.asked,
                    replaced: kept.replaced,
                    is_read: kept.is_read(),
                })
                .collect();
            plan(&Situation {
                now: self.now(),
                rules,
                histories,
                stored: &stored,
                demand: &state.demand.counts(),
                gone,
                settled: &state.settled,
            })
        };
        for file in &plan.evict {
            if !self.take_off(file) {
                continue;
            }
            match self.backend.delete(file).await {
                Ok(()) => tracing::info!(%file, "bundle removed"),
                Err(error) => tracing::warn!(%file, %error, "removing a bundle"),
            }
        }
        self.prepare_all(&plan.make);
    }

    /// Forgets a bundle, and that it should be there, unless somebody has begun to read it.
    fn take_off(&self, file: &super::BundleFile) -> bool {
        let mut state = self.state();
        if state.shelf.of(&file.step).iter().any(|kept| kept.file == *file && kept.is_read()) {
            return false;
        }
        state.shelf.remove(file);
        bounded(&mut state.settled);
        state.settled.insert((file.step.clone(), file.variant.quality));
        true
    }

    fn prepare_all(self: &Arc<Self>, wanted: &[(super::Step, Quality)]) {
        let is_quick =
            |(step, quality): &(super::Step, Quality)| (*quality == Quality::Quick).then(|| step.clone());
        let mut quick: HashSet<_> = wanted.iter().filter_map(is_quick).collect();
        // Somebody may have asked for one meanwhile.
        quick.extend(self.state().jobs.keys().filter_map(is_quick));
        for quality in [Quality::Quick, Quality::Best] {
            // The better variant comes after the quick one: neither instead of it nor in its way.
            let is_early = |step: &super::Step| quality == Quality::Best && quick.contains(step);
            let of_quality = wanted.iter().filter(|(_, wanted)| *wanted == quality).map(|(step, _)| step);
            let mut is_first = true;
            for step in of_quality.filter(|step| !is_early(step)) {
                if self.prepare(step, quality) == Preparation::NoSlot {
                    if is_first {
                        self.make_way(quality);
                    }
                    break;
                }
                is_first = false;
            }
        }
    }

    /// Breaks off first installs that are prepared, for something more urgent: they take longest by far, and hosts
    /// that follow wait for what is far smaller.
    fn make_way(&self, quality: Quality) {
        for job in self.state().jobs.values() {
            let is_first_install = job.step.from.is_none() && job.quality == quality && job.is_prepared();
            if is_first_install && !job.is_followed() {
                tracing::info!(step = %job.step, %quality, "a first install makes way for an update");
                job.cancel();
            }
        }
    }
}
