//! Targets that keep their versions: what readers see, what is shared, and going back.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::fixture::{Disk, Host, Spec, Stands, Tree, disk, disk_of};
use crate::apply::Stamp;
use crate::apply::run::Recovery;
use crate::apply::step::Steps;
use crate::apply::versions::{CURRENT, Kept};

const OLD: &[(&str, Spec)] = &[
    ("a", Spec::File("a")),
    ("becomes-file/tracked", Spec::File("x")),
    ("bin/run", Spec::Executable("run")),
    ("edited", Spec::File("before")),
    ("empty-then-file", Spec::Directory),
    ("gone/deep/file", Spec::File("gone")),
    ("link", Spec::Link("a")),
    ("same", Spec::File("same")),
    ("same-dir/below/file", Spec::File("in a directory that stays")),
];

const NEW: &[(&str, Spec)] = &[
    ("a", Spec::File("a, changed")),
    ("becomes-file", Spec::File("file")),
    ("bin/run", Spec::File("run")),
    ("edited", Spec::File("after")),
    ("empty-then-file", Spec::File("file")),
    ("link", Spec::Link("same")),
    ("moved/file", Spec::File("gone")),
    ("same", Spec::File("same")),
    ("same-dir/below/file", Spec::File("in a directory that stays")),
    ("shared/with/tree", Spec::File("published")),
];

const MINE: &str = "my own words";

/// A disk without permissions: files of versions cannot be written to, whatever they were.
fn plain(mut disk: Disk) -> Disk {
    for stands in disk.values_mut() {
        if let Stands::File(mode, _) = stands {
            *mode &= 0o111;
        }
    }
    disk
}

fn own_link(depth: usize, path: &str) -> Stands {
    Stands::Link(format!("{}local/{path}", "../".repeat(depth + 2)))
}

fn file(text: &str) -> Stands {
    Stands::File(0, text.into())
}

