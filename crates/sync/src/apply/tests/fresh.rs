//! Directories that the target has nothing of: made beside the tree, and put in place by one step each.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::fixture::{Disk, Host, Spec, Stands, Tree, disk, disk_of};
use crate::apply::Stamp;
use crate::apply::run::{Recovery, Staging};
use crate::apply::step::Steps;

const TREE: &[(&str, Spec)] = &[
    ("bin/copy", Spec::Executable("same text")),
    ("bin/empty-file", Spec::File("")),
    ("bin/link", Spec::Link("copy")),
    ("bin/run", Spec::Executable("run")),
    ("empty", Spec::Directory),
    ("file", Spec::File("file")),
    ("share/doc/deep/text", Spec::File("same text")),
    ("share/link-with-text", Spec::Link("run")),
];

fn stamp() -> Stamp {
    Stamp::new(b"stamp").unwrap()
}

fn receive(run: &Staging<'_>, tree: &Tree) {
    for need in run.needs() {
        run.stage().put(need, &tree.contents[&need.content.id]).unwrap();
    }
}

fn file(text: &str) -> Stands {
    Stands::File(0o644, text.into())
}

#[test]
fn each_takes_one_step() {
    let (host, tree) = (Host::new(), Tree::new(TREE));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listening = Arc::clone(&heard);
    let steps = Steps::heard_by(move |effect| {
        listening.lock().unwrap().push(effect.to_owned());
        Ok(())
    });
    let (ready, _) = host.open(&steps).unwrap();
    let (scan, plan) = host.plan(&ready, &Tree::default(), &tree).unwrap();
    let run = ready.begin(plan, tree.version(), stamp()).unwrap();
    receive(&run, &tree);
    let prepared = run.prepare().unwrap();
    let before: Vec<_> =
        host.disk().into_keys().filter(|path| !path.starts_with(".smart-sync-stage/")).collect();
    assert_eq!(before, [""; 0]);
    heard.lock().unwrap().clear();
    let flipped = prepared.flip().unwrap();
    let moved: Vec<_> =
        heard.lock().unwrap().iter().filter(|effect| effect.starts_with("rename")).cloned().collect();
    assert_eq!(moved, ["rename directory", "rename directory", "rename directory", "rename"]);
    flipped.commit(&tree.entries, &scan, &host.options()).unwrap();
    assert_eq!(host.disk(), disk_of(TREE));
    // All of it is known: nothing is read again.
    assert!(host.scan(&ready, &tree).unwrap().findings.is_empty());
    drop(ready);
    assert_eq!(host.run(&tree, &tree, &Steps::default()).unwrap().len(), 0);
}

#[test]
fn what_appears_in_its_place_stays_or_goes_to_the_backup() {
    let (host, tree) = (Host::new(), Tree::new(TREE));
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let (scan, plan) = host.plan(&ready, &Tree::default(), &tree).unwrap();
    let run = ready.begin(plan, tree.version(), stamp()).unwrap();
    receive(&run, &tree);
    let prepared = run.prepare().unwrap();
    host.write("bin/mine", "mine");
    host.write("bin/run", "mine too");
    host.write("share/doc/deep", "in the way");
    host.write("empty", "a file");
    let backed_up = prepared.flip().unwrap().commit(&tree.entries, &scan, &host.options()).unwrap();
    let mut expected = disk_of(TREE);
    expected.insert("bin/mine".into(), file("mine"));
    assert_eq!(host.disk(), expected);
    let backups = Disk::from([
        ("bin/run".into(), file("mine too")),
        ("empty".into(), file("a file")),
        ("share/doc/deep".into(), file("in the way")),
    ]);
    assert_eq!(host.backups(), backups);
    assert_eq!(backed_up.backed_up.len(), 3);
}

#[test]
fn a_directory_that_is_there_is_not_new() {
    let (host, tree) = (Host::new(), Tree::new(TREE));
    host.write("share/mine", "mine");
    fs::create_dir(host.root.join("empty")).unwrap();
    host.chmod("empty", 0o700);
    host.apply(&Tree::default(), &tree);
    let mut expected = disk_of(TREE);
    expected.insert("share/mine".into(), file("mine"));
    assert_eq!(host.disk(), expected);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(host.root.join("empty")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn what_was_received_there_serves_another_tree_too() {
    let (host, tree) = (Host::new(), Tree::new(TREE));
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let (_, plan) = host.plan(&ready, &Tree::default(), &tree).unwrap();
    let run = ready.begin(plan, tree.version(), stamp()).unwrap();
    receive(&run, &tree);
    drop(run.prepare().unwrap());
    drop(ready);

    let other = Tree::new(&[("elsewhere/run", Spec::File("run")), ("text", Spec::File("same text"))]);
    let (ready, recovery) = host.open(&Steps::default()).unwrap();
    assert_eq!(recovery, Recovery::RolledBack(tree.version()));
    let (scan, plan) = host.plan(&ready, &Tree::default(), &other).unwrap();
    let run = ready.begin(plan, other.version(), stamp()).unwrap();
    for need in run.needs() {
        assert!(run.stage().has(&need.content).unwrap());
    }
    run.prepare().unwrap().flip().unwrap().commit(&other.entries, &scan, &host.options()).unwrap();
    let expected = Disk::from([("elsewhere/run".into(), file("run")), ("text".into(), file("same text"))]);
    assert_eq!(host.disk(), expected);
}

/// A directory may appear in place of one of them just when a run that was killed is completed.
#[test]
fn a_kill_at_any_step_leaves_nothing_or_what_the_next_run_completes() {
    for appears in [false, true] {
        for first in 0.. {
            let (host, tree) = (Host::new(), Tree::new(TREE));
            let count = Arc::new(Mutex::new(0));
            let counted = Arc::clone(&count);
            let steps = Steps::heard_by(move |_| {
                let mut step = counted.lock().unwrap();
                *step += 1;
                if *step > first { Err(io::Error::from(Errno::INTR)) } else { Ok(()) }
            });
            let outcome = host.run(&Tree::default(), &tree, &steps);
            let is_whole = *count.lock().unwrap() <= first;
            assert_eq!(outcome.is_ok(), is_whole, "step {first}: {outcome:?}");
            let mut expected = disk_of(TREE);
            if appears && !host.root.join("share").exists() {
                host.write("share/doc/mine", "mine");
                expected.insert("share/doc/mine".into(), file("mine"));
            }
            drop(host.open(&Steps::default()).unwrap());
            let (ready, _) = host.open(&Steps::default()).unwrap();
            let is_new = ready.target().applied().unwrap() == Some(tree.version());
            drop(ready);
            if is_new {
                assert_eq!(host.disk(), expected, "step {first}");
            } else {
                let is_ours = |path: &str| path != "share/doc/mine" && !path.starts_with(".smart-sync-stage");
                assert!(!disk(&host.root).keys().any(|path| is_ours(path)), "step {first}");
            }
            let before = if is_new { tree.clone() } else { Tree::default() };
            host.run(&before, &tree, &Steps::default()).unwrap();
            assert_eq!(host.disk(), expected, "step {first}: after the next run");
            assert_eq!(host.backups(), Disk::new(), "step {first}");
            if is_whole {
                break;
            }
        }
    }
}
