//! The first sync of a realistic tree.

use std::fs;

use anyhow::Result;

use super::sizes;
use crate::bench::{Bench, check_same, prepare};
use crate::data;
use crate::measure::measure;
use crate::ours::Ours;
use crate::peers::{casync, nginx, ostree, rsync};
use crate::report::{Bar, Row, Section};
use crate::volume::Volume;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let tree = data::realistic_tree(bench)?;
    let mut rsync_row = Row::new("rsync -a, local daemon");
    let mut ostree_row = Row::new("ostree pull + checkout");
    let mut casync_row = Row::new("casync extract");
    let mut our_row = Row::new("smart-sync");

    let daemon = rsync::serve(bench, &tree)?;
    let served = bench.scratch("first/served")?;
    fs::create_dir_all(&served)?;
    prepare(&mut casync::make(bench, &served, &tree))?;
    let archive = served.join("ostree");
    prepare(&mut ostree::init(bench, &archive, "archive"))?;
    prepare(&mut ostree::commit(bench, &archive, &tree))?;
    let web = nginx::serve(bench, &served)?;
    let url = format!("http://{}", web.address());
    let realm = if bench.peers_only() { None } else { Some(Ours::start(bench)?) };
    if let Some(realm) = &realm {
        realm.publish(&tree)?;
    }

    for run in 0..bench.runs {
        crate::say(&format!("  run {} of {}", run + 1, bench.runs));
        let volume = Volume::new(bench, "first/rsync")?;
        let target = volume.join("target");
        rsync_row.usages.push(measure(bench, &rsync::sync(bench, &daemon.address(), &target))?);
        check_same("rsync", &tree, &target)?;
        drop(volume);

        let volume = Volume::new(bench, "first/ostree")?;
        let (target, local) = (volume.join("target"), volume.join("repository"));
        prepare(&mut ostree::init(bench, &local, "bare-user"))?;
        prepare(&mut ostree::add_remote(bench, &local, &format!("{url}/ostree")))?;
        let pulled = measure(bench, &ostree::pull(bench, &local))?;
        let checkout = ostree::checkout(bench, &local, "origin:bench", &target);
        ostree_row.usages.push(pulled.then(measure(bench, &checkout)?));
        check_same("ostree", &tree, &target)?;
        drop(volume);

        let volume = Volume::new(bench, "first/casync")?;
        let target = volume.join("target");
        casync_row.usages.push(measure(bench, &casync::extract(bench, &url, &target))?);
        check_same("casync", &tree, &target)?;
        drop(volume);

        if let Some(realm) = &realm {
            let volume = Volume::new(bench, "first/smart-sync")?;
            let target = volume.join("target");
            let host = format!("host-{run}");
            realm.trust(&host, realm.url())?;
            our_row.usages.push(measure(bench, &realm.sync(&host, realm.url(), &target))?);
            check_same("smart-sync", &tree, &target)?;
        }
    }

    bench.scratch("first")?;
    let bars = vec![
        Bar::compare("less wall time than ostree", our_row.wall(), ostree_row.wall(), |ours, theirs| {
            ours < theirs
        }),
        Bar::compare("at most 1.3 times rsync", our_row.wall(), rsync_row.wall(), |ours, theirs| {
            ours * 10 <= theirs * 13
        }),
    ];
    let mut rows = vec![rsync_row, ostree_row, casync_row, our_row];
    rows.retain(|row| !row.usages.is_empty());
    let method = format!(
        "The tree of the section above ({}) into an empty place, from a server on loopback that has it: rsync's \
         daemon, which reads the files themselves, nginx for ostree (archive mode, pulled into a bare-user \
         repository) and casync, and smart-sync-server. rsync writes without syncing to disk; ostree and smart-sync \
         sync. CPU is the client's. Each target is {}.",
        sizes(&tree),
        if Volume::is_possible() {
            "a new ext4 of its own, in a file: on one that files were removed from, making others costs more for a while"
        } else {
            "a directory of the disk"
        }
    );
    Ok(Section { title: "First sync of a tree".to_owned(), method, tables: Vec::new(), rows, bars })
}
