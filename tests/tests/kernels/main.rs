//! Kernels: published by a build host, listed, given states, pulled by hosts, and served to stock clients.

mod failing;
mod hosts;
mod serving;

use std::path::Path;
use std::process::Command;

use smart_sync_tests::http::Answer;
use smart_sync_tests::{Finished, PublishingHost, TestEnvironment, kernel_files, program};

/// The channel.
const CHANNEL: &str = "repos/kernels";

/// A server of kernels, and a host that may publish to it.
struct Scene<'environment> {
    host: PublishingHost<'environment>,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment) -> Self {
        Self { host: PublishingHost::new(environment) }
    }

    fn environment(&self) -> &'environment TestEnvironment {
        self.host.environment
    }

    /// `smart-sync kernel` with these arguments, the channel, and all that it takes to publish.
    fn publishing(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment().client();
        command.arg("kernel").args(arguments).args(["--channel", CHANNEL, "--key"]);
        command.arg(self.host.realm.key("publish")).env("SMART_SYNC_TOKEN", self.host.realm.token());
        command
    }

    fn kernel(&self, arguments: &[&str]) -> Finished {
        let mut command = self.environment().client();
        command.arg("kernel").args(arguments).args(["--channel", CHANNEL]);
        program::run(&mut command)
    }

    /// Publishes a kernel that was installed into a directory.
    fn publish(&self, release: &str) -> Finished {
        let directory = format!("built/{release}");
        kernel_files::install(self.environment(), &directory, release);
        self.publish_directory(&self.environment().path(&directory))
    }

    fn publish_directory(&self, directory: &Path) -> Finished {
        program::run(&mut self.publishing(&["publish", directory.to_str().expect("it is text")]))
    }

    fn put(&self, state: &str, versions: &[&str]) -> Finished {
        program::run(&mut self.publishing(&[&[state], versions].concat()))
    }

    /// The versions and their states, the newest first.
    #[track_caller]
    fn listed(&self, arguments: &[&str]) -> String {
        let shown = self.kernel(&[&["list"], arguments].concat()).success().stdout;
        let words = shown.lines().map(|line| {
            let mut words = line.split_whitespace();
            format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default())
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn get(&self, path: &str) -> Answer {
        self.host.get(&format!("{CHANNEL}/{path}"))
    }

    /// The image that a ref of the channel holds.
    #[track_caller]
    fn image_of(&self, reference: &str) -> Vec<u8> {
        self.host.get(&format!("files/{CHANNEL}/{reference}/vmlinuz")).expect(200).body
    }
}
