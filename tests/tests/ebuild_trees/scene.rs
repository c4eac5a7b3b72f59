//! A server that gives out trees by git and by rsync.

use std::path::PathBuf;
use std::process::Command;

use smart_sync_tests::server::create_token;
use smart_sync_tests::{Finished, Realm, TestEnvironment, program};

/// What `server.toml` says.
pub(crate) const SETTINGS: &str = "\
[git]
channels = [\"repos/gentoo\"]
[rsync]
listen = [\"127.0.0.1:0\"]
[rsync.modules]
gentoo-portage = \"repos/gentoo\"
";

/// A realm, and a tree that is published there.
pub(crate) struct Scene<'environment> {
    pub(crate) environment: &'environment TestEnvironment,
    pub(crate) realm: Realm,
}

impl<'environment> Scene<'environment> {
    pub(crate) fn new(environment: &'environment TestEnvironment) -> Self {
        Self::with(environment, SETTINGS, &[])
    }

    pub(crate) fn with(
        environment: &'environment TestEnvironment,
        settings: &str,
        arguments: &[&str],
    ) -> Self {
        let realm = Realm::start_with(environment, "realm", settings, arguments);
        let scene = Self { environment, realm };
        scene.write("metadata/timestamp.chk", "Mon, 30 Nov 2026 10:00:00 +0000\n");
        scene.write("profiles/repo_name", "gentoo\n");
        scene.write("app-test/hello/hello-1.ebuild", "EAPI=8\n");
        scene
    }

    /// Writes a file of the tree.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        self.environment.write(&format!("tree/{path}"), content);
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.environment.path("tree")
    }

    /// Publishes the tree.
    #[track_caller]
    pub(crate) fn publish(&self) {
        self.publish_to("repos/gentoo");
    }

    #[track_caller]
    pub(crate) fn publish_to(&self, channel: &str) {
        let options = ["--exclude", ""];
        self.realm.publish_local(self.environment, channel, "main", &self.tree(), &options).success();
    }

    /// Stops the server, does something, and serves again.
    #[must_use]
    pub(crate) fn restart_after(self, between: impl FnOnce()) -> Self {
        let Self { environment, realm } = self;
        let realm = realm.restart(environment, |server| {
            server.stop();
            between();
        });
        Self { environment, realm }
    }

    /// The URL of a channel's repository.
    pub(crate) fn repository(&self, channel: &str) -> String {
        self.realm.url(&format!("git/{channel}"))
    }

    /// The same with a token for it.
    pub(crate) fn repository_with_token(&self, channel: &str) -> String {
        let token = create_token(self.environment, self.realm.data(), "read", channel);
        self.repository(channel).replace("http://", &format!("http://git:{token}@"))
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> Finished {
        program::run(self.environment.command("git").args(arguments))
    }

    /// `rsync://127.0.0.1:PORT/gentoo-portage/`
    pub(crate) fn module(&self) -> String {
        format!("rsync://{}/gentoo-portage/", self.rsync_address())
    }

    /// Where rsync is answered.
    pub(crate) fn rsync_address(&self) -> String {
        let log = self.realm.server().log();
        let rest = log.split_once("rsync is answered on rsync://").expect("the server says where").1;
        rest.split_whitespace().next().expect("an address").to_owned()
    }

    /// Waits until rsync gives out this number of the channel.
    pub(crate) fn wait_for_rsync(&self, number: u64) {
        let text = format!("generation={number}-");
        while !self.realm.server().log().contains(&text) {
            assert!(self.realm.server().is_alive(), "{}", self.realm.server().log());
            std::thread::yield_now();
        }
    }

    pub(crate) fn rsync(&self, arguments: &[&str]) -> Finished {
        program::run(&mut self.rsync_command(arguments))
    }

    pub(crate) fn rsync_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.command("rsync");
        command.args(arguments);
        command
    }
}
