//! `export`: the public part of the realm as static files, under the URLs that a server has.
//!
//! Files that never change are written once; the checkpoint is written last, so that a reader of the directory never
//! sees a log that is larger than its tiles.

use std::fs;
use std::path::Path;

use anyhow::Context;
use smart_sync_store::count::counted;
use smart_sync_store::domain::Domain;
use smart_sync_sync::log::tile::Tile;

use super::print;
use crate::args::ExportArgs;
use crate::data_dir::DataDir;
use crate::durable;
use crate::http::now;
use crate::realm::Realm;

pub(super) async fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let realm = Realm::open(DataDir::open(&args.data.path)?, now()).await?;
    let view = realm.view();
    let mut written = 0usize;
    for pack in realm.store.catalogue().packs()? {
        // What is private stays here: a directory of files cannot ask for a token.
        if pack.file.domain != Domain::public() {
            continue;
        }
        let path = args.directory.join("pack").join(pack.file.id.to_string());
        if is_there(&path, u64::from(pack.len)) {
            continue;
        }
        let bytes = realm.store.backend().get(&pack.file).await?;
        written += usize::from(write(&path, &bytes)?);
    }
    for tile in Tile::added(0, view.size) {
        let path = args.directory.join(tile.to_string());
        if !tile.is_full() || !path.is_file() {
            written += usize::from(write(&path, &realm.files.tile(tile)?)?);
        }
    }
    let mut version = 1;
    while let Some(leaf) = { realm.index().root(Some(version), view.size)? } {
        let note = realm.files.leaf(leaf, view.size)?;
        written += usize::from(write(&args.directory.join(format!("v1/root/{version}")), &note)?);
        version += 1;
    }
    write(&args.directory.join("checkpoint"), &view.checkpoint)?;
    let files = counted(written as u64, "file", "files");
    print(format_args!("{files} written, log of {}", counted(view.size, "leaf", "leaves")))
}

fn is_there(path: &Path, length: u64) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() == length)
}

/// Writes a file unless it is there with these bytes; says whether it wrote.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let directory = path.parent().context("a file lies in a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    durable::write(path, bytes)?;
    Ok(true)
}
