//! Targets that are switched together: a run that has everything waits for the others, and is completed once that is
//! decided.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::io::Errno;
use smart_sync_store::id::ManifestId;

use super::fixture::{Disk, Host, Spec, Stands, Tree, disk_of};
use crate::apply::Stamp;
use crate::apply::ledger::read;
use crate::apply::plan::Problem;
use crate::apply::run::{ReadyTarget, Recovery};
use crate::apply::step::Steps;
use crate::apply::versions::Kind;

const OLD: &[(&str, Spec)] = &[("a", Spec::File("a")), ("gone/file", Spec::File("gone"))];
const NEW: &[(&str, Spec)] = &[("a", Spec::File("a, changed")), ("made/file", Spec::File("made"))];
const KINDS: [fn() -> Host; 3] = [Host::new, Host::with_generations, Host::with_overlay];

/// Steps of a run that is killed when it is about to do this for the last of so many times.
fn killed_at(effect: &'static str, time: usize) -> Steps {
    let (seen, is_dead) = (AtomicUsize::new(0), AtomicBool::new(false));
    Steps::heard_by(move |found| {
        let is_last = found == effect && seen.fetch_add(1, Ordering::SeqCst) + 1 == time;
        if is_last || is_dead.load(Ordering::SeqCst) {
            is_dead.store(true, Ordering::SeqCst);
            return Err(io::Error::from(Errno::INTR));
        }
        Ok(())
    })
}

