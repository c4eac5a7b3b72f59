//! A server that gives out trees by git.

use std::path::PathBuf;

use smart_sync_tests::server::create_token;
use smart_sync_tests::{Finished, Realm, TestEnvironment, program};

/// What `server.toml` says.
pub(crate) const SETTINGS: &str = "\
[git]
channels = [\"repos/gentoo\"]
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

    pub(crate) fn rsync(&self, arguments: &[&str]) -> Finished {
        program::run(self.environment.command("rsync").args(arguments))
    }
}
