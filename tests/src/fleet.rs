//! Several hosts behind a stand-in for ssh: each has a target, a state directory and a configuration of its own, and
//! the real program runs on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::TestEnvironment;
use crate::host::Host;
use crate::program::{self, Finished};

/// What takes the place of ssh. It notes its arguments, and runs the last of them in a shell, with the state and the
/// configuration of the host that is the one before. A host may have a file `ssh` that is run first, for what is to go
/// wrong.
const SSH: &str = r#"#!/bin/sh
for line in "$@"; do host=$destination destination=$line; done
host=${host##*@}
printf '%s\n' "$*" >> "FLEET/asked"
printf '%s\n' "$host" >> "FLEET/order"
[ -d "FLEET/$host" ] || { echo "ssh: Could not resolve hostname $host" >&2; exit 255; }
export SMART_SYNC_CONFIG="FLEET/$host/config.toml" SMART_SYNC_STATE_DIR="FLEET/$host/state" HOST_DIRECTORY="FLEET/$host"
if [ -e "FLEET/$host/ssh" ]; then . "FLEET/$host/ssh"; fi
exec env PATH="FLEET/$host/bin:$PATH" sh -c "$line"
"#;

/// Hosts that follow a channel, and the machine from which they are reached.
#[derive(Debug)]
pub struct Fleet<'environment> {
    /// The realm, and what is published.
    pub host: Host<'environment>,
    directory: PathBuf,
}

impl<'environment> Fleet<'environment> {
    /// A realm, and hosts of these names that trust it.
    pub fn new(environment: &'environment TestEnvironment, names: &[&str]) -> Self {
        let host = Host::new(environment);
        let directory = environment.path("fleet");
        let text = SSH.replace("FLEET", directory.to_str().expect("paths of the tests are text"));
        let ssh = environment.write("fleet/bin/ssh", text);
        fs::set_permissions(ssh, fs::Permissions::from_mode(0o755))
            .expect("the files of the test are its own");
        let fleet = Self { host, directory };
        for name in names {
            fleet.add(name);
        }
        fleet
    }

    fn add(&self, name: &str) {
        let environment = self.host.environment();
        let bin = self.path(name, "bin");
        fs::create_dir_all(&bin).expect("a directory can be made");
        std::os::unix::fs::symlink(program::built("smart-sync"), bin.join("smart-sync"))
            .expect("a link can be made");
        self.configure(name, "");
        let mut trust = environment.client();
        trust.env("SMART_SYNC_STATE_DIR", self.path(name, "state"));
        let realm = &self.host.realm;
        program::run(trust.args(["trust", "add", realm.server().url(), "--root", realm.fingerprint()]))
            .success();
    }

    /// A path of a host.
    pub fn path(&self, name: &str, below: &str) -> PathBuf {
        self.directory.join(name).join(below)
    }

    /// The target of a host, which keeps its versions.
    pub fn target(&self, name: &str) -> PathBuf {
        self.path(name, "site")
    }

    /// Writes the configuration of a host. `[[run]]` and `[[check]]` are those of its target.
    pub fn configure(&self, name: &str, text: &str) {
        let table = format!("targets.\"{}\"", self.target(name).display());
        let text = text.replace("[[run]]", &format!("[[{table}.run]]"));
        let text = text.replace("[[check]]", &format!("[[{table}.check]]"));
        let channel = format!("channel = \"{}\"\nkind = \"generations\"", Host::CHANNEL);
        self.write(name, "config.toml", &format!("[{table}]\n{channel}\n{text}"));
    }

    /// Writes a file of a host.
    pub fn write(&self, name: &str, below: &str, text: &str) {
        let path = self.path(name, below);
        fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("a directory can be made");
        fs::write(&path, text).expect("a file can be written");
    }

    /// Publishes a version.
    pub fn publish(&self, version: &str) {
        self.host.environment().write("tree/version", version);
        self.host.publish().success();
    }

    /// The version that readers on a host see.
    pub fn version(&self, name: &str) -> String {
        fs::read_to_string(self.target(name).join("current/version")).unwrap_or_default()
    }

    /// A command on the machine from which the hosts are reached.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.environment().client();
        command.env("PATH", search_path(&self.directory.join("bin"))).args(words);
        command
    }

    /// `smart-sync deploy`.
    pub fn deploy(&self, words: &[&str]) -> Finished {
        let words: Vec<&str> = ["deploy"].iter().chain(words).copied().collect();
        program::run(&mut self.command(&words))
    }

    /// The hosts that were reached for since this was asked before, in their order.
    pub fn order(&self) -> Vec<String> {
        let path = self.directory.join("order");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// The command lines of ssh since this was asked before.
    pub fn asked(&self) -> Vec<String> {
        let path = self.directory.join("asked");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(ToOwned::to_owned).collect()
    }
}

/// The search path with a directory in front.
fn search_path(first: &Path) -> String {
    let rest = std::env::var("PATH").unwrap_or_default();
    format!("{}:{rest}", first.display())
}
