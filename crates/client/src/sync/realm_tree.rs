//! Following a channel of a realm.

mod together;

pub(crate) use self::together::{Part, Staged};

use std::collections::HashSet;

use reqwest::StatusCode;
use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::{Fidelity, ManifestSummary};
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::scan::Scan;
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::name::Channel;
use smart_sync_sync::trust::Verified;
use smart_sync_sync::wire::delta::{Delta, decoded_len_max};
use smart_sync_sync::wire::fetch_map::FetchMap;
use smart_sync_sync::wire::locate::{CONTENTS_MAX, Wanted as Located};

use super::Surroundings;
use super::bundle::{self, Brought};
use super::fetch::{Fetch, Fetcher};
use super::foresee::{Foreseen, foresee};
use super::original::bring_original;
use super::pages::Pages;
use super::place::{AppliedEvent, Label, Place, triggered_by};
use super::rebuild::Rebuilding;
use super::session::{Outcome, Purpose, Session, Wanted};
use crate::after::trigger::Changed;
use crate::after::{self, Settled};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Output, count};
use crate::prefer::Prefer;
use crate::realm::locate::{Tree, locate};
use crate::realm::remote::Remote;
use crate::realm::resolve::{Realm, RealmOptions, Resolved, now};
use crate::realm::trust_store::TrustStore;
use crate::settings::{SyncMode, SyncSettings, TreeSource};
use indicatif::HumanBytes;
use tokio::runtime::Handle;

/// What to do about a version that is not there any more.
const COLLECTED_HINT: &str = "choose another ref with --ref, or ask whoever runs the server";

/// The realm and the channel that a target follows, if it is one of a realm.
pub(crate) fn realm_of<'s>(
    settings: &'s SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<Option<(Realm, &'s Channel)>, Failure> {
    let TreeSource::Channel { realm, servers, channel, token, max_age } = &settings.tree.source else {
        return Ok(None);
    };
    let options = RealmOptions {
        origin: realm.clone(),
        servers: servers.clone(),
        token: token.clone(),
        max_age: *max_age,
        network: surroundings.network,
    };
    Ok(Some((Realm::open(&TrustStore::new(surroundings.state_dir), &options)?, channel)))
}

/// Brings a target to a ref of a channel.
pub(super) fn run(settings: &SyncSettings, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let Some((realm, channel)) = realm_of(settings, surroundings)? else {
        return Err(Failure::message(Exit::Arguments, "no channel is named"));
    };
    let place = match settings.mode {
        SyncMode::Apply => Place::make(&settings.target, settings.policy.kind, surroundings.state_dir)?,
        SyncMode::DryRun | SyncMode::CheckOnly => {
            Place::look(&settings.target, settings.policy.kind, surroundings.state_dir)?
        }
    };
    let base = match settings.mode {
        SyncMode::Apply => place.open()?.applied()?.map(|version| version.manifest()),
        SyncMode::DryRun | SyncMode::CheckOnly => None,
    };
    let resolving = realm.resolve_from(channel, &settings.tree.reference, base, surroundings.output);
    let resolved = surroundings.runtime.block_on(surroundings.interrupt.guard(resolving))?;
    let run = Run { settings, surroundings, realm: &realm, resolved, place: &place };
    if settings.mode == SyncMode::CheckOnly {
        return run.check();
    }
    run.apply()
}

pub(super) struct Run<'a> {
    settings: &'a SyncSettings,
    surroundings: &'a Surroundings<'a>,
    realm: &'a Realm,
    resolved: Resolved,
    place: &'a Place,
}

/// A tree that was made of a list of changes, and is the one that was signed.
pub(super) struct Rebuilt {
    pub(super) pages: Pages,
    pub(super) summary: ManifestSummary,
    pub(super) fidelity: Fidelity,
    pub(super) map: FetchMap,
}

