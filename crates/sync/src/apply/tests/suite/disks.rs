//! Kills, disks that fail, state that is torn, and somebody else at work.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::{Case, Make};
use crate::apply::error::ApplyError;
use crate::apply::step::Steps;
use crate::apply::tests::fixture::{Host, Spec, Tree};
use crate::apply::versions::Kind;

pub(super) const CASES: &[Case] = &[
    ("138: a kill, at steps from the first to the last", a_kill_at_each_step),
    ("139: a flush that fails, likewise", a_failed_flush),
    ("140: a full disk, likewise", a_full_disk),
    ("142: state that is torn or rotten", torn_state),
    ("143: two at once", two_at_once),
    ("144: a target that cannot be written to", a_read_only_target),
];

const OLD: &[(&str, Spec)] = &[
    ("becomes-directory", Spec::File("file")),
    ("becomes-file/x", Spec::File("x")),
    ("changed", Spec::File("old")),
    ("gone/deep", Spec::File("gone")),
    ("link", Spec::Link("changed")),
    ("same", Spec::File("same")),
];
const NEW: &[(&str, Spec)] = &[
    ("becomes-directory/x", Spec::File("inside")),
    ("becomes-file", Spec::File("file")),
    ("changed", Spec::File("new")),
    ("link", Spec::Link("same")),
    ("made/deep", Spec::File("made")),
    ("same", Spec::File("same")),
];

/// The most runs with a fault: those of kinds that have more steps are spread over them.
const RUNS_MAX: usize = 12;

/// Fails from step `first` on, for ever as after a kill, or just once. Counts the steps.
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

/// Whatever happens to a run: no reader of a kind that switches sees a mix, the next look finds the old tree or the new
/// one and what was noted says which, and the next run makes it the new one.
fn faults(make: Make<'_>, error: Errno, is_kill: bool, only: fn(&str) -> bool) {
    let (old, new) = (Tree::new(OLD), Tree::new(NEW));
    let begun = || {
        let host = make();
        host.apply(&Tree::default(), &old);
        host
    };
    let steps = {
        let (steps, count) = failing(usize::MAX, error, is_kill, only);
        begun().run(&old, &new, &steps).unwrap();
        count.load(Ordering::SeqCst)
    };
    assert!(steps > 0, "nothing was announced");
    for first in (0..steps).step_by(steps.div_ceil(RUNS_MAX)) {
        let host = begun();
        let (faulty, _) = failing(first, error, is_kill, only);
        let outcome = host.run(&old, &new, &faulty);
        assert!(!is_kill || outcome.is_err(), "step {first} of {steps}: a run that was killed went on");
        if matches!(host.kind, Kind::Generations | Kind::Btrfs) {
            let at_once = host.looks();
            let is_one = at_once == host.looks_like(OLD) || at_once == host.looks_like(NEW);
            assert!(is_one, "step {first} of {steps}: readers see {at_once:?}");
        }
        let (ready, recovery) = host.open(&Steps::default()).unwrap();
        drop(ready);
        let holds = host.holds(&old, &new);
        let expected = if holds.version() == old.version() { OLD } else { NEW };
        let mut found = host.looks();
        found.retain(|path, _| !path.starts_with(".smart-sync-stage"));
        assert_eq!(found, host.looks_like(expected), "step {first} of {steps}: {recovery:?}");
        host.run(holds, &new, &Steps::default()).unwrap();
        assert_eq!(host.looks(), host.looks_like(NEW), "step {first} of {steps}: after the next run");
        assert!(host.backups().is_empty(), "step {first} of {steps}: {:?}", host.backups());
        assert!(!host.state.join("journal").exists(), "step {first} of {steps}");
        host.check_outside();
    }
}

fn a_kill_at_each_step(make: Make<'_>) {
    faults(make, Errno::INTR, true, |_| true);
}

fn a_failed_flush(make: Make<'_>) {
    faults(make, Errno::IO, false, |effect| effect.contains("sync") || effect.contains("write"));
}

fn a_full_disk(make: Make<'_>) {
    faults(make, Errno::NOSPC, false, |_| true);
}

/// Small files that are cut short or have a bit flipped are damage, and nothing is guessed from them.
fn torn_state(make: Make<'_>) {
    let (old, new) = (Tree::new(OLD), Tree::new(NEW));
    let check = |host: &Host, file: &Path, look: &dyn Fn(&Host) -> Result<(), ApplyError>| {
        let whole = fs::read(file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let before = host.disk();
        for torn in [&whole[..whole.len() / 2], &flipped, b""] {
            fs::write(file, torn).unwrap();
            let error = look(host).unwrap_err();
            assert!(
                matches!(error, ApplyError::DamagedRecord { .. } | ApplyError::DamagedJournal { .. }),
                "{}: {error:?}",
                file.display()
            );
            assert_eq!(host.disk(), before);
        }
        fs::write(file, whole).unwrap();
        look(host).unwrap();
    };
    let host = make();
    host.apply(&Tree::default(), &old);
    check(&host, &host.state.join("applied"), &|host| {
        let (ready, _) = host.open(&Steps::default())?;
        ready.target().applied().map(|_| ())
    });
    if host.kind.keeps_versions() {
        let entry = fs::read_dir(host.state.join("versions")).unwrap().next().unwrap().unwrap();
        check(&host, &entry.path(), &|host| {
            let (ready, _) = host.open(&Steps::default())?;
            ready.target().kept().map(|_| ())
        });
    }
    // What is known of files is only ever asked again.
    fs::write(host.state.join("stat-cache"), "torn").unwrap();
    host.apply(&old, &new);
    assert_eq!(host.looks(), host.looks_like(NEW));
}

fn two_at_once(make: Make<'_>) {
    let (old, new) = (Tree::new(OLD), Tree::new(NEW));
    let host = make();
    host.apply(&Tree::default(), &old);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let before = host.disk();
    let refused = host.run(&old, &new, &Steps::default()).unwrap_err();
    assert!(matches!(refused, ApplyError::Locked(_)), "{refused}");
    assert_eq!(host.disk(), before);
    drop(ready);
    host.apply(&old, &new);
    assert_eq!(host.looks(), host.looks_like(NEW));
}

fn a_read_only_target(make: Make<'_>) {
    let (old, new) = (Tree::new(OLD), Tree::new(NEW));
    let host = make();
    host.apply(&Tree::default(), &old);
    drop(host.open(&Steps::default()).unwrap());
    // Opening a target that was opened before changes nothing but the lock, which is not in it.
    let (steps, _) =
        failing(0, Errno::ROFS, true, |effect| effect != "open to write" && effect != "write lock");
    let error = host.run(&old, &new, &steps).unwrap_err();
    assert_eq!(error.io_kind(), Some(io::ErrorKind::ReadOnlyFilesystem), "{error:?}");
    assert_eq!(host.looks(), host.looks_like(OLD));
}
