//! Repositories: whatever somebody keeps in git or in a directory, and ebuild trees among them.
//!
//! They are published as they are. One that says by `profiles/repo_name` that it is an ebuild tree has to be one that
//! Portage can use. Where keys are given, it has to be what they have signed, all of it and nothing else: see [`signed`].

mod ebuild_tree;
mod signed;

use std::collections::BTreeMap;

use super::follow::Following;
use super::published::tree_path;
use super::{ArtifactKind, AsItIs, Judged, KindError, Whole};

/// The kind.
#[derive(Debug)]
pub(super) struct Repo;

impl ArtifactKind for Repo {
    fn name(&self) -> &'static str {
        "repo"
    }

    fn as_it_is(&self) -> Option<&dyn AsItIs> {
        Some(self)
    }

    fn judges_signatures(&self) -> bool {
        true
    }

    fn following(&self) -> Following {
        Following::Whole
    }
}

impl AsItIs for Repo {
    fn judge(&self, tree: Whole<'_>) -> Result<Judged, KindError> {
        let refused = ebuild_tree::mistakes(tree.listing)?;
        if !refused.is_empty() {
            return Err(KindError::Refused(refused));
        }
        let Some(found) = signed::check(&tree)? else { return Ok(Judged::default()) };
        let signer = &found.signer;
        let user = signer.user.as_deref().unwrap_or("a key without a name");
        let mut notes = vec![format!("the tree is signed by {user}, {}", signer.primary)];
        notes.extend(found.notes);
        Ok(Judged {
            content_time: found.made.filter(|made| *made <= tree.now),
            notes,
            signers: BTreeMap::from([(tree_path(super::manifests::MANIFEST)?, signer.primary.to_string())]),
        })
    }
}

#[cfg(test)]
mod tests;
