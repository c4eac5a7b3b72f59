//! Publishing trees that hang together with that of the branch `main`: see [`smart_sync_sync::kinds::parts`].

use std::collections::BTreeMap;

use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{PathError, TreePath};
use smart_sync_sync::ingest::Destination;
use smart_sync_sync::kinds::parts::{WHOLE, below, joined};
use smart_sync_sync::kinds::{Alone, ArtifactKind, Before as _};
use smart_sync_sync::name::{NameError, RefName};
use smart_sync_sync::source::assembled::{AssembledSource, Part};
use smart_sync_sync::time::UnixTime;

use super::destination::NetworkDestination;
use super::source::{Job, of_source, take_in, take_in_and_show};
use super::{Outcome, Packs, Publisher, Said};
use crate::failure::{Exit, Failure};
use crate::realm::resolve::RefStanding;

/// How the parts of a tree are published.
pub(super) struct Parts<'a> {
    pub(super) kind: &'a dyn ArtifactKind,
    pub(super) content_time: UnixTime,
    pub(super) wants_sums: bool,
}

impl Publisher<'_> {
    /// Refuses a ref to which a kind does not publish: one whose trees hang together does so to one branch.
    pub(super) fn check_reference(
        kind: Option<&dyn ArtifactKind>,
        reference: &RefName,
    ) -> Result<(), Failure> {
        let Some(kind) = kind.filter(|kind| !kind.branches().is_empty()) else { return Ok(()) };
        if *reference == whole() {
            return Ok(());
        }
        let text = format!(
            "{} are published to {}, and nothing else: {reference} is made of it",
            kind.name(),
            whole()
        );
        Err(Failure::message(Exit::Arguments, text).hint("leave --ref out"))
    }

    /// Publishes the directories of a tree that are trees of their own, and says what the tree consists of then: what has
    /// been sent is not read again.
    pub(super) fn publish_alone(
        &self,
        parts: &Parts<'_>,
        mut whole: BTreeMap<TreePath, Part>,
        source: &mut AssembledSource,
        destination: &mut dyn Destination,
    ) -> Result<BTreeMap<TreePath, Part>, Failure> {
        for alone in parts.kind.alone(&whole) {
            self.note_kind(parts.kind)?;
            let below = below(&alone.directory, whole.iter().map(|(path, part)| (path, part.clone())))
                .map_err(path_error)?;
            source.assemble(below).map_err(of_source)?;
            let before = self.standing(&alone.reference)?;
            let mut contents = Vec::new();
            let stored = take_in_and_show(source, destination, parts.wants_sums, &mut |entry| {
                contents.extend(entry.content().map(|content| (entry.path.clone(), *content)));
            })?;
            self.show_warnings(&stored.tree.warnings);
            check_alone(&alone, &before, stored.tree.manifest.id)?;
            let job = Job { reference: alone.reference.clone(), commit: None };
            let said = Said { content_time: Some(parts.content_time), meta: None };
            self.state(&job, &stored, &before, said, true)?;
            if self.args.dry_run {
                // Nothing of it was sent, so the whole tree cannot refer to it.
                continue;
            }
            for (path, content) in contents {
                let path = joined(&alone.directory, &path).map_err(path_error)?;
                whole.insert(path, Part::Published(content));
            }
        }
        Ok(whole)
    }

    /// Brings the branches that follow a directory of the whole tree to what it is now.
    pub(super) fn bring_branches(&self, kind: Option<&dyn ArtifactKind>) -> Result<(), Failure> {
        let Some(kind) = kind.filter(|_| !self.args.dry_run) else { return Ok(()) };
        self.note_kind(kind)?;
        for branch in kind.branches() {
            let reference = RefName::branch(branch).map_err(|error| Failure::new(Exit::General, error))?;
            self.until_first(|| Ok((self.bring(kind, branch, &reference), true)))?;
        }
        Ok(())
    }

    /// What belongs to a tree of a kind is of that kind, also where it is published for the first time.
    fn note_kind(&self, kind: &dyn ArtifactKind) -> Result<(), Failure> {
        let name = kind.name().parse().map_err(|error: NameError| Failure::new(Exit::General, error))?;
        self.together.get_or_init(|| name);
        Ok(())
    }

    fn bring(&self, kind: &dyn ArtifactKind, branch: &str, reference: &RefName) -> Result<Outcome, Failure> {
        // In this order: whoever changes the whole tree afterwards looks at the branch once more, and one of both sees
        // the other's publication.
        let before = self.standing(reference)?;
        let RefStanding::Published(main) = self.standing(&whole())? else { return Ok(Outcome::Unchanged) };
        let published = self.published(&main);
        let files = published.files().map_err(|error| {
            published.take_failure().unwrap_or_else(|| Failure::new(Exit::General, error))
        })?;
        let Some(directory) = kind.branch_holds(branch, &mut files.keys()) else {
            return Ok(Outcome::Unchanged);
        };
        let parts = below(&directory, files.iter().map(|(path, content)| (path, Part::Published(*content))))
            .map_err(path_error)?;
        let mut source = AssembledSource::without_directory(parts).map_err(of_source)?;
        let mut destination =
            NetworkDestination::new(self.remote(), self.surroundings, self.channel(), Packs::Send);
        let stored = take_in(&mut source, &mut destination, self.keys.has_sidecars());
        let stored = stored.map_err(|error| destination.take_failure().unwrap_or_else(|| error.into()))?;
        let job = Job { reference: reference.clone(), commit: None };
        let said = Said { content_time: Some(main.publication.record().content_time), meta: None };
        self.state(&job, &stored, &before, said, true)
    }
}

fn whole() -> RefName {
    RefName::branch(WHOLE).expect("a word is the name of a branch")
}

/// Refuses to publish a tree under a name that is another one for good.
fn check_alone(alone: &Alone, before: &RefStanding, manifest: ManifestId) -> Result<(), Failure> {
    let reason = match before {
        RefStanding::Published(before) if before.manifest.id != manifest => {
            "is published, and is another tree"
        }
        RefStanding::Withdrawn { .. } => "was withdrawn, and its name is not used again",
        RefStanding::Void { .. } => "was published with keys that do not count any more",
        RefStanding::Published(_) | RefStanding::Absent => return Ok(()),
    };
    Err(Failure::message(Exit::Refused, format!("{} {reason}", alone.reference)).hint(alone.when_other))
}

fn path_error(error: PathError) -> Failure {
    Failure::new(Exit::General, error)
}
