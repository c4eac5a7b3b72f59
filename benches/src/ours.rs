//! Our own programs: a realm of its own, served, published to and synced from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use smart_sync_tests::server::{create_token, initialise, serve};
use smart_sync_tests::{Server, http, program};

use crate::bench::{Bench, prepare};
use crate::daemon::{GroupUsage, group_usage};
use crate::measure::{Usage, measure};

const CHANNEL: &str = "repos/bench";
/// The channel of kernels.
const KERNELS: &str = "repos/kernels";
/// The host that publishes.
const PUBLISHER: &str = "publisher";

/// A line of the server's list of refs.
#[derive(Debug, Deserialize)]
struct Ref {
    #[serde(rename = "ref")]
    name: String,
    manifest: String,
}

/// A realm with a server that runs.
#[derive(Debug)]
pub(crate) struct Ours<'bench> {
    bench: &'bench Bench,
    data: PathBuf,
    fingerprint: String,
    token: String,
    server: Server,
}

impl<'bench> Ours<'bench> {
    /// Makes a realm and serves it. There is one at a time: what the one before left is removed.
    pub(crate) fn start(bench: &'bench Bench) -> Result<Self> {
        Self::start_with(bench, |settings| settings)
    }

    /// The same with a server that makes no bundles.
    pub(crate) fn start_without_bundles(bench: &'bench Bench) -> Result<Self> {
        Self::start_with(bench, |settings| {
            settings.replace("[bundles]\nenabled = true", "[bundles]\nenabled = false")
        })
    }

    /// The same with a server that takes as many requests from one address as it can answer, and writes no line for each.
    pub(crate) fn start_unlimited(bench: &'bench Bench) -> Result<Self> {
        let change = |settings: String| {
            settings
                .replace("requests-per-second = 500\n", "requests-per-second = 1000000\n")
                .replace("requests-burst = 5000\n", "requests-burst = 1000000\n")
        };
        Self::start_logging(bench, "info,smart_sync_server::http=warn", change)
    }

    fn start_with(bench: &'bench Bench, change: impl FnOnce(String) -> String) -> Result<Self> {
        Self::start_logging(bench, "info", change)
    }

    fn start_logging(
        bench: &'bench Bench,
        what: &str,
        change: impl FnOnce(String) -> String,
    ) -> Result<Self> {
        bench.scratch("ours/state")?;
        let data = bench.scratch("ours/data")?;
        let fingerprint = initialise(&bench.environment, &data, "bench.example");
        let settings = data.join("server.toml");
        fs::write(&settings, change(fs::read_to_string(&settings)?))?;
        let token = create_token(&bench.environment, &data, "publish", "repos/");
        let server = Server::start(serve(&bench.environment, &data).env("SMART_SYNC_LOG", what));
        let realm = Self { bench, data, fingerprint, token, server };
        realm.trust(PUBLISHER, realm.url())?;
        Ok(realm)
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.server.address()
    }

    /// The server's data.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// What the server has used so far.
    pub(crate) fn server_usage(&self) -> Result<GroupUsage> {
        group_usage(self.server.process())
    }

    /// The server's process.
    pub(crate) fn process(&self) -> u32 {
        self.server.process()
    }

    /// Stops the server and starts it again, so that what it used before is not counted.
    pub(crate) fn restart(self) -> Self {
        self.restart_timed().0
    }

    /// The same, and how long it took until the server said that it listens.
    pub(crate) fn restart_timed(self) -> (Self, Duration) {
        self.server.stop();
        let start = Instant::now();
        let server = Server::start(&mut serve(&self.bench.environment, &self.data));
        (Self { server, ..self }, start.elapsed())
    }

    /// Publishes a directory as `main`. The CPU time is the client's and the server's, the memory the client's.
    pub(crate) fn publish(&self, directory: &Path) -> Result<Usage> {
        self.publish_to(CHANNEL, directory)
    }

    /// Publishes a directory as `main` of another channel below `repos/`.
    pub(crate) fn publish_to(&self, channel: &str, directory: &Path) -> Result<Usage> {
        self.publish_kind(channel, "repo", directory).map(|[client, server]| both(client, server))
    }

    /// Publishes a directory as `main` of a channel of some kind: what the client used, and what the server did.
    pub(crate) fn publish_kind(&self, channel: &str, kind: &str, directory: &Path) -> Result<[Usage; 2]> {
        let before = self.server_usage()?;
        let key = self.data.join("keys/publish.key");
        let mut command = self.client(PUBLISHER);
        command.args(["publish", "--server", self.url(), "--channel", channel]);
        command.args(["--ref", "branch:main", "--kind", kind, "--exclude", "", "--key"]);
        command.arg(key).arg(directory);
        command.env("SMART_SYNC_TOKEN", &self.token);
        let client = measure(self.bench, &command)?;
        let after = self.server_usage()?;
        let cpu = after.cpu.saturating_sub(before.cpu);
        Ok([client, Usage { wall: client.wall, cpu, memory: after.memory }])
    }

    /// Publishes a directory as `main` into the data of the server, without the network.
    pub(crate) fn publish_local(&self, directory: &Path) -> Result<Usage> {
        let mut command = self.bench.environment.command(program::built("smart-sync-server"));
        command.args(["publish-local", "--data"]).arg(&self.data);
        command.args(["--channel", CHANNEL, "--ref", "branch:main"]).arg(directory);
        measure(self.bench, &command)
    }

