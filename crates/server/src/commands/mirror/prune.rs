//! `mirror prune`: forgets files from upstream that nothing which is kept names any more. Planned, printed, and done when
//! told to; the next collection of garbage takes their contents.

use std::sync::Arc;

use anyhow::Context as _;
use smart_sync_store::count::counted;

use super::super::{Failure, print};
use crate::args::Data;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::mirrors::{forget_files, forgettable};
use crate::realm::Realm;

/// The most days that can be asked for: names that are gone are known for no longer.
const DAYS_MAX: u64 = 90;

pub(super) async fn run(data: &Data, name: &str, yes: bool) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&data.path)?, now()).await?);
    let name = name.to_owned();
    tokio::task::spawn_blocking(move || prune(&realm, &name, yes)).await?
}

fn prune(realm: &Arc<Realm>, name: &str, yes: bool) -> anyhow::Result<()> {
    let mirror = realm
        .config
        .mirrors
        .iter()
        .find(|mirror| mirror.name == name)
        .ok_or_else(|| Failure::Arguments(format!("there is no [[mirror]] {name:?} in server.toml")))?;
    let days = realm.config.upstream.forget_days.filter(|days| (1..=DAYS_MAX).contains(days));
    let days = days.ok_or_else(|| {
        let text =
            "nothing is forgotten: forget-days below [upstream] in server.toml says after how many days";
        Failure::Arguments(format!("{text}, 1 to {DAYS_MAX}"))
    })?;
    let files = forgettable(realm, mirror, days, now())?;
    for file in &files {
        print(format_args!("{}  {}", file.name, counted(file.expected.size, "byte", "bytes")))?;
    }
    let bytes: u64 = files.iter().map(|file| file.expected.size).sum();
    let (count, bytes) = (counted(files.len() as u64, "file", "files"), counted(bytes, "byte", "bytes"));
    print(format_args!("{count} with {bytes}: no kept tree names them, and none has for {days} days"))?;
    if files.is_empty() {
        return Ok(());
    }
    if !yes {
        return print(format_args!("nothing was changed; add --yes to do this"));
    }
    forget_files(realm, &mirror.channel.parse()?, &files).context("forgetting files from upstream")?;
    print(format_args!("{count} forgotten; `smart-sync-server gc` makes room"))
}
