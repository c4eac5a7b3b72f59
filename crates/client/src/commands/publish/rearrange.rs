//! Publishing a tree that is put together of nothing but what is published: nothing is read on this host.

use smart_sync_sync::kinds::{ArtifactKind, Before, Prepared, provenance};
use smart_sync_sync::name::RefName;
use smart_sync_sync::source::assembled::AssembledSource;
use smart_sync_sync::trust::Verified;

use super::destination::NetworkDestination;
use super::source::{Job, of_source, take_in};
use super::{Outcome, Packs, Publisher, Said};
use crate::args::publish::PublishArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::realm::resolve::RefStanding;
use crate::sync::Surroundings;

/// How such a tree is put together, of what is published now.
pub(in crate::commands) type Rearranged<'a> = &'a dyn Fn(&dyn Before) -> Result<Prepared, Failure>;

/// Publishes the branch `main` of a channel of a kind, rearranged. Where somebody else is first, it is what they have
/// published that is rearranged.
pub(in crate::commands) fn rearrange(
    args: &PublishArgs,
    kind: &dyn ArtifactKind,
    how: Rearranged<'_>,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let publisher = Publisher::open(args, config, surroundings)?;
    publisher.until_first(|| Ok((publisher.rearrange_once(kind, how), true)))?;
    publisher.bring_branches(Some(kind))?;
    Ok(Exit::Success)
}

impl Publisher<'_> {
    fn rearrange_once(&self, kind: &dyn ArtifactKind, how: Rearranged<'_>) -> Result<Outcome, Failure> {
        let reference = RefName::branch("main").map_err(|error| Failure::new(Exit::General, error))?;
        let before = self.standing(&reference)?;
        let is_it = |before: &Verified| before.publication.record().kind.as_str() == kind.name();
        let published = match &before {
            RefStanding::Published(before) if is_it(before) => self.published(before),
            _ => {
                let text = format!("{} holds no {}", self.channel(), kind.name());
                return Err(Failure::message(Exit::General, text));
            }
        };
        self.check_keys(&before)?;
        let prepared = how(&published);
        let prepared = prepared.map_err(|failure| published.take_failure().unwrap_or(failure))?;
        for note in &prepared.notes {
            self.output().info(note);
        }
        let packs = if self.args.dry_run { Packs::Count } else { Packs::Send };
        let mut destination =
            NetworkDestination::new(self.remote(), self.surroundings, self.channel(), packs);
        let said =
            Said { content_time: Some(prepared.content_time), meta: provenance::named_by(&prepared.parts) };
        let mut source = AssembledSource::without_directory(prepared.parts).map_err(of_source)?;
        let stored = take_in(&mut source, &mut destination, self.keys.has_sidecars() && !self.args.dry_run);
        let stored = stored.map_err(|error| destination.take_failure().unwrap_or_else(|| error.into()))?;
        let job = Job { reference, commit: None };
        self.state(&job, &stored, &before, said, true)
    }
}
