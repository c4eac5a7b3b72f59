//! One of several targets that are switched together: everything of an update but the decision to switch.

use super::Run;
use crate::after::{self, Settled};
use crate::failure::{Exit, Failure};
use crate::output::count;
use crate::realm::resolve::{Realm, Resolved};
use crate::settings::{SyncMode, SyncSettings};
use crate::sync::Surroundings;
use crate::sync::place::{Label, Place};
use crate::sync::session::{Next, Outcome, Prepared, Session, Wanted};
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::scan::Scan;

/// A target of several.
pub(crate) struct Part<'a>(Run<'a>);

/// What has to be done with a target, when everything is here.
pub(crate) enum Staged<'s> {
    /// Nothing.
    Current,
    /// It has to be noted that its tree is what is wanted.
    Same(Wanted, Box<(Version, Scan)>),
    /// Readers have to be switched.
    Next(Wanted, Box<Next<'s>>),
}

impl<'a> Part<'a> {
    pub(crate) fn new(
        settings: &'a SyncSettings,
        surroundings: &'a Surroundings<'a>,
        realm: &'a Realm,
        resolved: Resolved,
        place: &'a Place,
    ) -> Self {
        Self(Run { settings, surroundings, realm, resolved, place })
    }

    /// What is noted of the tree that is wanted.
    pub(crate) fn label(&self) -> Label {
        self.0.label()
    }

    /// What all targets have sent and received so far.
    pub(crate) fn traffic(&self) -> String {
        self.0.traffic()
    }

    /// Says what would change, or whether anything would.
    pub(crate) fn look(&self) -> Result<Exit, Failure> {
        match self.0.settings.mode {
            SyncMode::CheckOnly => self.0.check(),
            _ => self.0.apply(),
        }
    }

    /// Takes the target, and settles what earlier runs left of it.
    pub(crate) fn begin(&self) -> Result<Settled<'a>, Failure> {
        let Run { settings, surroundings, place, .. } = self.0;
        let begun = Session::begin(place, &settings.policy, settings.validation, surroundings.output)?;
        after::settled(begun, settings, surroundings)
    }

    /// Whether its version is not tried, because it was not healthy when it was.
    pub(crate) fn is_refused(&self) -> Result<bool, Failure> {
        let manifest = self.0.verified().manifest.id;
        after::refuses(self.0.place, manifest, self.0.settings, self.0.surroundings)
    }

    /// Makes the wanted tree whole and durable beside the one that is there.
    pub(crate) fn stage<'s>(&self, session: &'s Session<'a>) -> Result<Staged<'s>, Failure> {
        let is_current = session.manifest() == Some(self.0.verified().manifest.id);
        let scan = session.scan(session.fidelity())?;
        if is_current && scan.is_clean() {
            return Ok(Staged::Current);
        }
        let (wanted, map, staged) = self.0.wanted(session, &scan)?;
        let prepared =
            session.prepare(&wanted, scan, staged, |needs, stage| self.0.stage(map, needs, stage))?;
        Ok(match prepared {
            Prepared::Same(same) => Staged::Same(wanted, same),
            Prepared::Next(next) => Staged::Next(wanted, next),
        })
    }

    /// Switches readers to what was staged. Returns the paths that changed.
    pub(crate) fn switch(
        &self,
        session: &Session<'a>,
        staged: Staged<'_>,
    ) -> Result<Vec<Box<[u8]>>, Failure> {
        let target = self.0.place.target.display();
        let name = self.0.name();
        let output = self.0.surroundings.output;
        let Staged::Next(wanted, next) = staged else {
            output.info(&format!("{target}: {name} is what is here already"));
            self.0.tell_applied(&self.0.label(), 0);
            return Ok(Vec::new());
        };
        super::bundle::discard_received(&self.0.place.state);
        let Outcome::Applied { changes, changed } = session.switch(&wanted, *next)? else {
            return Ok(Vec::new());
        };
        let seq = self.0.verified().publication.record().seq;
        let number = count(changes as u64, "change", "changes");
        output.info(&format!("{target}: {name} number {seq} is applied: {number}"));
        self.0.tell_applied(&wanted.label, changes);
        Ok(changed)
    }
}

impl Staged<'_> {
    /// Leaves the target as it is.
    pub(crate) fn abandon(self) -> Result<(), Failure> {
        match self {
            Staged::Next(_, next) => next.abandon(),
            Staged::Current | Staged::Same(..) => Ok(()),
        }
    }
}
