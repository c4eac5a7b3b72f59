//! restic: `restic backup` into a local repository of format 2, which compresses (`auto`) and encrypts.

use std::path::Path;
use std::process::Command;

use crate::bench::Bench;

/// The command that makes a repository.
pub(crate) fn init(bench: &Bench, repository: &Path) -> Command {
    let mut command = restic(bench, repository);
    command.args(["init", "--repository-version=2"]);
    command
}

/// The command that backs a tree up.
pub(crate) fn backup(bench: &Bench, repository: &Path, tree: &Path) -> Command {
    let mut command = restic(bench, repository);
    command.args(["backup", "--host=bench", "."]).current_dir(tree);
    command
}

/// The command that restores the newest snapshot.
pub(crate) fn restore(bench: &Bench, repository: &Path, target: &Path) -> Command {
    let mut command = restic(bench, repository);
    command.args(["restore", "latest", "--target"]).arg(target);
    command
}

fn restic(bench: &Bench, repository: &Path) -> Command {
    let mut command = bench.environment.command("restic");
    command.arg("--quiet").arg("--repo").arg(repository).env("RESTIC_PASSWORD", "bench");
    command
}
