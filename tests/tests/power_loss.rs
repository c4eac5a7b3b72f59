//! Power cuts: whatever a program has said that it did is durable, down to the names in their directories.
//!
//! A cut takes back what was not synced, and real file systems take back less than they may. So the calls of the real
//! programs are played on one that takes back all it may, and what would be lost is looked at when it matters: at a
//! success, and at each step that later ones rely on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use smart_sync_tests::durability::{CALLS, Disk, Event, events};
use smart_sync_tests::noise::noise;
use smart_sync_tests::{Host, Realm, Strace, TestEnvironment, Update};

/// What the programs make anew when it is lost, or look at with suspicion when it is torn.
fn is_expendable(path: &str) -> bool {
    let is_cache =
        path.starts_with("state/targets/") && (path.ends_with("/stat-cache") || is_of(path, "pages"));
    is_cache
        || path.starts_with("tmp/")
        || path.ends_with("/lock")
        || path.contains("/.smart-sync-stage")
        || path.contains("/incoming.")
        || path.contains(".pack#")
        || path.contains("/index.db")
        || is_of(path, "tmp")
        || is_of(path, "new")
        // Moved there from the target, with whose file system it was synced.
        || path.contains("/backups")
}

fn is_of(path: &str, extension: &str) -> bool {
    Path::new(path).extension() == Some(OsStr::new(extension))
}

/// What is wrong with the calls of a sync: something that would be lost when it may not be any more.
fn faults_of_sync(environment: &TestEnvironment, trace: &str) -> Vec<String> {
    let mut disk = Disk::new(environment.root(), is_expendable);
    let mut faults = Vec::new();
    for event in events(trace) {
        let changed = match &event {
            Event::Made(path) | Event::Removed(path) | Event::Renamed(_, path) => disk.shown(path).to_owned(),
            Event::Said(_, text) if text.contains(" is applied: ") => "success".to_owned(),
            _ => String::new(),
        };
        let is_relied_on = |lost: &String| match changed.rsplit('/').next() {
            // Who reads that a version is applied, or that no run is unfinished, looks no further.
            Some("applied" | "success") => true,
            Some("journal") if matches!(event, Event::Removed(_)) => true,
            // What is half done is completed by the journal, so that it has to be there before anything is begun.
            _ if is_of_tree(&changed) => lost.ends_with("/journal") || lost.contains(" state/trust/"),
            // Trust never goes back behind what was done because of it.
            _ if changed.starts_with("state/targets/") => lost.contains(" state/trust/"),
            _ => false,
        };
        let lost = disk.lost().into_iter().filter(is_relied_on);
        faults.extend(lost.map(|lost| format!("at {changed}: {lost}")));
        faults.extend(named_too_early(&disk, &event));
        disk.apply(&event);
    }
    faults
}

fn is_of_tree(path: &str) -> bool {
    path.starts_with("host/") && !path.contains("/.smart-sync-stage")
}

/// A file that gets its name before its bytes are durable, and would be found empty under it.
fn named_too_early(disk: &Disk, event: &Event) -> Option<String> {
    match event {
        Event::Renamed(from, to) if disk.loses_bytes(from) && !is_expendable(disk.shown(to)) => {
            Some(format!("{} is named before its bytes are durable", disk.shown(to)))
        }
        _ => None,
    }
}

/// The files and directories that were synced in a trace, and could as well not have been: nothing is wrong without.
fn synced_in_vain(trace: &str, faults: impl Fn(&str) -> Vec<String>) -> BTreeSet<String> {
    let synced = |line: &str| match &events(line)[..] {
        [Event::Synced(path) | Event::SyncedAll(path)] => Some(path.clone()),
        _ => None,
    };
    let paths: BTreeSet<String> = trace.lines().filter_map(synced).collect();
    let without = |path: &String| {
        let kept = trace.lines().filter(|line| synced(line).as_ref() != Some(path));
        kept.collect::<Vec<_>>().join("\n")
    };
    paths.iter().filter(|path| faults(&without(path)).is_empty()).cloned().collect()
}

