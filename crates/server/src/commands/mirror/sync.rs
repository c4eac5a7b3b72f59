//! `mirror sync`: one round of a mirror, by hand.

use std::sync::Arc;

use super::super::print;
use crate::args::MirrorSyncArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::mirrors::{Mirrors, Order};
use crate::realm::Realm;

pub(super) async fn run(args: MirrorSyncArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    realm.peers.ask(realm.newest_view()?.root.record()).await;
    let mirrors = Mirrors::open_beside(&realm)?;
    let MirrorSyncArgs { key, accept, prefetch, name, .. } = args;
    let hear = Box::new(|line: String| print(format_args!("{line}")));
    mirrors.round(&name, &Order { key, accept, prefetch, is_asked: true, hear }).await
}