/// A host whose run was killed when it had everything beside the tree.
fn killed_at_staged(host: Host) -> (Host, Tree, Tree) {
    let (old, new) = (Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    // The second record of the journal is the one of `staged`, and the third one does not come to be.
    host.run(&old, &new, &killed_at("write journal", 3)).unwrap_err();
    (host, old, new)
}

fn recover(host: &Host, decided: Option<ManifestId>) -> Recovery {
    host.open_to(decided, &Steps::default()).unwrap().1
}

/// What a host has of a tree: versions that share their files are read-only.
fn holds(host: &Host, specs: &[(&str, Spec)]) -> Disk {
    let mut disk = disk_of(specs);
    if host.kind == Kind::Generations {
        for stands in disk.values_mut() {
            if let Stands::File(mode, _) = stands {
                *mode &= !0o222;
            }
        }
    }
    disk
}

fn plain(mut disk: Disk) -> Disk {
    disk.retain(|path, _| !path.starts_with(".smart-sync-stage"));
    disk
}

#[track_caller]
fn check(host: fn() -> Host, decided: fn(&Tree, &Tree) -> Option<ManifestId>, is_completed: bool) {
    let (host, old, new) = killed_at_staged(host());
    let before = plain(host.disk());
    let recovery = recover(&host, decided(&old, &new));
    if is_completed {
        assert!(matches!(recovery, Recovery::Completed { .. }), "{recovery:?}");
        assert_eq!(host.disk(), holds(&host, NEW));
    } else {
        assert!(matches!(recovery, Recovery::RolledBack(_)), "{recovery:?}");
        assert_eq!(plain(host.disk()), before);
    }
    assert_eq!(recover(&host, None), Recovery::Nothing);
    // Either way the next run goes on from there.
    host.run(if is_completed { &new } else { &old }, &new, &Steps::default()).unwrap();
    assert_eq!(host.disk(), holds(&host, NEW));
}

#[test]
fn what_is_decided_is_completed_and_nothing_else() {
    for host in KINDS {
        check(host, |_, new| Some(new.version().manifest()), true);
        check(host, |_, _| None, false);
        check(host, |old, _| Some(old.version().manifest()), false);
    }
}

/// Whoever completes what is decided may be killed as well, at any of its steps.
#[test]
fn completing_what_is_decided_is_completed_after_a_kill_at_any_step() {
    for make in KINDS {
        for first in 0.. {
            let (host, old, new) = killed_at_staged(make());
            let count = Arc::new(AtomicUsize::new(0));
            let heard = Arc::clone(&count);
            let steps = Steps::heard_by(move |_| {
                let is_dead = heard.fetch_add(1, Ordering::SeqCst) >= first;
                if is_dead { Err(io::Error::from(Errno::INTR)) } else { Ok(()) }
            });
            let decided = Some(new.version().manifest());
            let outcome = host.open_to(decided, &steps).map(drop);
            let is_whole = count.load(Ordering::SeqCst) <= first;
            assert_eq!(outcome.is_ok(), is_whole, "step {first}: {outcome:?}");
            drop(host.open_to(decided, &Steps::default()).unwrap());
            assert_eq!(host.disk(), holds(&host, NEW), "step {first}");
            let (ready, _) = host.open(&Steps::default()).unwrap();
            assert_eq!(ready.target().applied().unwrap().map(|applied| applied.manifest()), decided);
            drop(ready);
            host.run(&new, &old, &Steps::default()).unwrap();
            assert_eq!(host.disk(), holds(&host, OLD), "step {first}: after the next run");
            if is_whole {
                assert!(first > 5, "there was something to complete");
                break;
            }
        }
    }
}

/// Makes an overlay ready, up to where it waits for others.
fn staged(host: &Host, ready: &ReadyTarget, wanted: &Tree, then: fn(crate::apply::run::Prepared<'_>)) {
    let (mut scan, plan) = host.plan(ready, &Tree::default(), wanted).unwrap();
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    let needs = plan.needs.clone();
    let mut run = ready.begin(plan, wanted.version(), Stamp::new(b"stamp").unwrap()).unwrap();
    for need in &needs {
        let mut writer = run.stage().writer(need).unwrap();
        writer.write(&wanted.contents[&need.content.id]).unwrap();
        writer.finish().unwrap();
    }
    run.fill(&mut scan, host.fidelity, || super::fixture::LATER).unwrap();
    then(run.prepare().unwrap());
}

/// A host with two overlays, of which the second lies in the first.
fn two_overlays() -> (Host, Host) {
    let (one, mut other) = (Host::with_overlay(), Host::with_overlay());
    std::fs::remove_dir(other.ledger()).unwrap();
    std::os::unix::fs::symlink(one.ledger(), other.ledger()).unwrap();
    one.write("etc/hosts", "the host's own");
    other.root = one.root.join("etc");
    (one, other)
}

#[test]
fn overlays_wait_for_each_other_and_do_not_take_each_others_paths() {
    let (one, other) = two_overlays();
    let before = one.disk();
    let (ready, _) = one.open(&Steps::default()).unwrap();
    // It is dropped as it would be by a run that is killed there.
    staged(&one, &ready, &Tree::new(&[("etc/hosts", Spec::File("one"))]), |prepared| drop(prepared));
    assert_eq!(one.disk(), before);
    let (second, _) = other.open(&Steps::default()).unwrap();
    let (_, plan) =
        other.plan(&second, &Tree::default(), &Tree::new(&[("hosts", Spec::File("other"))])).unwrap();
    assert!(matches!(plan.problems[..], [Problem::PlacedByAnother(..)]), "{:?}", plan.problems);
    drop(second);
    // Another path of the same ledger is placed while the first one waits.
    let own = Tree::new(&[("of-its-own", Spec::File("other"))]);
    other.apply(&Tree::default(), &own);
    assert_eq!(read(&one.ledger()).unwrap().len(), 2);
    drop(ready);
    let decided = Some(Tree::new(&[("etc/hosts", Spec::File("one"))]).version().manifest());
    assert!(matches!(recover(&one, decided), Recovery::Completed { .. }));
    assert_eq!(std::fs::read_to_string(one.root.join("etc/hosts")).unwrap(), "one");
}

#[test]
fn an_overlay_that_is_given_up_leaves_nothing_in_the_ledger() {
    let (one, _) = two_overlays();
    let before = one.disk();
    let (ready, _) = one.open(&Steps::default()).unwrap();
    let wanted = Tree::new(&[("etc/hosts", Spec::File("one")), ("made/file", Spec::File("made"))]);
    staged(&one, &ready, &wanted, |prepared| prepared.abandon().unwrap());
    assert!(read(&one.ledger()).unwrap().is_empty());
    assert_eq!(one.disk(), before);
    drop(ready);
    assert_eq!(recover(&one, None), Recovery::Nothing);
}
