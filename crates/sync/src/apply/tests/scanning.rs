//! What a scan reads, what it trusts, and what it reports.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;

use smart_sync_store::manifest::entry::FileTime;

use super::fixture::{Host, LATER, Spec, Tree};
use crate::apply::run::ReadyTarget;
use crate::apply::scan::{Drift, Rehash, Scan, ScanOptions, scan};
use crate::apply::stat_cache::StatCache;
use crate::apply::step::Steps;

fn many() -> Vec<(String, Spec)> {
    (0..40).map(|number| (format!("d{}/f{number:02}", number % 3), Spec::File("text"))).collect()
}

fn host_with(specs: &[(String, Spec)]) -> (Host, Tree) {
    let specs: Vec<_> = specs.iter().map(|(path, spec)| (path.as_str(), *spec)).collect();
    let (host, tree) = (Host::new(), Tree::new(&specs));
    host.apply(&Tree::default(), &tree);
    (host, tree)
}

fn scan_with(ready: &ReadyTarget, tree: &Tree, options: &ScanOptions<'_>) -> Scan {
    let cache = StatCache::load(ready.target().state(), tree.version().manifest()).unwrap();
    scan(ready.target().tree(), cache, options).unwrap()
}

fn replace_unseen(host: &Host, path: &str, text: &str) {
    let path = host.root.join(path);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, text).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
}

#[test]
fn nothing_is_read_while_nothing_changed() {
    let (host, tree) = host_with(&many());
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let found = scan_with(&ready, &tree, &host.options());
    assert!(found.is_clean() && !found.is_cache_changed);
    assert_eq!(found.files_hashed, 0);
}

#[test]
fn consecutive_samples_cover_the_whole_tree() {
    let (host, tree) = host_with(&many());
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let hashed = |seed| {
        let options = ScanOptions { rehash: Rehash::Sample { files: 10, seed }, ..host.options() };
        scan_with(&ready, &tree, &options).files_hashed
    };
    assert_eq!((0..4).map(hashed).collect::<Vec<_>>(), [10, 10, 10, 10]);
    let full = ScanOptions { rehash: Rehash::Everything, ..host.options() };
    assert_eq!(scan_with(&ready, &tree, &full).files_hashed, 40);
}

#[test]
fn a_change_that_hides_its_time_is_found_all_the_same() {
    let (host, tree) = host_with(&many());
    replace_unseen(&host, "d0/f00", "TEXT");
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let found = scan_with(&ready, &tree, &host.options());
    let [finding] = &*found.findings else { panic!("{:?}", found.findings) };
    assert_eq!((&*finding.path, finding.drift), (&b"d0/f00"[..], Drift::Content));
}

#[test]
fn a_file_as_new_as_the_cache_is_not_trusted() {
    let (host, tree) = host_with(&many()[..1]);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let changed = fs::metadata(host.root.join("d0/f00")).unwrap();
    let nanoseconds = u32::try_from(changed.ctime_nsec()).unwrap();
    let as_new = FileTime { seconds: changed.ctime(), nanoseconds };
    for (taken, files_hashed) in [(as_new, 1), (LATER, 0)] {
        let mut cache = StatCache::load(ready.target().state(), tree.version().manifest()).unwrap();
        cache.set_taken(taken);
        let found = scan(ready.target().tree(), cache, &host.options()).unwrap();
        assert!(found.is_clean());
        assert_eq!(found.files_hashed, files_hashed);
        assert_eq!(scan(ready.target().tree(), found.cache, &host.options()).unwrap().files_hashed, 0);
    }
}

#[test]
fn times_without_a_fraction_need_two_seconds_to_settle() {
    let (host, _) = host_with(&many());
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let mut print = ready.target().tree().stat(b"d0/f00").unwrap().unwrap().fingerprint();
    let at = |seconds, nanoseconds| FileTime { seconds, nanoseconds };
    let mut check = |time, moment, expected| {
        (print.modified, print.changed) = (time, time);
        assert_eq!(print.is_settled_before(moment), expected, "{time:?} before {moment:?}");
    };
    check(at(10, 0), at(11, 0), false);
    check(at(10, 0), at(12, 0), false);
    check(at(10, 0), at(13, 0), true);
    check(at(10, 1), at(10, 1), false);
    check(at(10, 1), at(10, 2), true);
}

#[test]
fn every_kind_of_difference_is_reported() {
    let specs = [
        ("changed", Spec::File("12345")),
        ("dir/gone", Spec::File("x")),
        ("emptied/x", Spec::File("x")),
        ("explicit", Spec::Directory),
        ("mode", Spec::File("x")),
        ("same", Spec::Link("dir")),
        ("type", Spec::File("x")),
        ("typed-directory/x", Spec::File("x")),
    ];
    let specs = specs.map(|(path, spec)| (path.to_owned(), spec));
    let (mut host, tree) = host_with(&specs);
    host.write("changed", "54321");
    fs::remove_file(host.root.join("dir/gone")).unwrap();
    fs::remove_dir_all(host.root.join("emptied")).unwrap();
    fs::remove_dir_all(host.root.join("explicit")).unwrap();
    host.chmod("mode", 0o755);
    fs::remove_file(host.root.join("type")).unwrap();
    fs::create_dir(host.root.join("type")).unwrap();
    fs::remove_dir_all(host.root.join("typed-directory")).unwrap();
    host.write("typed-directory", "a file");
    host.write("untracked/x", "x");
    host.write("dir/untracked", "x");
    host.write("dir/excluded", "x");
    host.excluded = |path, _| path.ends_with(b"excluded");

    let (ready, _) = host.open(&Steps::default()).unwrap();
    let found = scan_with(&ready, &tree, &host.options());
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let findings: Vec<_> = found.findings.iter().map(|found| (text(&found.path), found.drift)).collect();
    let expected = [
        ("changed", Drift::Content),
        ("dir/gone", Drift::Missing),
        ("emptied/x", Drift::Missing),
        ("explicit", Drift::Missing),
        ("mode", Drift::ExecutableBit),
        ("type", Drift::Type),
        ("typed-directory", Drift::Type),
        ("typed-directory/x", Drift::Missing),
    ];
    assert_eq!(findings, expected.map(|(path, drift)| (path.to_owned(), drift)));
    let paths = |found: &[crate::apply::scan::Untracked]| {
        found.iter().map(|found| text(&found.path)).collect::<Vec<_>>()
    };
    assert_eq!(paths(&found.untracked), ["dir/untracked", "untracked"]);
    assert_eq!(paths(&found.excluded), ["dir/excluded"]);
}

#[test]
fn a_cache_that_is_damaged_or_of_another_manifest_is_ignored() {
    let (host, tree) = host_with(&many()[..3]);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let (state, manifest) = (ready.target().state(), tree.version().manifest());
    assert!(StatCache::load(state, manifest).is_some());
    assert!(StatCache::load(state, Tree::default().version().manifest()).is_none());
    let path = host.state.join("stat-cache");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(StatCache::load(state, manifest).is_none(), "byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert!(StatCache::load(state, manifest).is_none(), "cut at {at}");
    }
}

#[test]
fn without_a_cache_everything_is_read_once() {
    let (host, tree) = host_with(&many());
    fs::remove_file(host.state.join("stat-cache")).unwrap();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let found = host.scan(&ready, &tree).unwrap();
    assert!(found.is_clean() && found.is_cache_changed);
    assert_eq!((found.files_hashed, found.taken), (40, LATER));
    found.cache.save(ready.target().state()).unwrap();
    assert_eq!(host.scan(&ready, &tree).unwrap().files_hashed, 0);
}
