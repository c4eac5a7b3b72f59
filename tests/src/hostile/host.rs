//! A host that follows servers, and what it must not lose.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use smart_sync_sync::testing::{CHANNEL, ORIGIN, TestRealm};
use smart_sync_sync::trust::TrustState;

use super::HostileServer;
use crate::environment::TestEnvironment;
use crate::program::{self, Finished};
use crate::skip::skipped;
use crate::snapshot::{Node, Snapshot};

/// The most memory that the client may take, in KiB: a bound on everything that a server makes it hold.
const MEMORY_KIB_MAX: u32 = 384 << 10;

/// The addresses that a host asks, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers(pub Vec<String>);

impl From<&HostileServer> for Servers {
    fn from(server: &HostileServer) -> Self {
        Self(vec![server.url()])
    }
}

/// A machine that follows a channel of a realm.
pub struct Host {
    environment: TestEnvironment,
    servers: Servers,
    /// When its clock begins in each run, where that is not the real time.
    clock: Option<&'static str>,
}

/// What a refusal must leave as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    target: BTreeMap<PathBuf, Node>,
    trust: BTreeMap<PathBuf, Node>,
}

impl Kept {
    /// Whether there is nothing to lose yet.
    pub fn is_empty(&self) -> bool {
        self.target.is_empty() && self.trust.is_empty()
    }

    /// Whether the target is the same, whatever became of trust.
    pub fn has_same_target(&self, other: &Self) -> bool {
        self.target == other.target
    }
}

impl Host {
    /// A machine that was given the hash of the realm's first root document.
    pub fn new(servers: impl Into<Servers>) -> Self {
        Self::trusting(&TestRealm::with_root(super::lasting).pinned(), servers)
    }

    /// A machine with this trust.
    pub fn trusting(state: &TrustState, servers: impl Into<Servers>) -> Self {
        let host = Self::stranger(servers);
        host.set_trust(&state.to_text());
        host
    }

    /// A machine that trusts nobody yet.
    pub fn stranger(servers: impl Into<Servers>) -> Self {
        let host = Self { environment: TestEnvironment::new(), servers: servers.into(), clock: None };
        // Proofs of any age will do: those of the tests are from 2020.
        host.configure("max-age = \"40000d\"", "");
        host
    }

    /// Replaces the settings: lines for the realm, and lines for the network.
    pub fn configure(&self, realm: &str, network: &str) {
        let servers: Vec<String> = self.servers.0.iter().map(|url| format!("{url:?}")).collect();
        let mut text = format!("[realms.{ORIGIN:?}]\nservers = [{}]\n{realm}\n", servers.join(", "));
        let _ = write!(text, "[network]\n{network}\n");
        self.environment.write("etc/config.toml", text);
    }

