//! Ctrl-C and SIGTERM: what the run says, how it ends, and that the next one transfers only the rest.

use rustix::process::Signal;

use smart_sync_tests::noise::noise;
use smart_sync_tests::program::{self, Running};
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::strace::points;
use smart_sync_tests::{CountingProxy, Finished, Host, Snapshot, Strace, TestEnvironment, Update};

/// What an interrupted run promises.
const PROMISE: &str =
    "the next run completes or undoes what this one had begun; nothing needs to be cleaned up";

fn proxy_of(host: &Host<'_>) -> CountingProxy {
    CountingProxy::start(host.realm.server().address(), Protocol::Http).expect("a free port")
}

#[track_caller]
fn assert_says_interrupted(run: Finished) {
    let run = run.expect_code(130).stderr_contains("[smart-sync ERROR] interrupted");
    assert!(run.stderr.contains(PROMISE), "{}", run.stderr);
}

/// The end of the settings of a server that makes no bundles.
const NO_BUNDLES: &str = "[bundles]\nenabled = false\n";

/// An interrupted run keeps what came: the frames of a bundle, or without bundles the contents that are whole.
fn check_download(signal: Signal, settings: &str) {
    const FILES: usize = 64;
    const FILE_BYTES: usize = 1_000_000;
    const HELD_AFTER: u64 = 56_000_000;
    const KEPT_FILES: usize = 14;
    let environment = TestEnvironment::new();
    let host = Host::with_settings(&environment, settings);
    environment.write("tree/old", "old\n");
    host.publish().success();
    host.sync().success();
    let before = Snapshot::of(&host.target());
    for file in 0..FILES {
        environment.write(&format!("tree/{file}"), noise(&format!("{file}"), FILE_BYTES));
    }
    host.publish().success();

    let proxy = proxy_of(&host);
    proxy.hold_received_after(HELD_AFTER);
    let mut run = Running::start(&mut host.sync_command_from(&proxy.url()));
    let kept_bytes = (KEPT_FILES * FILE_BYTES) as u64;
    while staged(&host) < KEPT_FILES && spooled(&host) < kept_bytes && run.is_alive() {
        std::thread::yield_now();
    }
    run.signal(signal);
    assert_says_interrupted(run.wait());
    host.status().success();
    before.assert_same(&without_stage(&host));

    proxy.release();
    proxy.take_totals();
    program::run(&mut host.sync_command_from(&proxy.url())).success();
    host.assert_synced();
    let (rest, most) = (proxy.totals().received, ((FILES - KEPT_FILES + 1) * FILE_BYTES) as u64);
    assert!(rest < most, "{rest} bytes came, and not fewer than {most}");
}

/// How much of a bundle has come.
fn spooled(host: &Host<'_>) -> u64 {
    let targets = std::fs::read_dir(host.environment().state_directory().join("targets"));
    let spools = targets.into_iter().flatten().flatten().map(|target| target.path().join("incoming.bundle"));
    spools.filter_map(|spool| std::fs::metadata(spool).ok()).map(|metadata| metadata.len()).sum()
}

/// How many whole contents wait in the stage.
fn staged(host: &Host<'_>) -> usize {
    let entries = std::fs::read_dir(host.target().join(".smart-sync-stage/contents"));
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| !name.to_string_lossy().contains('.')).count()
}

fn without_stage(host: &Host<'_>) -> Snapshot {
    let stage = host.target().join(".smart-sync-stage");
    let parked = host.environment().path("parked");
    let is_there = std::fs::rename(&stage, &parked).is_ok();
    let snapshot = Snapshot::of(&host.target());
    if is_there {
        std::fs::rename(&parked, &stage).expect("the stage can be put back");
    }
    snapshot
}

#[test]
fn a_download_that_is_interrupted_goes_on_where_it_was() {
    check_download(Signal::INT, NO_BUNDLES);
}

#[test]
fn a_bundle_that_is_interrupted_goes_on_where_it_was() {
    check_download(Signal::INT, "");
}

#[test]
fn a_download_that_is_terminated_goes_on_where_it_was() {
    check_download(Signal::TERM, NO_BUNDLES);
}

#[test]
fn an_upload_that_is_interrupted_sends_only_the_rest_next_time() {
    const BYTES: u64 = 80_000_000;
    let environment = TestEnvironment::new();
    let host = Host::new(&environment);
    environment.write("tree/large", noise("large", usize::try_from(BYTES).unwrap()));
    let proxy = proxy_of(&host);
    // The first pack has 64 MiB.
    let held = 70_000_000;
    proxy.hold_sent_after(held);
    let mut run = Running::start(&mut host.publish_command_to(&proxy.url()));
    while proxy.totals().sent <= held && run.is_alive() {
        std::thread::yield_now();
    }
    run.signal(Signal::INT);
    assert_says_interrupted(run.wait());
    host.assert_sound();

    proxy.release();
    proxy.take_totals();
    program::run(&mut host.publish_command_to(&proxy.url())).success();
    let rest = proxy.totals().sent;
    assert!(rest < BYTES / 2, "{rest} bytes were sent");
    host.sync().success();
    host.assert_synced();
}

/// An update that has begun to change the tree is not left half-way for being asked to end.
#[test]
fn an_update_that_is_interrupted_while_it_changes_the_tree_ends_old_or_new() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let update = Update::next(&environment);
    let command = update.host.sync_command();
    let mut ends = (0, 0);
    for (call, count) in strace.count(&command, &["renameat", "unlinkat", "fsync", "syncfs", "write"]) {
        for when in points(count, 6) {
            update.restore();
            let what = format!("interrupted at {call} {when}");
            let run = strace.run(&command, &call, &when.to_string(), "signal=INT");
            if run.code == Some(0) {
                ends.0 += 1;
                update.host.assert_synced();
            } else {
                ends.1 += 1;
                // Each thread counts its calls on its own: a second signal ends a run at once, without another word.
                if run.code != Some(130) || run.stderr.contains("ERROR") {
                    assert_says_interrupted(run);
                }
                update.assert_unchanged(&what);
            }
            update.assert_recovers(&what);
        }
    }
    assert!(ends.0 > 0 && ends.1 > 0, "{ends:?} ended well, were interrupted");
}
