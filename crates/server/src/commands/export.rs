//! `export`: the public part of the realm as static files, for a plain web server, a disk or an object store.

use std::sync::Arc;

use smart_sync_store::count::counted;

use super::print;
use crate::args::ExportArgs;
use crate::data_dir::DataDir;
use crate::export::{Destination, export};
use crate::http::now;
use crate::realm::Realm;

pub(super) async fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    let destination = Destination::open(&args.destination)?;
    let grace = args.prune.then_some(args.grace_hours.saturating_mul(3600));
    let report = export(&realm, &destination, now(), grace).await?;
    let files = |number| counted(number, "file", "files");
    print(format_args!(
        "{} written, {}; log of {}",
        files(report.written),
        counted(report.bytes, "byte", "bytes"),
        counted(report.size, "leaf", "leaves")
    ))?;
    if report.removed > 0 {
        print(format_args!("{} removed that nothing needs any more", files(report.removed)))?;
    }
    if report.unreferenced > 0 {
        print(format_args!(
            "{} no longer needed, and kept for readers; `--prune` removes what has been so for {}",
            files(report.unreferenced),
            counted(args.grace_hours, "hour", "hours")
        ))?;
    }
    Ok(())
}
