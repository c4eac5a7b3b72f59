//! The versions of a ref that are kept: those that retention names, and what each branch was at the ends of days.

use smart_sync_sync::name::RefName;
use smart_sync_sync::record::Publication;

use super::Realm;
use super::refs::RefState;
use super::view::View;
use crate::http::now;
use crate::retention::Kept;

impl Realm {
    /// The publications of a ref whose trees are kept.
    pub(crate) fn kept(&self, view: &View, state: &RefState, kept: Kept) -> anyhow::Result<Vec<Publication>> {
        let Publication { channel, reference, .. } = &state.publication;
        let is_branch = matches!(reference, RefName::Branch(_));
        let versions = if is_branch { kept.versions } else { 1 };
        let leaves = self.index().history(&state.head.key, None, versions, view.size)?;
        let newest = leaves.into_iter().map(|(_, leaf)| Ok(self.published(leaf, view.size)?.publication));
        let mut found: Vec<Publication> = newest.collect::<anyhow::Result<_>>()?;
        if !is_branch {
            return Ok(found);
        }
        for end in kept.ends_of_days(now()) {
            let Some(then) = self.newest_at(view, channel, reference, end)? else { break };
            if found.iter().all(|other| other.seq != then.publication.seq) {
                found.push(then.publication);
            }
        }
        Ok(found)
    }
}