    /// Replaces what is believed.
    pub fn set_trust(&self, state: &str) {
        let trust = self.environment.state_directory().join("trust");
        let directory = trust.join(ORIGIN);
        fs::create_dir_all(&directory).expect("making the state directory");
        for directory in [&self.environment.state_directory(), &trust, &directory] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).expect("closing it");
        }
        fs::write(directory.join("state"), state).expect("writing the trust state");
    }

    /// Sets the clock of the machine: each run begins at this time, such as `1970-01-01 00:10:00`. Returns whether
    /// that can be done; where it cannot, the test is skipped.
    pub fn set_clock(&mut self, time: &'static str) -> bool {
        let is_there = self.environment.command("faketime").arg("--version").output().is_ok();
        if !is_there {
            skipped("faketime is not installed");
        }
        self.clock = Some(time);
        is_there
    }

    /// The machine.
    pub fn environment(&self) -> &TestEnvironment {
        &self.environment
    }

    /// What follows the channel.
    pub fn target(&self) -> PathBuf {
        self.environment.path("target")
    }

    /// Brings the target up to date.
    pub fn sync(&self) -> Finished {
        self.sync_with(&[])
    }

    /// Brings the target up to date, with more arguments.
    pub fn sync_with(&self, arguments: &[&str]) -> Finished {
        let target = self.target();
        let target = target.to_str().expect("paths of the tests are text");
        self.ask(&[&["--target", target][..], arguments].concat())
    }

    /// Runs the client about the channel.
    pub fn ask(&self, arguments: &[&str]) -> Finished {
        self.run(&[arguments, &["--channel", CHANNEL]].concat())
    }

    /// Runs the client, with a bound on its memory.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let client = self.environment.client();
        let mut command = self.environment.command("sh");
        let clock = self.clock.map_or_else(String::new, |time| format!("faketime -f '@{time}'"));
        command.args(["-c", &format!("ulimit -d {MEMORY_KIB_MAX} && exec {clock} \"$0\" \"$@\"")]);
        // The clock of the calendar alone is another one: what measures how long something takes is not set.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
        command.arg(client.get_program()).args(arguments);
        command.arg("--config").arg(self.environment.configuration_file());
        for (name, value) in client.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        // Each thread has a stack: their number shall not depend on the machine.
        command.env("RAYON_NUM_THREADS", "2").env("TOKIO_WORKER_THREADS", "2");
        program::run(&mut command)
    }

    /// What there is to lose.
    pub fn kept(&self) -> Kept {
        let trust = self.environment.state_directory().join("trust");
        let mut trust = nodes(&trust);
        // Directories and the file that is locked say nothing.
        trust.retain(|path, node| matches!(node, Node::File { .. }) && !path.ends_with("lock"));
        Kept { target: nodes(&self.target()), trust }
    }

    /// Runs a sync that has to end with this status and to change nothing of what there is to lose; returns what it
    /// said, without what differs from run to run.
    #[track_caller]
    pub fn refuses(&self, what: &str, code: i32) -> String {
        let before = self.kept();
        let finished = self.sync();
        assert_eq!(finished.code, Some(code), "{what}: {finished:?}");
        assert_eq!(self.kept(), before, "{what} changed something");
        assert_hint(what, &finished);
        self.said(what, &finished)
    }

    /// The same where what is believed may move, because the publication was signed by those who may: only the
    /// target has to stay.
    #[track_caller]
    pub fn keeps_target(&self, what: &str, code: i32) -> String {
        let before = self.kept();
        let finished = self.sync();
        assert_eq!(finished.code, Some(code), "{what}: {finished:?}");
        assert_eq!(self.kept().target, before.target, "{what} changed the target");
        assert_hint(what, &finished);
        self.said(what, &finished)
    }

    /// A headline and what was said on standard error, without what differs from run to run.
    pub fn said(&self, what: &str, finished: &Finished) -> String {
        let mut text = format!("{what}: exit {}\n", finished.code.unwrap_or(-1));
        for line in finished.stderr.lines() {
            let line = line.strip_prefix("[smart-sync ERROR] ").unwrap_or(line);
            let line = match line.split_once("this machine's time is ") {
                Some((before, _)) => &format!("{before}this machine's time is NOW"),
                None => line,
            };
            let _ = writeln!(text, "    {}", line.trim());
        }
        for (number, url) in self.servers.0.iter().enumerate() {
            text = text.replace(url, &format!("SERVER{}", number + 1));
        }
        text.replace(&self.environment.root().display().to_string(), "ROOT")
    }
}

/// A refusal says what to do.
#[track_caller]
fn assert_hint(what: &str, finished: &Finished) {
    assert!(finished.stderr.contains("  hint: "), "{what}: {}", finished.stderr);
}

/// What is there, without what waits to be used by the next run.
fn nodes(directory: &Path) -> BTreeMap<PathBuf, Node> {
    let mut nodes =
        if directory.exists() { Snapshot::of(directory).nodes().clone() } else { BTreeMap::new() };
    nodes.retain(|path, _| !path.starts_with(".smart-sync-stage"));
    nodes
}
