//! Contents of the store, written to where a view wants them.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use smart_sync_store::Store;
use smart_sync_store::domain::Domain;
use smart_sync_store::manifest::Content;
use tokio::runtime::Handle;

/// Writes a content of the store. To be called on a thread that may block.
pub(super) fn write_content(
    store: &Arc<Store>,
    domain: &Domain,
    content: Content,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut pieces = Box::pin(store.read_content(domain, content, 0..content.size));
    let runtime = Handle::current();
    while let Some(piece) =
        runtime.block_on(pieces.try_next()).with_context(|| format!("reading content {}", content.id))?
    {
        out.write_all(&piece)?;
    }
    Ok(())
}