impl Run<'_> {
    pub(super) fn verified(&self) -> &Verified {
        &self.resolved.verified
    }

    pub(super) const fn place(&self) -> &Place {
        self.place
    }

    /// Whether contents are looked for in other places of this host.
    pub(super) fn has_bytes_elsewhere(&self) -> bool {
        self.settings.elsewhere.is_any(self.surroundings.state_dir)
    }

    pub(super) const fn output(&self) -> &Output {
        self.surroundings.output
    }

    pub(super) const fn interrupt(&self) -> &Interrupt {
        self.surroundings.interrupt
    }

    pub(super) const fn prefer(&self) -> Option<Prefer> {
        self.settings.prefer
    }

    pub(super) const fn runtime(&self) -> &Handle {
        self.surroundings.runtime
    }

    /// The bundle from a manifest that came with the evidence, if one did.
    pub(super) fn carried(&self, base: Option<ManifestId>) -> Option<&[u8]> {
        let carried = self.resolved.carried.as_ref()?;
        (base == Some(carried.from)).then_some(&*carried.bytes)
    }

    pub(super) fn remotes(&self) -> &[Remote] {
        &self.resolved.remotes
    }

    fn name(&self) -> String {
        let publication = self.verified().publication.record();
        format!("{} {}", publication.channel, self.resolved.reference)
    }

    /// Says whether there is an update.
    fn check(&self) -> Result<Exit, Failure> {
        let applied = self.place.open()?.applied()?.map(|version| version.manifest());
        let manifest = self.verified().manifest.id;
        if applied == Some(manifest) {
            self.surroundings.output.info(&format!("{} is up to date", self.name()));
            return Ok(Exit::Success);
        }
        let publication = self.verified().publication.record();
        let commit = publication.git.map_or_else(String::new, |git| format!(", commit {}", git.commit));
        self.surroundings.output.info(&format!(
            "an update is available: {} number {}{commit}",
            self.name(),
            publication.seq
        ));
        Ok(Exit::UpdateAvailable)
    }

    fn apply(&self) -> Result<Exit, Failure> {
        let (settings, output) = (self.settings, self.surroundings.output);
        let begun = Session::begin(self.place, &settings.policy, settings.validation, output)?;
        let session = match after::settled(begun.guarded(self.surroundings), settings, self.surroundings)? {
            Settled::Nothing(session) | Settled::Confirmed(session) => *session,
            Settled::Undone(exit) | Settled::Waits(exit) => return Ok(exit),
        };
        let wanted_id = self.verified().manifest.id;
        if after::refuses(self.place, wanted_id, settings, self.surroundings)? {
            return Ok(Exit::RolledBack);
        }
        let is_current = session.manifest() == Some(wanted_id);
        let fidelity = session.fidelity();
        let scan = session.scan(fidelity)?;
        if is_current && scan.is_clean() {
            bundle::discard_received(&self.place.state);
            output.info(&format!("{} is up to date{}", self.name(), self.traffic()));
            let applied = session.applied.as_ref().and_then(Label::of).map(|label| label.applied);
            let label = self.label();
            self.tell_applied(&Label { applied: applied.unwrap_or(label.applied), ..label }, 0);
            return after::retry(session, settings, self.surroundings);
        }
        let (wanted, map, staged) = self.wanted(&session, &scan)?;
        // Who only looks is told where contents lie, and does not go there.
        let shown = (settings.mode != SyncMode::Apply).then(|| map.clone());
        let outcome = session
            .apply(&wanted, scan, settings.mode, staged, |needs, stage| self.stage(map, needs, stage))?;
        if !matches!(outcome, Outcome::Shown { .. }) {
            bundle::discard_received(&self.place.state);
        }
        match &outcome {
            Outcome::Nothing => {
                output.info(&format!("{} is what is here already{}", self.name(), self.traffic()));
            }
            Outcome::Shown { fetches } => {
                self.tell_cost(&session, shown.unwrap_or_default(), fetches)?;
                output.info("nothing was changed");
            }
            Outcome::Applied { changes, .. } => output.info(&format!(
                "{} number {} is applied: {}{}; the whole tree is {}",
                self.name(),
                self.verified().publication.record().seq,
                count(*changes as u64, "change", "changes"),
                self.traffic(),
                HumanBytes(self.verified().publication.record().content.bytes)
            )),
        }
        match outcome {
            Outcome::Nothing => self.tell_applied(&wanted.label, 0),
            Outcome::Applied { changes, changed } => {
                self.tell_applied(&wanted.label, changes);
                let changed = Changed::Paths(&changed);
                return after::complete(session, &settings.policy.after, changed, self.surroundings);
            }
            Outcome::Shown { .. } => {}
        }
        Ok(Exit::Success)
    }

    /// Says what the update that was shown would fetch.
    fn tell_cost(&self, session: &Session<'_>, map: FetchMap, fetches: &[Need]) -> Result<(), Failure> {
        let output = self.surroundings.output;
        if let Some(bytes) = self.bundle_length(session)? {
            output.info(&format!("the update comes as one bundle of {bytes} bytes"));
            return Ok(());
        }
        let needs: Vec<&Need> = fetches.iter().collect();
        if needs.is_empty() {
            return Ok(());
        }
        let Foreseen { bytes, ranges } = foresee(self.with_others(map, &needs)?, &needs, session);
        let most = if self.has_bytes_elsewhere() { "at most " } else { "" };
        let ranges = count(ranges as u64, "range", "ranges");
        output.info(&format!("the update comes chunk by chunk: {most}{bytes} bytes in {ranges}"));
        Ok(())
    }

    fn tell_applied(&self, label: &Label, changes: usize) {
        let traffic = self.realm.traffic();
        self.surroundings.output.event(&AppliedEvent {
            target: &self.place.target.to_string_lossy(),
            label,
            manifest: &format!("blake3:{}", self.verified().manifest.id),
            changes,
            received: traffic.received(),
            requests: traffic.requests(),
        });
    }

    /// What is noted of the wanted tree, if it is applied now.
    fn label(&self) -> Label {
        let publication = self.verified().publication.record();
        Label {
            origin: publication.origin.to_string(),
            channel: publication.channel.to_string(),
            r#ref: self.resolved.reference.to_string(),
            seq: publication.seq,
            commit: publication.git.map(|git| git.commit.to_string()),
            applied: now().seconds(),
            by: triggered_by(),
        }
    }

    fn traffic(&self) -> String {
        let traffic = self.realm.traffic();
        format!(
            " ({} received, {} sent, {})",
            HumanBytes(traffic.received()),
            HumanBytes(traffic.sent()),
            count(traffic.requests(), "request", "requests")
        )
    }

    /// Gets the wanted manifest, as edits to the one that is here, and by a bundle its contents too.
    fn wanted<'s>(
        &self,
        session: &'s Session<'_>,
        scan: &Scan,
    ) -> Result<(Wanted, FetchMap, Option<Stage<'s>>), Failure> {
        let signed = self.verified().manifest;
        let publication = self.verified().publication.record();
        let label = self.label();
        let base = session.known_manifest();
        if base.is_some_and(|(base, _)| base == signed.id) {
            let wanted = Wanted {
                pages: session.pages.clone(),
                manifest: signed.id,
                fidelity: session.fidelity(),
                label,
                purpose: Purpose::Update,
            };
            return Ok((wanted, FetchMap::default(), None));
        }
        // The target may have been there before: then most of it is still on this host.
        if let Some((pages, fidelity)) = session.pages_of_kept(signed.id)? {
            let wanted = Wanted { pages, manifest: signed.id, fidelity, label, purpose: Purpose::Update };
            return Ok((wanted, FetchMap::default(), None));
        }
        // Who only wants to see what would happen does not pay for contents.
        let brought = match self.settings.mode {
            SyncMode::Apply => self.bring(session, scan)?,
            _ => None,
        };
        let (rebuilt, staged) = match brought {
            Some(Brought { rebuilt, stage }) => (rebuilt, Some(stage)),
            None => (self.rebuild(base, session)?, None),
        };
        let Rebuilt { pages, summary, fidelity, map } = rebuilt;
        let content = publication.content;
        if (summary.root_length, summary.entries, summary.bytes)
            != (signed.bytes, content.entries, content.bytes)
        {
            return Err(Failure::message(Exit::Refused, "the publication counts its tree wrongly")
                .hint("nothing was changed; tell whoever publishes it"));
        }
        if let Some(expected) = self.settings.policy.fidelity
            && !expected.is(fidelity)
        {
            return Err(Failure::message(
                Exit::Refused,
                "the tree keeps another amount of metadata than the configuration of this target allows",
            ));
        }
        Ok((Wanted { pages, manifest: signed.id, fidelity, label, purpose: Purpose::Update }, map, staged))
    }

    /// Asks for the changes since `base`, or for everything where no server knows that, and makes them. A server
    /// whose list does not lead to the manifest that was signed is passed over like one that is not there.
    fn rebuild(&self, base: Option<(ManifestId, u64)>, session: &Session<'_>) -> Result<Rebuilt, Failure> {
        let content = self.verified().publication.record().content;
        let old_entries = base.map_or(0, |(_, entries)| entries);
        let limit = decoded_len_max(old_entries, content.entries, content.bytes);
        let mut remotes: Vec<&Remote> = self.resolved.remotes.iter().collect();
        let mut last = None;
        for from in base.into_iter().map(|(base, _)| Some(base)).chain([None]) {
            for remote in std::mem::take(&mut remotes) {
                match self.changes(remote, from, limit, session) {
                    Ok(Some(rebuilt)) => return Ok(rebuilt),
                    // It may not know the base, and have the tree all the same.
                    Ok(None) => remotes.push(remote),
                    Err(failure) if failure.exit() == Exit::Interrupted => return Err(failure),
                    Err(failure) => {
                        self.tell_passed_over(remote, &failure);
                        last = Some(failure);
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            Failure::message(Exit::Network, "no server has the tree of this version any more")
                .hint(COLLECTED_HINT)
        }))
    }

    /// Asks one server for the changes since `from`, and makes them; nothing where the server has none.
    fn changes(
        &self,
        remote: &Remote,
        from: Option<ManifestId>,
        limit: u64,
        session: &Session<'_>,
    ) -> Result<Option<Rebuilt>, Failure> {
        let signed = self.verified().manifest;
        let name = from.map_or_else(|| "none".to_owned(), |from| from.to_string());
        let bytes = match self.block_on(remote.get(&format!("v1/delta/{name}/{}", signed.id), limit))? {
            Ok(bytes) => bytes,
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let refused = |failure: Failure| {
            failure
                .context(format!("the list of changes from {} is refused", remote.base()))
                .hint("nothing was changed; try another mirror with --server")
        };
        let delta =
            Delta::decode(&bytes, limit).map_err(|error| refused(Failure::new(Exit::Refused, error)))?;
        let fidelity = delta.fidelity;
        // With another fidelity there is nothing to build on.
        let from = from.filter(|_| fidelity == session.fidelity());
        let (pages, summary) =
            session.pages.edited(from, fidelity, delta.edits).map_err(|error| refused(error.into()))?;
        if summary.id != signed.id {
            let text = format!("it leads to manifest {}, and {} was signed", summary.id, signed.id);
            return Err(refused(Failure::message(Exit::Refused, text)));
        }
        Ok(Some(Rebuilt { pages, summary, fidelity, map: delta.map }))
    }

    /// Says why a server is passed over, where there is another one.
    fn tell_passed_over(&self, remote: &Remote, failure: &Failure) {
        if self.resolved.remotes.len() > 1 {
            let reason = failure.in_one_line();
            self.surroundings.output.warning(&format!("{} is passed over: {reason}", remote.base()));
        }
    }

    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let guarded = self.surroundings.interrupt.guard(async { Ok(work.await) });
        self.surroundings.runtime.block_on(guarded)
    }

    /// Brings contents into the stage.
    pub(super) fn stage(&self, map: FetchMap, needs: &[&Need], stage: &Stage<'_>) -> Result<(), Failure> {
        if needs.is_empty() {
            return Ok(());
        }
        let Surroundings { state_dir, interrupt, output, .. } = *self.surroundings;
        let needs = self.settings.elsewhere.bring(needs, stage, self.place, state_dir, interrupt, output)?;
        if needs.is_empty() {
            return Ok(());
        }
        let needs = &needs[..];
        let maps = self.with_others(map, needs)?;
        let rebuilding = Rebuilding::new(needs, &maps, stage)?;
        let by_id = rebuilding.with_plain_streams(needs);
        let fetcher = Fetcher {
            remotes: &self.resolved.remotes,
            runtime: self.surroundings.runtime,
            interrupt: self.surroundings.interrupt,
            connections: self.surroundings.network.connections,
            output: self.surroundings.output,
            needs: &by_id,
            stage,
        };
        let plans = maps.into_iter().map(|map| fetcher.plan(map)).collect::<Result<Vec<_>, _>>()?;
        let total: u64 = plans.iter().map(Fetch::bytes).sum();
        let files = count(needs.len() as u64, "file", "files");
        self.surroundings.output.info(&format!("downloading {} for {files}", HumanBytes(total)));
        let mut progress = self.surroundings.output.progress("fetching", total);
        for plan in plans {
            fetcher.fetch(plan, &mut progress)?;
        }
        rebuilding.finish(stage, self.surroundings.interrupt, |need| {
            bring_original(&self.resolved.remotes, need, stage, self.surroundings)
        })?;
        for need in needs {
            if !stage.has(&need.content)? {
                let text =
                    format!("no server has content {}; the version may have been collected", need.content.id);
                return Err(Failure::message(Exit::Network, text).hint(COLLECTED_HINT));
            }
        }
        Ok(())
    }

    /// A map, and those of what is needed and not in it.
    fn with_others(&self, map: FetchMap, needs: &[&Need]) -> Result<Vec<FetchMap>, Failure> {
        let located: HashSet<_> = ids_of(&map).collect();
        let others: Vec<&Need> =
            needs.iter().filter(|need| !located.contains(&need.content.id)).copied().collect();
        drop(located);
        let mut maps = vec![map];
        for batch in others.chunks(CONTENTS_MAX) {
            maps.extend(self.locate(batch)?);
        }
        Ok(maps)
    }

    fn locate(&self, needs: &[&Need]) -> Result<Vec<FetchMap>, Failure> {
        let wanted: Vec<Located> =
            needs.iter().map(|need| Located { id: need.content.id, size: need.content.size }).collect();
        let trees = [Tree::of(self.verified())];
        let mut last = None;
        for remote in &self.resolved.remotes {
            match self.block_on(locate(remote, &wanted, &trees))? {
                Ok(maps) => return Ok(maps),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::message(Exit::Network, "no server could be asked")))
    }
}

/// The contents that a map tells how to get.
fn ids_of(map: &FetchMap) -> impl Iterator<Item = ContentId> {
    let whole = map.contents.iter().map(|content| content.id);
    whole.chain(map.rebuilt.iter().map(|rebuilt| rebuilt.id))
}
