//! `see-through`: which artifacts are stored taken apart, and doing it now rather than in the background.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use smart_sync_store::count::counted;

use super::print;
use crate::args::SeeThroughArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::realm::{Realm, timestamp};
use crate::see_through::{Outcome, Rounds};

pub(super) async fn run(args: &SeeThroughArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    if args.undo {
        let stored = realm.store.store_originals(timestamp(now())).await.context("storing originals")?;
        return print(format_args!(
            "{} of {} stored as they are again; `enabled = false` in [see-through] keeps the server from changing that",
            counted(stored.contents, "artifact", "artifacts"),
            counted(stored.bytes, "byte", "bytes"),
        ));
    }
    tokio::task::spawn_blocking(move || go(realm)).await?
}

fn go(realm: Arc<Realm>) -> anyhow::Result<()> {
    let view = realm.newest_view()?;
    let (mut apart, mut bytes, mut left) = (0u64, 0u64, 0u64);
    let mut progress = |path: &[u8], content: &smart_sync_store::manifest::Content, outcome| {
        let what = match outcome {
            Outcome::Opaque => "as it is: nothing in it can be seen through and rebuilt",
            Outcome::TooSlow => "as it is: a rebuild would take too long",
            Outcome::NoGain => "as it is: taken apart it would take as much room",
            Outcome::Apart => "taken apart",
        };
        if outcome == Outcome::Apart {
            (apart, bytes) = (apart + 1, bytes + content.size);
        } else {
            left += 1;
        }
        // A pipe that is closed is no reason to stop what is being done.
        let _ = print(format_args!("{} {what}", path.escape_ascii()));
    };
    Rounds::new(realm)?.go(&view, || timestamp(now()), &AtomicBool::new(false), &mut progress)?;
    print(format_args!(
        "{} of {} stored taken apart, {left} left as they are; gc frees what only the originals need",
        counted(apart, "artifact", "artifacts"),
        counted(bytes, "byte", "bytes"),
    ))
}
