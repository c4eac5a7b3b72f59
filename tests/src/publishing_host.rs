//! A host that trusts a realm and may publish to it, as its users do it: with the client.

use std::process::Command;

use crate::environment::TestEnvironment;
use crate::http::{Answer, get};
use crate::program::{self, Finished};
use crate::server::Realm;

/// A realm, and a host that trusts it and may publish.
#[derive(Debug)]
pub struct PublishingHost<'environment> {
    /// The machine.
    pub environment: &'environment TestEnvironment,
    /// The realm.
    pub realm: Realm,
}

impl<'environment> PublishingHost<'environment> {
    /// Starts a server for a new realm.
    pub fn new(environment: &'environment TestEnvironment) -> Self {
        let realm = Realm::start(environment, "realm");
        let arguments = ["trust", "add", realm.server().url(), "--root", realm.fingerprint()];
        environment.run_client(arguments).success();
        Self { environment, realm }
    }

    /// `smart-sync publish` with these arguments, the key and the token.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.client();
        command.arg("publish").args(arguments).arg("--key").arg(self.realm.key("publish"));
        command.env("SMART_SYNC_TOKEN", self.realm.token());
        command
    }

    /// Runs it.
    pub fn publish(&self, arguments: &[&str]) -> Finished {
        program::run(&mut self.command(arguments))
    }

    /// A file as a stock client gets it, by its channel, ref and path.
    #[track_caller]
    pub fn file(&self, path: &str) -> String {
        self.get(&format!("files/{path}")).expect(200).text()
    }

    /// What the server answers for a path.
    pub fn get(&self, path: &str) -> Answer {
        get(self.environment, &self.realm.url(path), None)
    }

    /// Fails unless the log and the store are sound.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.realm.run(self.environment, &["log", "audit"]).success();
        self.realm.run(self.environment, &["check"]).success();
    }
}
