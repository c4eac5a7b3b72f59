//! What the same step costs in chunks: the delta, and ranges of packs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smart_sync_store::domain::Domain;
use smart_sync_store::id::{ContentId, ObjectId};
use smart_sync_store::manifest::{Change, Content, Manifest, diff};
use smart_sync_store::{LaidOut, Store};
use smart_sync_sync::fetch_plan::FetchPlan;
use tokio::runtime::Handle;

use super::headers::{self, Exchange};
use crate::bundles::Step;
use crate::http::DELTA_LEVEL;
use crate::realm::Realm;
use crate::realm::fetch;
use crate::realm::pages::StorePages;

/// The delta, and all ranges. To be called on a thread that may block.
pub(super) fn of(realm: &Realm, step: &Step) -> anyhow::Result<Vec<(&'static str, Exchange)>> {
    let delta = fetch::delta(&realm.store, &step.domain, step.from, step.to)?;
    let bytes = delta.encode(DELTA_LEVEL)?.len() as u64;
    let former = former_chunks(&realm.store, step)?;
    let contents: Vec<ContentId> = delta.map.contents.iter().map(|content| content.id).collect();
    // A file that changes takes the chunks that its former version has.
    let is_local = |content: usize, chunk: ObjectId| {
        former.get(&contents[content]).is_some_and(|chunks| chunks.contains(&chunk))
    };
    let plan = FetchPlan::with_local(delta.map, |_| Some(0), |content, chunk| is_local(content, chunk.id));
    let ranges = plan.ranges().iter().map(|range| {
        let pack = &plan.map().packs[range.pack as usize];
        headers::range(realm, &pack.id.to_string(), pack.length, range.bytes.clone())
    });
    let ranges = ranges.fold(Exchange::default(), |total, range| total + range);
    Ok(vec![("delta", headers::delta(realm, step.from, step.to, bytes)), ("ranges", ranges)])
}

/// The chunks of what each new content takes the place of.
fn former_chunks(store: &Arc<Store>, step: &Step) -> anyhow::Result<HashMap<ContentId, HashSet<ObjectId>>> {
    let mut former: HashMap<ContentId, HashSet<ObjectId>> = HashMap::new();
    let Some(from) = step.from else { return Ok(former) };
    let pages = StorePages::new(Arc::clone(store), step.domain.clone());
    let (old, new) = (Manifest::open(pages.clone(), from, None)?, Manifest::open(pages, step.to, None)?);
    for change in diff(&old, &new) {
        if let Change::Changed { old, new } = change?
            && let (Some(old), Some(new)) = (old.content(), new.content())
        {
            former.entry(new.id).or_default().extend(chunks_of(store, &step.domain, old)?);
        }
    }
    Ok(former)
}

fn chunks_of(store: &Arc<Store>, domain: &Domain, content: &Content) -> anyhow::Result<Vec<ObjectId>> {
    if content.size == 0 {
        return Ok(Vec::new());
    }
    match Handle::current().block_on(store.laid_out(domain, content))? {
        LaidOut::Chunks(chunks) => Ok(chunks.iter().map(|chunk| chunk.id).collect()),
        // The host has the content, and not what it is rebuilt from.
        LaidOut::Rebuilt(..) => Ok(Vec::new()),
    }
}
