//! Where the targets of a profile are, before any of them is changed.

use smart_sync_sync::apply::Version;

use super::journal::Way;
use crate::failure::{Exit, Failure};
use crate::settings::SyncSettings;
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::Session;
use crate::versions::hold::Hold;

/// A target is where it was permitted to be.
pub(super) fn make_place(settings: &SyncSettings, surroundings: &Surroundings<'_>) -> Result<Place, Failure> {
    let place = Place::make(&settings.target, settings.policy.kind, surroundings.state_dir)?;
    if place.target != settings.target {
        let text = format!("{} was replaced by a link just now", settings.target.display());
        return Err(Failure::message(Exit::General, text).hint("find out by whom, and run this again"));
    }
    Ok(place)
}

/// A target that somebody has taken back by itself.
pub(super) fn held(places: &[Place]) -> Result<Option<(&Place, u64)>, Failure> {
    for place in places {
        if let Some(held) = Hold::read(&place.state)? {
            return Ok(Some((place, held.generation)));
        }
    }
    Ok(None)
}

/// Where targets are now.
pub(super) fn ways(sessions: &[Session<'_>]) -> Vec<Way> {
    let way = |session: &Session<'_>| Way {
        target: session.place().target.clone(),
        version: session.applied.as_ref().and_then(Version::name).map(ToString::to_string),
        manifest: session.manifest().map(|manifest| manifest.to_string()),
    };
    sessions.iter().map(way).collect()
}