    /// Makes a host trust the realm. `url` is the server's or that of a proxy in front of it.
    pub(crate) fn trust(&self, host: &str, url: &str) -> Result<()> {
        let mut command = self.client(host);
        command.args(["trust", "add", url, "--root", &self.fingerprint]);
        prepare(&mut command)?;
        Ok(())
    }

    /// The command that syncs a host's target.
    pub(crate) fn sync(&self, host: &str, url: &str, target: &Path) -> Command {
        self.sync_channel(host, url, CHANNEL, target)
    }

    /// The same for another channel. Nothing is excluded: what is compared is the whole tree.
    pub(crate) fn sync_channel(&self, host: &str, url: &str, channel: &str, target: &Path) -> Command {
        let mut command = self.client(host);
        let configuration = self.bench.environment.path("ours/state").join(format!("{host}.toml"));
        let text = format!("[targets.{:?}]\nexclude = []\n", target.display().to_string());
        fs::write(&configuration, text).expect("a configuration can be written");
        command.env("SMART_SYNC_CONFIG", configuration);
        command.args(["--server", url, "--channel", channel, "--ref", "main", "--target"]).arg(target);
        command
    }

    /// The same for a target that keeps its versions; what it says is for programs.
    pub(crate) fn sync_versions(&self, host: &str, kind: &str, target: &Path) -> Command {
        let mut command = self.sync(host, self.url(), target);
        let configuration = self.bench.environment.path("ours/state").join(format!("{host}.toml"));
        let text = format!("[targets.{:?}]\nexclude = []\nkeep = 100\n", target.display().to_string());
        fs::write(&configuration, text).expect("a configuration can be written");
        command.args(["--json", "--kind", kind]);
        command
    }

    /// The command by which a host follows `main` until it is ended; it says when it is told of something.
    pub(crate) fn watch(&self, host: &str, target: &Path) -> Command {
        let command = self.sync(host, self.url(), target);
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut watch = self.client(host);
        watch.envs(command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        watch.args(["--json", "--verbose", "watch", "--jitter", "0s", "--every", "1000d"]).args(words);
        watch
    }

    /// The command that takes such a target back to a version.
    pub(crate) fn rollback(&self, host: &str, target: &Path, generation: u64) -> Command {
        let mut command = self.client(host);
        let configuration = self.bench.environment.path("ours/state").join(format!("{host}.toml"));
        command.env("SMART_SYNC_CONFIG", configuration);
        command.args(["rollback", &generation.to_string(), "--target"]).arg(target);
        command
    }

    /// The command that lets it follow its ref again.
    pub(crate) fn resume(&self, host: &str, target: &Path) -> Command {
        let mut command = self.client(host);
        command.args(["resume", "--target"]).arg(target);
        command
    }

    /// Publishes a kernel that was installed into a directory.
    pub(crate) fn publish_kernel(&self, directory: &Path) -> Result<()> {
        let mut command = self.client(PUBLISHER);
        command.args(["kernel", "publish", "--server", self.url(), "--channel", KERNELS, "--key"]);
        command.arg(self.data.join("keys/publish.key")).arg(directory).env("SMART_SYNC_TOKEN", &self.token);
        prepare(&mut command).map(drop)
    }

    /// The command that brings a host's target to the newest kernel.
    pub(crate) fn pull_kernel(&self, host: &str, url: &str, target: &Path) -> Command {
        let mut command = self.client(host);
        command.args(["kernel", "pull", "--server", url, "--channel", KERNELS, "--target"]).arg(target);
        command
    }

    /// The id of the manifest that the newest kernel has.
    pub(crate) fn newest_kernel(&self) -> Result<String> {
        self.manifest_at(KERNELS, "branch:current")
    }

    /// The id of the manifest that `main` is now.
    pub(crate) fn manifest(&self) -> Result<String> {
        self.manifest_of(CHANNEL)
    }

    /// The same of another channel.
    pub(crate) fn manifest_of(&self, channel: &str) -> Result<String> {
        self.manifest_at(channel, "branch:main")
    }

    fn manifest_at(&self, channel: &str, reference: &str) -> Result<String> {
        let channel = channel.replace('/', "%2F");
        let answer = http::get(&self.bench.environment, &format!("{}/v1/refs/{channel}", self.url()), None);
        let refs: Vec<Ref> = serde_json::from_slice(&answer.body).context("reading the list of refs")?;
        let found = refs.iter().find(|found| found.name == reference);
        let manifest = &found.with_context(|| format!("{reference} is not published"))?.manifest;
        Ok(manifest.strip_prefix("blake3:").unwrap_or(manifest).to_owned())
    }

    /// The answer to HEAD.
    pub(crate) fn head(&self, path: &str) -> http::Answer {
        http::curl(&self.bench.environment, &format!("{}{path}", self.url()), ["--head"])
    }

    /// The path of the bundle of a step; `from` may be `none`.
    pub(crate) fn bundle_path(from: &str, to: &str) -> String {
        format!("/bundle/{from}/{to}")
    }

    /// The path of a file of `main` for stock clients.
    pub(crate) fn plain_path(file: &str) -> String {
        format!("/files/{CHANNEL}/main/{file}")
    }

    /// The client as it runs on one of several hosts, each with a state of its own.
    fn client(&self, host: &str) -> Command {
        let mut command = self.bench.environment.command(program::built("smart-sync"));
        let state = self.bench.environment.path("ours/state").join(host);
        command.env("SMART_SYNC_STATE_DIR", state);
        command
    }
}

/// What a publication cost: the CPU time of both programs, and the memory of the client.
fn both(client: Usage, server: Usage) -> Usage {
    Usage { cpu: client.cpu + server.cpu, ..client }
}
