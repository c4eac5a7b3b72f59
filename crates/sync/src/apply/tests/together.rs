//! Targets that are switched together: a run that has everything waits for the others, and is completed once that is
//! decided.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smart_sync_store::id::ManifestId;

use super::fixture::{Disk, Host, Spec, Tree, disk_of};
use crate::apply::error::ApplyError;
use crate::apply::lock::Holder;
use crate::apply::run::{Recovery, Target};
use crate::apply::step::Steps;

const OLD: &[(&str, Spec)] = &[("a", Spec::File("a")), ("gone/file", Spec::File("gone"))];
const NEW: &[(&str, Spec)] = &[("a", Spec::File("a, changed")), ("made/file", Spec::File("made"))];

/// A host whose run was killed when it had everything beside the tree.
fn killed_at_staged(host: Host) -> (Host, Tree, Tree) {
    let (old, new) = (Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    // The second record of the journal is the one of `staged`, and the third one does not come to be.
    let (records, is_dead) = (std::sync::atomic::AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let steps = Steps::heard_by(move |effect| {
        let is_third = effect == "write journal" && records.fetch_add(1, Ordering::SeqCst) == 2;
        if is_third || is_dead.load(Ordering::SeqCst) {
            is_dead.store(true, Ordering::SeqCst);
            return Err(io::Error::from(rustix::io::Errno::INTR));
        }
        Ok(())
    });
    host.run(&old, &new, &steps).unwrap_err();
    (host, old, new)
}

fn recover(host: &Host, decided: Option<ManifestId>) -> Result<Recovery, ApplyError> {
    let target = Target::open_as(host.kind, &host.root, &host.state, &Steps::default())?;
    Ok(target.lock(&Holder::this_process("test", 0))?.recover_to(decided)?.1)
}

fn plain(mut disk: Disk) -> Disk {
    disk.retain(|path, _| !path.starts_with(".smart-sync-stage"));
    disk
}

#[track_caller]
fn check(host: fn() -> Host, decided: fn(&Tree, &Tree) -> Option<ManifestId>, is_completed: bool) {
    let (host, old, new) = killed_at_staged(host());
    let before = plain(host.disk());
    let recovery = recover(&host, decided(&old, &new)).unwrap();
    if is_completed {
        assert!(matches!(recovery, Recovery::Completed { .. }), "{recovery:?}");
        assert_eq!(host.disk().keys().collect::<Vec<_>>(), disk_of(NEW).keys().collect::<Vec<_>>());
    } else {
        assert!(matches!(recovery, Recovery::RolledBack(_)), "{recovery:?}");
        assert_eq!(plain(host.disk()), before);
    }
    assert_eq!(recover(&host, None).unwrap(), Recovery::Nothing);
    // Either way the next run goes on from there.
    host.run(if is_completed { &new } else { &old }, &new, &Steps::default()).unwrap();
    assert_eq!(host.disk().keys().collect::<Vec<_>>(), disk_of(NEW).keys().collect::<Vec<_>>());
}

#[test]
fn what_is_decided_is_completed_and_nothing_else() {
    for host in [Host::new, Host::with_generations] {
        check(host, |_, new| Some(new.version().manifest()), true);
        check(host, |_, _| None, false);
        check(host, |old, _| Some(old.version().manifest()), false);
    }
}