fn with_old() -> (Host, Tree, Tree) {
    let (host, old, new) = (Host::with_generations(), Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    fs::remove_file(host.seen().join("edited")).unwrap();
    host.write("edited", MINE);
    host.write("mine", "untracked");
    host.write("shared/with/me", "beside what is published");
    host.write("becomes-file/mine", MINE);
    (host, old, new)
}

fn old_disk() -> Disk {
    let mut disk = plain(disk_of(OLD));
    disk.insert("edited".into(), file(MINE));
    disk.insert("becomes-file/mine".into(), file(MINE));
    disk.insert("mine".into(), file("untracked"));
    disk.insert("shared/with/me".into(), file("beside what is published"));
    disk
}

fn new_disk() -> Disk {
    let mut disk = plain(disk_of(NEW));
    disk.insert("mine".into(), own_link(0, "mine"));
    disk.insert("shared/with/me".into(), own_link(2, "shared/with/me"));
    disk
}

/// What is the host's, whether or not a run has moved it out of the versions already.
fn followed(host: &Host, path: &str) -> String {
    fs::read_to_string(host.seen().join(path)).unwrap()
}

fn kept(host: &Host) -> Vec<Kept> {
    let (ready, _) = host.open(&Steps::default()).unwrap();
    ready.target().kept().unwrap()
}

/// Fails from step `first` on, for ever as after a kill, or just once.
fn failing(first: usize, error: Errno, is_kill: bool) -> (Steps, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let steps = Steps::heard_by(move |_| {
        let step = counted.fetch_add(1, Ordering::SeqCst);
        let fails = if is_kill { step >= first } else { step == first };
        if fails { Err(io::Error::from(error)) } else { Ok(()) }
    });
    (steps, count)
}

/// Nothing but versions that are noted, and a place to work that is empty.
fn check_no_leftovers(host: &Host) {
    let noted: Vec<String> = kept(host).iter().map(|kept| kept.name().to_string()).collect();
    let mut found: Vec<String> = fs::read_dir(host.root.join("versions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".work")
        .collect();
    found.sort_unstable();
    let mut sorted = noted;
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    let work = fs::read_dir(host.root.join("versions/.work")).unwrap();
    let left: Vec<_> = work.map(|entry| entry.unwrap().file_name()).filter(|name| name != "empty").collect();
    assert!(left.is_empty(), "{left:?}");
}

fn check_faults(error: Errno, is_kill: bool) {
    for first in 0.. {
        let (host, old, new) = with_old();
        let (steps, count) = failing(first, error, is_kill);
        let outcome = host.run(&old, &new, &steps);
        let is_whole = count.load(Ordering::SeqCst) <= first;
        // What cannot be tried once, such as sharing blocks, is done in another way.
        assert!(outcome.is_ok() == is_whole || !is_kill && outcome.is_ok(), "step {first}: {outcome:?}");

        // Readers see one version or the other at once, not only after somebody has tidied up.
        let at_once = plain(host.disk());
        let is_new = at_once.get("a") == Some(&file("a, changed"));
        let mut expected = if is_new { new_disk() } else { old_disk() };
        for own in ["mine", "shared/with/me"] {
            let found = at_once.get(own).cloned();
            expected.insert(own.into(), found.unwrap_or_else(|| panic!("step {first}: {own} is gone")));
        }
        assert_eq!(at_once, expected, "step {first}: at once");
        assert_eq!(followed(&host, "mine"), "untracked", "step {first}");
        assert_eq!(followed(&host, "shared/with/me"), "beside what is published", "step {first}");

        let (ready, recovery) = host.open(&Steps::default()).unwrap();
        let holds_new =
            ready.target().applied().unwrap().map(|found| found.manifest()) == Some(new.version().manifest());
        drop(ready);
        assert!(holds_new || !is_new, "step {first}: {recovery:?}");
        assert_eq!(plain(host.disk()).get("a") == Some(&file("a, changed")), holds_new, "step {first}");

        host.run(if holds_new { &new } else { &old }, &new, &Steps::default()).unwrap();
        assert_eq!(plain(host.disk()), new_disk(), "step {first}: after the next run");
        check_no_leftovers(&host);
        let found = host.backups();
        assert!(
            found.values().all(|found| matches!(found, Stands::File(_, text) if text == MINE)),
            "step {first}: {found:?}"
        );
        let paths: Vec<&str> = found.keys().map(|path| path.split('.').next().unwrap()).collect();
        assert!(
            ["becomes-file/mine", "edited"].iter().all(|path| paths.contains(path)),
            "step {first}: {paths:?}"
        );
        host.check_outside();
        if is_whole {
            assert!(first > 50, "only {first} steps were announced");
            return;
        }
    }
}

#[test]
fn a_kill_at_any_step_shows_the_old_version_or_the_new_one() {
    check_faults(Errno::INTR, true);
}

#[test]
fn a_full_disk_at_any_step_shows_the_old_version_or_the_new_one() {
    check_faults(Errno::NOSPC, false);
}

#[test]
fn what_stays_is_shared_and_cannot_be_written_to() {
    let (host, old, new) = with_old();
    let before = host.seen().canonicalize().unwrap();
    host.apply(&old, &new);
    let after = host.seen().canonicalize().unwrap();
    assert_ne!(before, after);
    for path in ["same", "same-dir/below/file"] {
        let stats = [&before, &after].map(|version| fs::symlink_metadata(version.join(path)).unwrap());
        // Where blocks cannot be shared, it is the same file.
        if stats[0].ino() == stats[1].ino() {
            assert_eq!(stats[1].mode() & 0o222, 0, "{path}");
        }
    }
    // What got another mode is not the file of the version before.
    assert_eq!(fs::metadata(before.join("bin/run")).unwrap().mode() & 0o111, 0o111);
    assert_eq!(fs::metadata(after.join("bin/run")).unwrap().mode() & 0o111, 0);
    // The host's change is still where it was made, beside its backup.
    assert_eq!(fs::read_to_string(before.join("edited")).unwrap(), MINE);
}

#[test]
fn a_write_through_a_shared_name_is_found() {
    let (host, old, new) = with_old();
    host.apply(&old, &new);
    let path = host.seen().join("same");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "through").unwrap();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let scan = host.scan(&ready, &new).unwrap();
    assert_eq!(scan.findings.iter().map(|finding| &*finding.path).collect::<Vec<_>>(), [b"same"]);
}

#[test]
fn whoever_is_in_a_version_stays_there() {
    let (host, old, new) = with_old();
    let opened = fs::File::open(host.seen()).unwrap();
    host.apply(&old, &new);
    let a = rustix::fs::openat(&opened, "a", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    assert_eq!(io::read_to_string(fs::File::from(a)).unwrap(), "a");
}

#[test]
fn an_update_without_a_change_of_files_reads_none() {
    let (host, old, new) = with_old();
    host.apply(&old, &new);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let scan = host.scan(&ready, &new).unwrap();
    assert!(scan.is_clean(), "{:?}", scan.findings);
    assert_eq!(scan.files_hashed, 0);
}

#[test]
fn going_back_is_a_switch_and_takes_nothing_of_the_hosts_along() {
    let (host, old, new) = with_old();
    let path = host.seen().canonicalize().unwrap();
    fs::remove_file(path.join("edited")).unwrap();
    host.write("edited", "before");
    host.apply(&old, &new);
    host.write("later/mine", "made after the update");
    let versions = kept(&host);
    assert_eq!(versions.iter().map(|kept| kept.number).collect::<Vec<_>>(), [1, 2]);

    let (ready, _) = host.open(&Steps::default()).unwrap();
    let own: Vec<Box<[u8]>> = vec![(*b"later").into()];
    ready.switch_to(&versions[0], &own, &[], &Stamp::new(b"back").unwrap()).unwrap();
    drop(ready);
    assert_eq!(host.seen().canonicalize().unwrap(), path);
    assert_eq!(followed(&host, "a"), "a");
    assert_eq!(followed(&host, "mine"), "untracked");
    assert_eq!(followed(&host, "later/mine"), "made after the update");

    // And on again; both are still there, under their numbers.
    let (ready, recovery) = host.open(&Steps::default()).unwrap();
    assert_eq!(recovery, Recovery::Nothing);
    ready.switch_to(&versions[1], &[], &[], &Stamp::new(b"on").unwrap()).unwrap();
    drop(ready);
    assert_eq!(followed(&host, "a"), "a, changed");
    assert_eq!(followed(&host, "later/mine"), "made after the update");
    assert_eq!(kept(&host), versions);
}

#[test]
fn a_kill_while_going_back_shows_one_version_or_the_other() {
    for first in 0.. {
        let (host, old, new) = with_old();
        host.apply(&old, &new);
        let versions = kept(&host);
        let (steps, count) = failing(first, Errno::INTR, true);
        let opened = host.open(&steps);
        let outcome = opened
            .and_then(|(ready, _)| ready.switch_to(&versions[0], &[], &[], &Stamp::new(b"back").unwrap()));
        let is_whole = count.load(Ordering::SeqCst) <= first;
        assert_eq!(outcome.is_ok(), is_whole, "step {first}: {outcome:?}");
        let seen = followed(&host, "a");
        assert!(seen == "a" || seen == "a, changed", "step {first}: {seen}");
        drop(host.open(&Steps::default()).unwrap());
        let (ready, recovery) = host.open(&Steps::default()).unwrap();
        assert_eq!(recovery, Recovery::Nothing, "step {first}");
        let applied = ready.target().applied().unwrap().unwrap();
        let expected = if followed(&host, "a") == "a" { &old } else { &new };
        assert_eq!(applied.manifest(), expected.version().manifest(), "step {first}");
        drop(ready);
        check_no_leftovers(&host);
        if is_whole {
            return;
        }
    }
}

#[test]
fn what_is_pinned_or_current_is_not_removed_and_the_rest_can_be() {
    let (host, old, new) = with_old();
    host.apply(&old, &new);
    let versions = kept(&host);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    ready.pin(&versions[0], true).unwrap();
    assert!(ready.target().kept().unwrap()[0].is_pinned);
    ready.pin(&versions[0], false).unwrap();
    ready.remove_version(&versions[0]).unwrap();
    drop(ready);
    assert_eq!(kept(&host), versions[1..]);
    assert_eq!(plain(host.disk()), new_disk());
    check_no_leftovers(&host);
}

#[test]
fn a_directory_that_holds_anything_else_is_left_alone() {
    let host = Host::with_generations();
    fs::write(host.root.join("precious"), "mine").unwrap();
    let refused = host.open(&Steps::default()).unwrap_err();
    assert!(refused.to_string().contains("`precious`"), "{refused}");
    assert_eq!(disk(&host.root).len(), 1);
    fs::remove_file(host.root.join("precious")).unwrap();
    std::os::unix::fs::symlink("/etc", host.root.join(CURRENT)).unwrap();
    let refused = host.open(&Steps::default()).unwrap_err();
    assert!(refused.to_string().contains("does not name a version"), "{refused}");
}
