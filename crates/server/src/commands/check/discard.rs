//! `check --discard`: packs that are damaged and that nobody has any more are given up.
//!
//! What can still be read of them is kept in new packs. The rest is missing from then on, and says so.

use std::collections::BTreeSet;

use serde_json::json;
use smart_sync_store::Store;
use smart_sync_store::backend::PackFile;
use smart_sync_store::check::replace_pack;
use smart_sync_store::count::counted;

use super::output::Output;
use crate::http::now;
use crate::realm::timestamp;

/// Gives up these packs if that is allowed, else names them.
pub(super) async fn discard(
    store: &Store,
    damaged: &BTreeSet<PackFile>,
    is_allowed: bool,
    output: Output,
) -> anyhow::Result<()> {
    for file in damaged {
        let pack = file.to_string();
        if !is_allowed {
            let text = format_args!("{file}: add --yes to give up what cannot be read of it");
            output.say(&text, &json!({ "event": "discardable", "pack": pack }))?;
            continue;
        }
        let repaired = replace_pack(store, file, Vec::new(), timestamp(now())).await?;
        let saved = counted(repaired.saved as u64, "object", "objects");
        let lost = repaired.given_up.len();
        let text = format_args!("{file}: {saved} kept, {lost} given up");
        output.say(
            &text,
            &json!({ "event": "discarded", "pack": pack, "kept": repaired.saved, "lost": lost }),
        )?;
    }
    Ok(())
}
