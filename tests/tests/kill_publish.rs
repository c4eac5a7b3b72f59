//! SIGKILL at every step of a publication over the network: of the client that sends, and of the server that receives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use smart_sync_tests::http::get;
use smart_sync_tests::noise::noise;
use smart_sync_tests::program::Running;
use smart_sync_tests::strace::{KILL, points};
use smart_sync_tests::{Finished, Host, Snapshot, Strace, TestEnvironment};

/// The calls that change files, make them durable, or send something.
const CALLS: [&str; 10] =
    ["write", "writev", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "mkdir", "ftruncate", "flock"];

/// How many kills there are for a kind of call: a publication has fewer of most.
const POINTS_MAX: u32 = 16;

/// A host that publishes a changed tree again and again.
struct Publications<'environment> {
    host: Host<'environment>,
    round: u32,
    /// Rounds whose publication was acknowledged.
    acknowledged: Vec<u32>,
}

impl<'environment> Publications<'environment> {
    fn new(environment: &'environment TestEnvironment) -> Self {
        // What is killed is the publication: bundles are made at a time of their own.
        let host = Host::with_settings(environment, "[bundles]\nenabled = false\n");
        for file in 0..5 {
            environment.write(&format!("tree/d/{file}"), format!("file {file}\n"));
        }
        let mut publications = Self { host, round: 0, acknowledged: Vec::new() };
        // With the first one there is all that a publisher keeps; the second has nothing to make for the first time.
        for _ in 0..2 {
            publications.change();
            publications.publish().success();
        }
        publications
    }

    /// Makes a tree that was never published, with a content that is sent as a piece of its own.
    fn change(&mut self) {
        self.round += 1;
        let environment = self.host.environment();
        environment.write("tree/round", format!("{}\n", self.round));
        environment.write("tree/large", noise(&format!("large {}", self.round), 100_000));
    }

    fn publish(&mut self) -> Finished {
        let finished = self.host.publish();
        if finished.code == Some(0) {
            self.acknowledged.push(self.round);
        }
        finished
    }

    /// Publishes; a publisher whose server is gone would try again for half a minute, and is killed. Returns whether
    /// the publication was acknowledged.
    fn publish_while_the_server_lives(&mut self) -> bool {
        let mut command = self.host.publish_command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut publisher = command.spawn().expect("starting the client");
        let is_acknowledged = loop {
            if let Some(status) = publisher.try_wait().expect("looking at the client") {
                break status.success();
            }
            if !self.host.realm.server().is_alive() {
                // It may have ended in between.
                let _ = publisher.kill();
                break publisher.wait().expect("waiting for the client").success();
            }
            std::thread::yield_now();
        };
        if is_acknowledged {
            self.acknowledged.push(self.round);
        }
        is_acknowledged
    }

    /// Publishes what may have been published already, and sees it served.
    fn assert_completes(&mut self, what: &str) {
        let finished = self.publish();
        assert_eq!(finished.code, Some(0), "{what}: {finished:?}");
        let url = self.host.realm.url(&format!("files/{}/main/round", Host::CHANNEL));
        let served = get(self.host.environment(), &url, None).expect(200).text();
        assert_eq!(served, format!("{}\n", self.round), "{what}");
    }

    /// Fails the test unless the store and the log are whole, and every publication that was acknowledged is there.
    fn assert_sound(&self) {
        self.host.assert_sound();
        let rounds: BTreeSet<u32> = self.acknowledged.iter().copied().collect();
        let server = self.host.realm.server().url();
        let arguments = ["log", "--channel", Host::CHANNEL, "-n", "1000", "--server", server];
        let shown = self.host.environment().run_client(arguments).success().stdout;
        // Each round is another tree, so that it is published once, acknowledged or not.
        assert!(
            shown.lines().count() >= rounds.len(),
            "{} of {} are in:\n{shown}",
            shown.lines().count(),
            rounds.len()
        );
    }
}

/// The temporary files below a directory. Half a pack is not among them: it is removed by `gc` when it is old.
fn temporary(directory: &Path) -> Vec<PathBuf> {
    let is_temporary = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.contains("tmp") || name.contains("new")
    };
    Snapshot::of(directory).nodes().keys().filter(|path| is_temporary(path)).cloned().collect()
}

#[test]
fn a_publisher_that_is_killed_at_any_step_leaves_nothing_and_the_next_run_publishes() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let mut publications = Publications::new(&environment);
    publications.change();
    let counts = strace.count(&publications.host.publish_command(), &CALLS);
    let mut kills = 0;
    for (call, count) in counts {
        for when in points(count, POINTS_MAX) {
            publications.change();
            let run = strace.run(&publications.host.publish_command(), &call, &when.to_string(), KILL);
            kills += u32::from(run.code.is_none());
            publications.assert_completes(&format!("killed at {call} {when}"));
        }
        publications.assert_sound();
    }
    assert!(kills >= 20, "only {kills} runs were killed");
    assert_eq!(temporary(&environment.state_directory()), Vec::<PathBuf>::new());
    assert_eq!(temporary(publications.host.realm.data()), Vec::<PathBuf>::new());
}

#[test]
fn a_server_that_is_killed_at_any_step_of_a_publication_keeps_what_it_acknowledged() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let mut publications = Publications::new(&environment);
    let mut kills = 0;
    for call in CALLS {
        let mut when = 1;
        loop {
            publications.change();
            let attached =
                strace.attach(publications.host.realm.server().process(), call, &when.to_string(), KILL);
            let is_acknowledged = publications.publish_while_the_server_lives();
            drop(attached);
            if publications.host.realm.server().answers() {
                assert!(is_acknowledged, "the server lives, and nothing was published: {call} {when}");
                break;
            }
            publications.host.realm.wait_until_dead();
            kills += 1;
            publications.host = publications.host.restart(drop);
            publications.assert_completes(&format!("server killed at {call} {when}"));
            publications.assert_sound();
            when += 1 + when / 10;
        }
    }
    assert!(kills >= 20, "the server was only killed {kills} times");
    assert_eq!(temporary(publications.host.realm.data()), Vec::<PathBuf>::new());
}

#[test]
fn a_publisher_goes_on_when_its_server_has_come_back() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let mut publications = Publications::new(&environment);
    publications.change();
    let attached = strace.attach(publications.host.realm.server().process(), "rename", "1", KILL);
    let running = Running::start(&mut publications.host.publish_command());
    publications.host.realm.wait_until_dead();
    drop(attached);
    publications.host = publications.host.restart_at_its_address();
    running.wait().success().stderr_contains("trying again");
    publications.acknowledged.push(publications.round);
    publications.assert_completes("restarted");
    publications.assert_sound();
}
