//! Exports to an object store in memory. What an export in a directory is good for is tested with the real programs.

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;

use super::{Destination, Report, export};
use crate::args::Cli;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::realm::Realm;

async fn run(data: &Path, arguments: &[&str]) {
    let data = data.to_str().unwrap();
    let line = [&["smart-sync-server"][..], arguments, &["--data", data]].concat();
    crate::commands::run(Cli::try_parse_from(line).unwrap().command).await.unwrap();
}

async fn export_of(data: &Path, destination: &Destination, grace: Option<u64>) -> Report {
    let realm = Realm::open(DataDir::open(data).unwrap(), now()).await.unwrap();
    export(&Arc::new(realm), destination, now(), grace).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_takes_an_export_and_then_what_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let (data, tree) = (directory.path().join("data"), directory.path().join("tree"));
    let publish = async |text: &str| {
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("file"), text).unwrap();
        run(&data, &["publish-local", "--channel", "repos/a", tree.to_str().unwrap()]).await;
    };
    run(&data, &["init", "--origin", "lab.example.org"]).await;
    publish("one").await;
    let store = Arc::new(InMemory::new());
    let destination = Destination::new(Arc::clone(&store) as _, "memory");
    let first = export_of(&data, &destination, None).await;
    assert!(first.written >= 8 && first.size == 4, "{first:?}");
    let checkpoint = store.get(&ObjectPath::from("checkpoint")).await.unwrap().bytes().await.unwrap();
    assert!(checkpoint.starts_with(b"lab.example.org\n4\n"));
    let evidence = ObjectPath::parse("v1/update/repos~2fa/branch~3amain").unwrap();
    assert!(store.head(&evidence).await.is_ok());
    let again = export_of(&data, &destination, Some(0)).await;
    assert_eq!(again, Report { size: 4, ..Report::default() });

    publish("two").await;
    let second = export_of(&data, &destination, Some(3600)).await;
    assert!(second.written < first.written && second.removed == 0 && second.unreferenced > 0, "{second:?}");
    let pruned = export_of(&data, &destination, Some(0)).await;
    assert_eq!((pruned.written, pruned.removed, pruned.unreferenced), (0, second.unreferenced, 0));
}

#[test]
fn what_this_program_cannot_write_to_is_refused() {
    for wrong in ["ftp://example.org/x", "http://[", "file://host/x"] {
        assert!(Destination::open(wrong).is_err(), "{wrong}");
    }
}
