//! rsync from a daemon on loopback: `rsync -a --delete rsync://HOST/tree/ TARGET`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bench::Bench;
use crate::daemon::{Daemon, free_port};

/// A daemon that serves one tree, read-only and without a change of root.
pub(crate) fn serve(bench: &Bench, tree: &Path) -> Result<Daemon> {
    let port = free_port()?;
    let configuration = bench.environment.path(&format!("rsyncd-{port}.conf"));
    let text = format!(
        "use chroot = no\nuid = {}\ngid = {}\n[tree]\npath = {}\nread only = yes\n",
        nix::unistd::getuid(),
        nix::unistd::getgid(),
        tree.display()
    );
    fs::write(&configuration, text).with_context(|| format!("writing {}", configuration.display()))?;
    let mut command = bench.environment.command("rsync");
    command.args(["--daemon", "--no-detach", "--address=127.0.0.1"]);
    command.arg(format!("--port={port}")).arg(format!("--config={}", configuration.display()));
    Daemon::start(bench, &command, port)
}

/// The command that makes `target` what the daemon at `address` serves.
pub(crate) fn sync(bench: &Bench, address: &str, target: &Path) -> Command {
    let mut command = bench.environment.command("rsync");
    command.args(["--archive", "--delete"]).arg(format!("rsync://{address}/tree/")).arg(target);
    command
}

/// The same, compressed on the wire.
pub(crate) fn sync_compressed(bench: &Bench, address: &str, target: &Path) -> Command {
    let mut command = sync(bench, address, target);
    command.arg("--compress");
    command
}
