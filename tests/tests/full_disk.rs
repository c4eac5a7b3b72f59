//! Disks that are full or broken, at every write: nothing half-made is left, the message says what to do, and the next
//! run completes.

use std::fs;

use smart_sync_tests::http::get;
use smart_sync_tests::noise::noise;
use smart_sync_tests::small_disk::{PAGE_BYTES, in_namespace};
use smart_sync_tests::{Finished, Host, SmallDisk, Strace, TestEnvironment, Update};

/// Enough for both versions, the stage and the state.
const DISK_BYTES: u64 = 8 << 20;

/// The end of the settings of a server that prepares nothing.
const NO_BUNDLES: &str = "[bundles]\nenabled = false\n";

/// Fails the test unless the run says that there is no room, and what to do.
#[track_caller]
fn assert_says_full(run: &Finished, what: &str) {
    assert_eq!(run.code, Some(1), "{what}: {run:?}");
    let says_why =
        run.stderr.contains("No space left on device") || run.stderr.contains(" are free in the file");
    assert!(says_why && run.stderr.contains("hint: make room"), "{what}: {}", run.stderr);
}

/// Runs an update with less and less on a disk taken, until it succeeds.
fn fill(update: &Update<'_>, disk: &SmallDisk) {
    let mut refused = 0;
    for pages in 0.. {
        update.restore();
        disk.leave(pages * PAGE_BYTES);
        let run = update.host.sync();
        disk.make_room();
        if run.code == Some(0) {
            break;
        }
        let what = format!("{pages} pages free");
        assert_says_full(&run, &what);
        update.assert_recovers(&what);
        refused += 1;
    }
    assert!(refused > 2, "only {refused} runs had too little room");
}

#[test]
fn a_target_without_room_stays_as_it_is_until_there_is_some() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let disk = SmallDisk::mount(environment.path("host"), DISK_BYTES);
    fill(&Update::next(&environment), &disk);
}

#[test]
fn a_state_directory_without_room_leaves_the_target_whole() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let disk = SmallDisk::mount(environment.state_directory(), DISK_BYTES);
    fill(&Update::next(&environment), &disk);
}

/// Between looking for room and writing, somebody else may have taken it.
#[test]
fn a_disk_that_fills_up_at_any_write_is_reported_and_the_next_run_completes() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let update = Update::next(&environment);
    let command = update.host.sync_command();
    let writes = strace.count_on_paths(&command, &["write", "mkdirat", "symlinkat", "renameat", "ftruncate"]);
    assert!(writes.len() > 12, "{writes:?}");
    for ((call, path), count) in writes {
        for when in if count > 1 { vec![1, count] } else { vec![1] } {
            update.restore();
            let what = format!("{call} {when} on {path}");
            let run = strace.fail_on_path(&command, &call, &path, &format!("{when}+"), "ENOSPC");
            if run.code != Some(0) {
                assert_says_full(&run, &what);
            }
            update.assert_recovers(&what);
        }
    }
}

#[test]
fn a_disk_that_does_not_make_data_durable_is_reported_and_nothing_is_taken_for_done() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let update = Update::next(&environment);
    let command = update.host.sync_command();
    let calls = strace.count_on_paths(&command, &["fsync", "fdatasync", "syncfs"]);
    assert!(calls.len() > 4, "{calls:?}");
    for ((call, path), count) in calls {
        for when in 1..=count {
            update.restore();
            let what = format!("{call} {when} on {path}");
            // It fails once: a program that tries again would be told that all is well, of data that is lost.
            let run = strace.fail_on_path(&command, &call, &path, &when.to_string(), "EIO");
            assert_eq!(run.code, Some(1), "{what}: {run:?}");
            assert!(run.stderr.contains("Input/output error"), "{what}: {}", run.stderr);
            update.assert_recovers(&what);
        }
    }
}

#[test]
fn a_server_without_room_refuses_and_keeps_what_it_acknowledged() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let disk = SmallDisk::mount(environment.path("realm"), 4 * DISK_BYTES);
    // What `init` makes has to be its first: the directory may not be there. What is prepared in the background takes
    // room at a time of its own.
    let mut host = Host::with_settings(&environment, NO_BUNDLES);
    environment.write("tree/kept", "kept\n");
    host.publish().success();
    let mut refused = 0;
    for (round, pages) in (0..).step_by(3).enumerate() {
        environment.write("tree/round", format!("{round}\n"));
        environment.write("tree/large", noise(&format!("{round}"), 60_000));
        disk.leave(pages * PAGE_BYTES);
        let run = host.publish();
        disk.make_room();
        let is_published = run.code == Some(0);
        if !is_published {
            refused += 1;
            assert_eq!(run.code, Some(5), "{pages} pages: {run:?}");
            assert!(run.stderr.contains("no room"), "{pages} pages: {}", run.stderr);
        }
        host.assert_sound();
        let url = |path: &str| host.realm.url(&format!("files/{}/main/{path}", Host::CHANNEL));
        get(&environment, &url("kept"), None).expect(200);
        if is_published {
            break;
        }
        if round % 4 == 0 {
            host = host.restart(drop);
        }
        // With room again the same server takes it.
        host.publish().success();
        let url = host.realm.url(&format!("files/{}/main/round", Host::CHANNEL));
        assert_eq!(get(&environment, &url, None).expect(200).text(), format!("{round}\n"));
    }
    assert!(refused > 2, "only {refused} publications were refused");
    assert!(fs::metadata(environment.path("realm/log/checkpoint")).is_ok());
}

#[test]
fn a_server_whose_disk_does_not_make_data_durable_acknowledges_nothing() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let mut host = Host::with_settings(&environment, NO_BUNDLES);
    environment.write("tree/kept", "kept\n");
    host.publish().success();
    let mut failed = 0;
    loop {
        environment.write("tree/round", format!("{failed}\n"));
        environment.write("tree/large", noise(&format!("{failed}"), 60_000));
        let process = host.realm.server().process();
        let attached = strace.attach(process, "fsync", &(failed + 1).to_string(), "error=EIO");
        let run = host.publish();
        drop(attached);
        if run.code == Some(0) {
            break;
        }
        failed += 1;
        run.expect_code(5).stderr_contains("the server failed; its log says how");
        let log = host.realm.server().log();
        assert!(log.contains("Input/output error") || log.contains("disk I/O error"), "{log}");
        // As after a power cut, nothing that the failed call left in memory counts.
        host = host.restart(drop);
        host.assert_sound();
        host.publish().success();
    }
    assert!(failed > 5, "only {failed} publications failed");
    host.assert_sound();
}
