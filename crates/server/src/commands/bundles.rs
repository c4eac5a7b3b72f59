//! `bundles`: what is stored of them, and a way to begin anew.

use smart_sync_store::count::counted;

use super::print;
use crate::args::BundlesCommand;
use crate::bundles;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::realm::Realm;

pub(super) async fn run(command: BundlesCommand) -> anyhow::Result<()> {
    let (data, is_pruning, yes) = match command {
        BundlesCommand::List { data } => (data, false, false),
        BundlesCommand::Prune { data, yes } => (data, true, yes),
    };
    let realm = Realm::open(DataDir::open(&data.path)?, now()).await?;
    let files = bundles::list(realm.store.backend()).await?;
    let bytes = files.iter().map(|file| file.length).sum();
    for file in &files {
        print(format_args!("{} {} {}", file.step, file.variant, file.length))?;
        if yes {
            realm.store.backend().delete(file).await?;
        }
    }
    let files = counted(files.len() as u64, "bundle", "bundles");
    let bytes = counted(bytes, "byte", "bytes");
    match (is_pruning, yes) {
        (false, _) => print(format_args!("{files}, {bytes}")),
        (true, true) => print(format_args!("{files} removed, {bytes} freed")),
        (true, false) => {
            print(format_args!("{files}, {bytes}; nothing was changed; add --yes to remove them"))
        }
    }
}
