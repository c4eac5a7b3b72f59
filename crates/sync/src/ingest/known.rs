//! Finding out that a tree is stored already, without storing it.
//!
//! Where every content is known without being read, the manifest costs a walk and no question to the destination but
//! one: whether it has that manifest. Asking for each content, as storing does, costs several times that.

use smart_sync_store::content::name_content;
use smart_sync_store::manifest::{BuildError, Entry, Fidelity, GitTreeHasher, ManifestBuilder, Node};

use super::{Destination, IngestError, Ingested, Statistics};
use crate::source::{Handle, SourceEntry, SourceError, SourceNode, TreeSource, Warning};

/// The tree as it is stored, if it is. Otherwise the source begins again.
pub(super) fn find_known(
    source: &mut dyn TreeSource,
    destination: &mut dyn Destination,
) -> Result<Option<Ingested>, IngestError> {
    let remembered = source.known_manifest().map(|manifest| Ingested {
        manifest,
        git_tree: source.expected_tree(),
        warnings: Vec::new(),
        statistics: Statistics::default(),
    });
    if let Some(ingested) = remembered {
        return Ok(is_there(destination, &ingested)?.then_some(ingested));
    }
    if !source.can_begin_again() {
        return Ok(None);
    }
    if let Some(ingested) = walk(source)?
        && is_there(destination, &ingested)?
    {
        return Ok(Some(ingested));
    }
    source.begin_again()?;
    Ok(None)
}

fn is_there(destination: &mut dyn Destination, ingested: &Ingested) -> Result<bool, IngestError> {
    destination
        .has_manifest(&ingested.manifest)
        .map_err(|source| IngestError::Destination { operation: "asking for a manifest", source })
}

/// Makes the manifest of a source whose contents are all known; none at the first one that is not.
fn walk(source: &mut dyn TreeSource) -> Result<Option<Ingested>, IngestError> {
    let fidelity = source.fidelity();
    let mut manifest = ManifestBuilder::new(fidelity, |_, _| Ok::<_, BuildError>(()));
    let mut git_tree = (fidelity == Fidelity::Git).then(GitTreeHasher::new);
    let mut warnings = Vec::new();
    let mut statistics = Statistics::default();
    while let Some(entry) = source.next_entry()? {
        let Some((entry, is_lfs_pointer)) = known_entry(entry) else { return Ok(None) };
        if is_lfs_pointer {
            warnings.push(Warning::LfsPointer(entry.path.clone()));
        }
        statistics.contents_known += u64::from(entry.content().is_some());
        manifest.push(&entry)?;
        if let Some(git_tree) = &mut git_tree {
            git_tree.push(&entry).map_err(SourceError::from)?;
        }
    }
    warnings.splice(..0, source.take_warnings());
    let git_tree = git_tree.map(GitTreeHasher::finish);
    Ok(Some(Ingested { manifest: manifest.finish()?, git_tree, warnings, statistics }))
}

/// The entry, and whether its file is a pointer of Git LFS; none if its content has to be read.
fn known_entry(entry: SourceEntry) -> Option<(Entry, bool)> {
    let SourceEntry { path, attributes, node } = entry;
    let (node, is_lfs_pointer) = match node {
        SourceNode::Plain(node) => (node, false),
        SourceNode::Content { is_symlink, known: Some(known), .. } => {
            let node = if is_symlink { Node::Symlink(known.content) } else { Node::File(known.content) };
            (node, known.is_lfs_pointer)
        }
        SourceNode::Content { is_symlink: true, handle: Handle::Bytes(target), .. } => {
            (Node::Symlink(name_content(&target)), false)
        }
        SourceNode::Content { .. } => return None,
    };
    Some((Entry { path, node, attributes }, is_lfs_pointer))
}
