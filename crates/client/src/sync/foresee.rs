//! What an update that comes chunk by chunk would fetch, without fetching it.

use std::collections::HashSet;

use smart_sync_store::id::ContentId;
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::fetch_plan::FetchPlan;
use smart_sync_sync::wire::fetch_map::{FetchMap, FrameChunk};

use super::former::FormerVersions;
use super::session::{Needs, Session};

/// What would be fetched from packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Foreseen {
    /// Bytes.
    pub(super) bytes: u64,
    /// Ranges that they come in.
    pub(super) ranges: usize,
}

/// Adds up what these maps would lead to for a target that needs contents.
pub(super) fn foresee(maps: Vec<FetchMap>, needs: &[&Need], session: &Session<'_>) -> Foreseen {
    let by_id = Needs::new(needs);
    let mut foreseen = Foreseen::default();
    let mut seen = HashSet::new();
    for map in maps {
        let streams: HashSet<ContentId> = map
            .rebuilt
            .iter()
            .filter(|rebuilt| by_id.get(rebuilt.id).is_some())
            .map(|rebuilt| rebuilt.plain.id)
            .collect();
        let chunks: Vec<&FrameChunk> = map.frames.iter().flat_map(|frame| &frame.chunks).collect();
        let mut former = FormerVersions::default();
        for (index, content) in
            map.contents.iter().enumerate().filter(|(_, content)| content.chunks.len() > 1)
        {
            let path = by_id.get(content.id).and_then(|need| need.former.as_ref());
            if let Some(file) = path.and_then(|path| session.tree().open_file(path).ok()) {
                former.look(index, content, &chunks, file);
            }
        }
        drop(chunks);
        let plan = FetchPlan::with_local(
            map,
            |content| {
                let is_wanted = by_id.get(content.id).is_some() || streams.contains(&content.id);
                (is_wanted && seen.insert(content.id)).then_some(0)
            },
            |content, chunk| former.has(content, chunk.id),
        );
        foreseen.bytes += plan.bytes();
        foreseen.ranges += plan.ranges().len();
    }
    foreseen
}
