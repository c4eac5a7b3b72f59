//! A dataset that is changed in place: its snapshots, going back by them, and what is never destroyed.

use std::fs;

use std::path::Path;

use super::fixture::{Disk, Host, Spec, Stands, Tree, ZFS, disk_of};
use crate::apply::Stamp;
use crate::apply::error::ApplyError;
use crate::apply::plan::Problem;
use crate::apply::step::Steps;
use crate::apply::versions::of_root::{RootKind, RootSnapshots};
use crate::apply::versions::{Kept, Kind};
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::path::TreePath;

const OLD: &[(&str, Spec)] = &[("a", Spec::File("a")), ("gone/file", Spec::File("gone"))];
const NEW: &[(&str, Spec)] = &[("a", Spec::File("a, changed")), ("made/file", Spec::File("made"))];

fn with_both() -> (Host, Tree, Tree) {
    let (host, old, new) = (Host::with_dataset(), Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    host.apply(&old, &new);
    (host, old, new)
}

fn kept(host: &Host) -> Vec<Kept> {
    host.open(&Steps::default()).unwrap().0.target().kept().unwrap()
}

fn said(host: &Host) -> Vec<String> {
    let log = fs::read_to_string(host.root.join(".zfs/log")).unwrap();
    let changes = ["snapshot", "hold ", "release", "destroy"];
    let is_change = |line: &&str| changes.iter().any(|change| line["zfs ".len()..].starts_with(change));
    log.lines().filter(is_change).map(str::to_owned).collect()
}

/// The file system lists its own directory where it is told to.
#[test]
fn what_belongs_to_the_file_system_is_neither_looked_at_nor_published_over() {
    let (host, _, new) = with_both();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let scan = host.scan(&ready, &new).unwrap();
    assert!(scan.is_clean() && scan.untracked.is_empty(), "{scan:?}");
    let wanted = Tree::new(&[(".zfs/snapshot/x/a", Spec::File("over")), ("a", Spec::File("a, changed"))]);
    let (_, plan) = host.plan(&ready, &new, &wanted).unwrap();
    let path = |path: &str| TreePath::new(path.as_bytes()).unwrap();
    let expected = [".zfs", ".zfs/snapshot", ".zfs/snapshot/x", ".zfs/snapshot/x/a"]
        .map(|name| Problem::ReservedBySystem(path(name)));
    assert_eq!(plan.problems, expected);
}

#[test]
fn each_version_is_a_snapshot_that_is_held() {
    let (host, ..) = with_both();
    host.check_kept(&[&disk_of(OLD), &disk_of(NEW)]);
    let pool = format!("pool{}", host.root.display());
    let expected = kept(&host).into_iter().flat_map(|kept| {
        let snapshot = format!("{pool}@{}", kept.name());
        [format!("zfs snapshot {snapshot}"), format!("zfs hold smart-sync {snapshot}")]
    });
    assert_eq!(said(&host), expected.collect::<Vec<_>>());
}

#[test]
fn a_version_is_gone_back_to_under_its_name_and_what_the_host_has_stays() {
    let (host, old, new) = with_both();
    host.write("mine", "made since");
    let versions = kept(&host);
    host.run_as(&new, &old, versions[0].version.clone(), &Steps::default()).unwrap();
    let mut expected = disk_of(OLD);
    expected.insert("mine".into(), Stands::File(0o644, "made since".into()));
    assert_eq!(host.disk(), expected);
    host.check_kept(&[&disk_of(OLD), &disk_of(NEW)]);
    assert_eq!(kept(&host), versions);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    assert_eq!(ready.target().applied().unwrap().as_ref(), Some(&versions[0].version));
    let bytes = ready.target().version_tree(versions[1].name()).unwrap().unwrap().open_file(b"made/file");
    assert_eq!(std::io::read_to_string(bytes.unwrap()).unwrap(), "made");
}

#[test]
fn a_snapshot_that_is_gone_is_taken_again_when_its_version_is_gone_back_to() {
    let (host, old, new) = with_both();
    let first = kept(&host)[0].clone();
    fs::remove_dir_all(host.root.join(".zfs/snapshot").join(first.name().as_str())).unwrap();
    fs::remove_dir_all(host.root.join(".zfs/holds").join(first.name().as_str())).unwrap();
    host.run_as(&new, &old, first.version, &Steps::default()).unwrap();
    host.check_kept(&[&disk_of(OLD), &disk_of(NEW)]);
}

#[test]
fn one_version_goes_by_its_whole_name_and_nothing_else_does() {
    let (host, ..) = with_both();
    let versions = kept(&host);
    let snapshots = host.root.join(".zfs/snapshot");
    let others = ["by-hand", "smart-sync-20200101T000000Z-12345678"].map(|name| snapshots.join(name));
    for path in &others {
        fs::create_dir(path).unwrap();
    }
    let (ready, _) = host.open(&Steps::default()).unwrap();
    ready.remove_version(&versions[0]).unwrap();
    drop(ready);
    assert!(others.iter().all(|path| path.exists()));
    for path in &others {
        fs::remove_dir(path).unwrap();
    }
    let snapshot = format!("pool{}@{}", host.root.display(), versions[0].name());
    let said = said(&host);
    assert_eq!(
        said[said.len() - 2..],
        [format!("zfs release smart-sync {snapshot}"), format!("zfs destroy {snapshot}")]
    );
    host.check_kept(&[&disk_of(NEW)]);
}

#[test]
fn a_removal_that_was_interrupted_is_done_again() {
    for interrupted_at in ["release", "destroy", "unlink"] {
        let (host, ..) = with_both();
        let versions = kept(&host);
        let steps = Steps::heard_by(move |effect| match effect {
            effect if effect == interrupted_at => Err(std::io::ErrorKind::Interrupted.into()),
            _ => Ok(()),
        });
        let (ready, _) = host.open(&steps).unwrap();
        ready.remove_version(&versions[0]).unwrap_err();
        drop(ready);
        assert_eq!(kept(&host), versions, "{interrupted_at}");
        let (ready, _) = host.open(&Steps::default()).unwrap();
        ready.remove_version(&versions[0]).unwrap();
        drop(ready);
        host.check_kept(&[&disk_of(NEW)]);
    }
}

#[test]
fn a_snapshot_that_somebody_else_holds_stays_with_our_hold() {
    let (host, ..) = with_both();
    let versions = kept(&host);
    let holds = host.root.join(".zfs/holds").join(versions[0].name().as_str());
    fs::write(holds.join("backup"), "").unwrap();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let refused = ready.remove_version(&versions[0]).unwrap_err();
    assert!(matches!(refused, ApplyError::HeldSnapshot { .. }), "{refused}");
    drop(ready);
    host.check_kept(&[&disk_of(OLD), &disk_of(NEW)]);
}

#[test]
fn a_pool_that_is_full_is_told_and_the_next_run_takes_the_snapshot() {
    let (host, old, new) = (Host::with_dataset(), Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    fs::write(host.root.join(".zfs/full"), "").unwrap();
    let error = host.run(&old, &new, &Steps::default()).unwrap_err();
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull), "{error}");
    fs::remove_file(host.root.join(".zfs/full")).unwrap();
    assert_eq!(kept(&host).len(), 2);
    host.check_kept(&[&disk_of(OLD), &disk_of(NEW)]);
}

