//! Publishing trees that hang together with that of the branch `main`: see [`smart_sync_sync::kinds::parts`].

use std::collections::BTreeMap;

use smart_sync_store::manifest::TreePath;
use smart_sync_sync::ingest::{IngestOptions, Ingested, ingest, ingest_and_show};
use smart_sync_sync::kinds::parts::{WHOLE, below, joined};
use smart_sync_sync::kinds::{Alone, ArtifactKind, Before as _};
use smart_sync_sync::name::RefName;
use smart_sync_sync::publish::Target;
use smart_sync_sync::source::assembled::{AssembledSource, Part};
use smart_sync_sync::time::UnixTime;

use super::{Publisher, Read};
use crate::commands::Failure;
use crate::http::now;
use crate::realm::Published;
use crate::realm::before::StoredTree;
use crate::realm::destination::LocalDestination;

/// What is stated of a tree and of those that hang together with it.
pub(super) struct Stating<'a> {
    pub(super) kind: &'a dyn ArtifactKind,
    pub(super) target: &'a Target,
    pub(super) time: UnixTime,
    /// What is worth saying.
    pub(super) says: Says,
}

/// What of publications is worth saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// Whatever they are.
    All,
    /// That something has changed.
    Changes,
}

impl Stating<'_> {
    /// A tree that was stored.
    pub(super) fn read(&self, tree: Ingested) -> Read {
        Read { tree, commit: None, time: Some(self.time), meta: None }
    }

    fn at(&self, reference: RefName) -> Target {
        Target { reference, ..self.target.clone() }
    }
}

/// Whether a ref is the one that holds the whole tree.
pub(crate) fn is_whole(reference: &RefName) -> bool {
    matches!(reference, RefName::Branch(name) if name.as_str() == WHOLE)
}

impl Publisher<'_> {
    /// Publishes the directories of a tree that are trees of their own, and says what the tree consists of then.
    pub(super) fn publish_alone(
        &self,
        stating: &Stating<'_>,
        mut whole: BTreeMap<TreePath, Part>,
        source: &mut AssembledSource,
    ) -> anyhow::Result<BTreeMap<TreePath, Part>> {
        for alone in stating.kind.alone(&whole) {
            let parts = whole.iter().map(|(path, part)| (path, part.clone()));
            source.assemble(below(&alone.directory, parts)?)?;
            let target = stating.at(alone.reference.clone());
            let newest = self.newest(&target.channel, &target.reference)?;
            let mut destination = LocalDestination::new(self.realm, &target.channel, now())?;
            let mut contents = Vec::new();
            let options = IngestOptions::default();
            let tree = ingest_and_show(source, &mut destination, options, &mut |entry| {
                contents.extend(entry.content().map(|content| (entry.path.clone(), *content)));
            })?;
            check_alone(&alone, newest.as_ref(), &tree)?;
            self.state(&target, &stating.read(tree), newest.as_ref())?;
            for (path, content) in contents {
                whole.insert(joined(&alone.directory, &path)?, Part::Published(content));
            }
        }
        Ok(whole)
    }

    /// Brings the branches that follow a directory of the whole tree to what it is now.
    pub(super) fn bring_branches(&self, stating: &Stating<'_>) -> anyhow::Result<()> {
        for branch in stating.kind.branches() {
            self.bring(stating, branch)?;
        }
        Ok(())
    }

    fn bring(&self, stating: &Stating<'_>, branch: &str) -> anyhow::Result<()> {
        let (realm, channel) = (self.realm, &stating.target.channel);
        let target = stating.at(RefName::branch(branch)?);
        // In this order: whoever changes the whole tree afterwards looks at the branch once more, and one of both sees
        // the other's publication.
        let newest = self.newest(channel, &target.reference)?;
        let main = self.newest(channel, &RefName::branch(WHOLE)?)?;
        let Some(manifest) = main.and_then(|main| main.publication.manifest) else { return Ok(()) };
        let files = StoredTree { realm, domain: realm.domain(channel)?, manifest: manifest.id }.files()?;
        let Some(directory) = stating.kind.branch_holds(branch, &mut files.keys()) else { return Ok(()) };
        let parts = files.iter().map(|(path, content)| (path, Part::Published(*content)));
        let mut source = AssembledSource::without_directory(below(&directory, parts)?)?;
        let mut destination = LocalDestination::new(realm, channel, now())?;
        let tree = ingest(&mut source, &mut destination, IngestOptions::default())?;
        let there =
            newest.as_ref().and_then(|newest| newest.publication.manifest).map(|manifest| manifest.id);
        if stating.says == Says::Changes && there == Some(tree.manifest.id) {
            return Ok(());
        }
        self.state(&target, &stating.read(tree), newest.as_ref())
    }
}

/// Refuses to publish a tree under a name that is another one for good.
fn check_alone(alone: &Alone, newest: Option<&Published>, tree: &Ingested) -> Result<(), Failure> {
    let reason = match newest.map(|newest| newest.publication.manifest) {
        Some(Some(manifest)) if manifest.id != tree.manifest.id => "is published, and is another tree",
        Some(None) => "was withdrawn, and its name is not used again",
        _ => return Ok(()),
    };
    Err(Failure::Refused(format!("{} {reason}\nhint: {}", alone.reference, alone.when_other)))
}
