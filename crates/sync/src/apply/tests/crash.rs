//! A run that is killed, or whose disk fails, at each of its steps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::fixture::{ALL_IN_PLACE, Disk, Host, Spec, Stands, Tree, disk_of};
use crate::apply::run::Recovery;
use crate::apply::step::Steps;
use crate::apply::versions::Kind;

const OLD: &[(&str, Spec)] = &[
    ("a", Spec::File("a")),
    ("becomes-directory", Spec::File("file")),
    ("becomes-file/x", Spec::File("x")),
    ("becomes-file/y/z", Spec::File("z")),
    ("becomes-link/x", Spec::File("x")),
    ("bin/run", Spec::File("run")),
    ("edited", Spec::File("before")),
    ("gone/deep/file", Spec::File("gone")),
    ("link", Spec::Link("a")),
    ("link-becomes-directory", Spec::Link("a")),
    ("same", Spec::File("same")),
];

const NEW: &[(&str, Spec)] = &[
    ("a", Spec::File("a, changed")),
    ("becomes-directory/file", Spec::File("inside")),
    ("becomes-file", Spec::File("file")),
    ("becomes-link", Spec::Link("same")),
    ("bin/run", Spec::Executable("run")),
    ("edited", Spec::File("after")),
    ("empty", Spec::Directory),
    ("link", Spec::Link("same")),
    ("link-becomes-directory/x/y", Spec::File("a, changed")),
    ("new/copy-of-same", Spec::File("same")),
    ("same", Spec::File("same")),
];

const LOCAL: &str = "my own words";

fn local_edit() -> Stands {
    Stands::File(0o644, LOCAL.into())
}

fn old_disk() -> Disk {
    let mut disk = disk_of(OLD);
    disk.insert("edited".into(), local_edit());
    disk.insert("untracked".into(), Stands::File(0o644, "mine".into()));
    disk
}

fn new_disk() -> Disk {
    let mut disk = disk_of(NEW);
    disk.insert("untracked".into(), Stands::File(0o644, "mine".into()));
    disk
}

fn host_with_old(make: fn() -> Host) -> (Host, Tree, Tree) {
    let (host, old, new) = (make(), Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    host.write("edited", LOCAL);
    host.write("untracked", "mine");
    (host, old, new)
}

fn without_stage(mut disk: Disk) -> Disk {
    disk.retain(|path, _| !path.starts_with(".smart-sync-stage"));
    disk
}

/// Fails from step `first` on, for ever as after a kill, or just once.
fn failing(first: usize, error: Errno, is_kill: bool, only: fn(&str) -> bool) -> (Steps, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let steps = Steps::heard_by(move |effect| {
        if !only(effect) {
            return Ok(());
        }
        let step = counted.fetch_add(1, Ordering::SeqCst);
        let fails = if is_kill { step >= first } else { step == first };
        if fails { Err(io::Error::from(error)) } else { Ok(()) }
    });
    (steps, count)
}

fn check(error: Errno, is_kill: bool, only: fn(&str) -> bool) {
    check_kind(Host::new, error, is_kill, only);
    check_kind(Host::with_overlay, error, is_kill, only);
    // What is done before and after its snapshots is what is done to a directory.
    check_kind(Host::with_dataset, error, is_kill, |effect| {
        ["snapshot", "hold", "write journal", "write record", "syncfs"].contains(&effect)
    });
}

/// What places files for an overlay is stopped at each of its steps by its own tests: every third one will do here.
fn stride(make: fn() -> Host) -> usize {
    if make().kind == Kind::Overlay { 3 } else { 1 }
}

/// Runs the update with a fault, once for each step that could have it, and then with none.
fn check_kind(make: fn() -> Host, error: Errno, is_kill: bool, only: fn(&str) -> bool) {
    for first in (0..).step_by(stride(make)) {
        let (host, old, new) = host_with_old(make);
        let (steps, count) = failing(first, error, is_kill, only);
        let outcome = host.run(&old, &new, &steps);
        let is_whole = count.load(Ordering::SeqCst) <= first;
        assert_eq!(outcome.is_ok(), is_whole, "step {first}: {outcome:?}");

        let (ready, recovery) = host.open(&Steps::default()).unwrap();
        let applied = ready.target().applied().unwrap().map(|applied| applied.manifest());
        let holds_new = applied == Some(new.version().manifest());
        let expected = if holds_new { new_disk() } else { old_disk() };
        assert_eq!(without_stage(host.disk()), expected, "step {first}, {recovery:?}");
        if matches!(recovery, Recovery::Completed { .. }) {
            assert!(holds_new, "step {first}");
        }
        drop(ready);

        host.run(if holds_new { &new } else { &old }, &new, &Steps::default()).unwrap();
        assert_eq!(host.disk(), new_disk(), "step {first}: after the next run");
        let backups = host.backups();
        assert!(backups.values().any(|found| *found == local_edit()), "step {first}: {backups:?}");
        assert!(backups.values().all(|found| *found == local_edit()), "step {first}: {backups:?}");
        assert!(!host.state.join("journal").exists(), "step {first}");
        host.check_kept_since(&disk_of(OLD), &new_disk());
        if is_whole {
            assert!(first > 0, "nothing was announced");
            return;
        }
    }
}

#[test]
fn a_kill_at_any_step_leaves_the_old_tree_or_one_that_the_next_run_completes() {
    check(Errno::INTR, true, |_| true);
}

#[test]
fn a_full_disk_at_any_write_leaves_the_old_tree_or_one_that_the_next_run_completes() {
    check(Errno::NOSPC, false, |_| true);
}

#[test]
fn a_failed_flush_at_any_point_leaves_the_old_tree_or_one_that_the_next_run_completes() {
    check(Errno::IO, false, |effect| effect.contains("sync") || effect.contains("write"));
}

#[test]
fn a_read_only_file_system_changes_nothing() {
    let (host, old, new) = host_with_old(Host::new);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    drop(ready);
    let (steps, _) =
        failing(0, Errno::ROFS, true, |effect| effect != "open to write" && effect != "write lock");
    let error = host.run(&old, &new, &steps).unwrap_err();
    assert_eq!(error.io_kind(), Some(io::ErrorKind::ReadOnlyFilesystem));
    assert_eq!(host.disk(), old_disk());
}

#[test]
fn a_kill_during_recovery_is_recovered_from() {
    for make in ALL_IN_PLACE {
        check_recovery(make);
    }
}

fn check_recovery(make: fn() -> Host) {
    let is_rename = |effect: &str| effect == "rename";
    for first in (0..).step_by(stride(make)) {
        let (host, old, new) = host_with_old(make);
        let (steps, _) = failing(12, Errno::INTR, true, is_rename);
        host.run(&old, &new, &steps).unwrap_err();
        let (steps, count) = failing(first, Errno::INTR, true, |_| true);
        let outcome = host.open(&steps).map(|_| ());
        let is_whole = count.load(Ordering::SeqCst) <= first;
        assert_eq!(outcome.is_ok(), is_whole, "step {first}");
        drop(host.open(&Steps::default()).unwrap());
        assert_eq!(host.disk(), new_disk(), "step {first}");
        if is_whole {
            assert!(first > 10, "there was something to recover");
            return;
        }
    }
}