#[test]
fn what_is_changed_in_place_cannot_be_switched() {
    let (host, ..) = with_both();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let before: Disk = host.disk();
    let first = &ready.target().kept().unwrap()[0];
    ready.switch_to(first, &[], &[], &Stamp::new(b"back").unwrap()).unwrap_err();
    assert_eq!(host.disk(), before);
}

#[test]
fn a_directory_that_is_no_dataset_is_left_alone() {
    let mut host = Host::new();
    host.kind = Kind::Zfs;
    let error = host.open(&Steps::default()).unwrap_err();
    assert!(error.to_string().contains("asking which dataset is"), "{error}");
    fs::create_dir(host.root.parent().unwrap().join(".zfs")).unwrap();
    let refused = host.open(&Steps::default()).unwrap_err();
    assert!(refused.to_string().contains("it is a directory of the dataset pool"), "{refused}");
    assert!(host.disk().is_empty());
}

#[test]
fn a_root_that_is_no_target_has_snapshots_that_are_held_and_go_one_by_one() {
    let host = Host::with_dataset();
    host.write("etc/conf", "before");
    // What stands in for the program knows of a dataset; the kernel does not.
    assert_eq!(RootKind::of(&host.root, None), None);
    let snapshots = RootSnapshots::of_dataset(&host.root, Path::new(ZFS)).unwrap();
    let stamp = Stamp::new(b"20260101T120000Z").unwrap();
    let manifest = ManifestId::from_bytes([0xab; 32]);
    let first = snapshots.free_name(&stamp, manifest).unwrap();
    snapshots.take(&first).unwrap();
    host.write("etc/conf", "after");
    let second = snapshots.free_name(&stamp, manifest).unwrap();
    assert_eq!(second.as_str(), "smart-sync-20260101T120000Z-abababab-2");
    snapshots.take(&second).unwrap();
    let taken = host.root.join(".zfs/snapshot").join(first.as_str());
    assert_eq!(fs::read_to_string(taken.join("etc/conf")).unwrap(), "before");
    let pool = format!("pool{}", host.root.display());
    assert_eq!(snapshots.shown(&first), format!("{pool}@{first}"));
    snapshots.remove(&first).unwrap();
    snapshots.remove(&first).unwrap();
    let changes = [
        format!("zfs snapshot {pool}@{first}"),
        format!("zfs hold smart-sync {pool}@{first}"),
        format!("zfs snapshot {pool}@{second}"),
        format!("zfs hold smart-sync {pool}@{second}"),
        format!("zfs release smart-sync {pool}@{first}"),
        format!("zfs destroy {pool}@{first}"),
    ];
    assert_eq!(said(&host), changes);
}