/// Fails the test unless nothing is wrong with a trace, and something is when the syncs of any path are left out.
#[track_caller]
fn check(trace: &str, faults: impl Fn(&str) -> Vec<String>) {
    assert_eq!(faults(trace), Vec::<String>::new());
    let mut in_vain = synced_in_vain(trace, faults);
    // Pages are made anew when they are lost.
    in_vain.retain(|path| !(path.contains("/state/targets/") && is_of(path, "tmp")));
    assert!(in_vain.is_empty(), "nothing is wrong without: {in_vain:#?}");
}

#[track_caller]
fn check_sync(environment: &TestEnvironment, update: &Update<'_>, strace: &Strace<'_>) {
    let trace = strace.trace(&update.host.sync_command(), CALLS);
    check(&trace, |trace| faults_of_sync(environment, trace));
}

#[test]
fn a_first_sync_that_succeeded_cannot_be_taken_back() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    check_sync(&environment, &Update::first(&environment), &strace);
}

#[test]
fn an_update_that_succeeded_cannot_be_taken_back() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    check_sync(&environment, &Update::next(&environment), &strace);
}

/// What is wrong with the calls of a server: something that would be lost although it was acknowledged.
fn faults_of_server(environment: &TestEnvironment, trace: &str) -> Vec<String> {
    let mut disk = Disk::new(environment.root(), is_expendable);
    let mut faults = Vec::new();
    for event in events(trace) {
        if let Event::Said(_, text) = &event
            && text.starts_with("HTTP/1.1 2")
        {
            faults.extend(disk.lost());
        }
        if let Event::Renamed(_, path) = &event
            && path.ends_with("/checkpoint")
        {
            faults.extend(disk.lost().into_iter().filter(|lost| !lost.contains("/log/checkpoint")));
        }
        faults.extend(named_too_early(&disk, &event));
        disk.apply(&event);
    }
    faults
}

#[test]
fn a_publication_that_was_acknowledged_cannot_be_taken_back() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    // Bundles are made beside it, and made again when they are lost.
    let host = Host::with_settings(&environment, "[bundles]\nenabled = false\n");
    for round in ["first", "second"] {
        environment.write("tree/round", round);
        environment.write("tree/large", noise(round, 100_000));
        let watched = strace.watch(host.realm.server().process(), CALLS);
        host.publish().success();
        drop(watched);
        let trace = strace.traced();
        check(&trace, |trace| faults_of_server(&environment, trace));
    }
}

/// What is wrong with the calls of a command that changes the state directory alone.
fn faults_of_command(environment: &TestEnvironment, trace: &str) -> Vec<String> {
    let mut disk = Disk::new(environment.root(), is_expendable);
    let mut faults = Vec::new();
    for event in events(trace) {
        faults.extend(named_too_early(&disk, &event));
        disk.apply(&event);
    }
    faults.extend(disk.lost());
    faults
}

#[test]
fn whom_a_host_believes_cannot_be_taken_back() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let realm = Realm::start(&environment, "realm");
    let (url, pin) = (realm.server().url().to_owned(), realm.fingerprint().to_owned());
    let mut add = environment.client();
    add.args(["trust", "add", &url, "--root", &pin]);
    // Nothing of the state directory is there.
    let state = environment.path("new/state");
    add.env("SMART_SYNC_STATE_DIR", &state);
    let trace = strace.trace(&add, CALLS);
    check(&trace, |trace| faults_of_command(&environment, trace));
    let mut reset = environment.client();
    reset.args(["trust", "reset", Realm::ORIGIN, "--yes"]).env("SMART_SYNC_STATE_DIR", &state);
    let trace = strace.trace(&reset, CALLS);
    assert_eq!(faults_of_command(&environment, &trace), Vec::<String>::new());
}
