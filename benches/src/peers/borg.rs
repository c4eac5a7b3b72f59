//! borg: `borg create` into a local repository without encryption, compressed with zstd.

use std::path::Path;
use std::process::Command;

use crate::bench::Bench;

/// The command that makes a repository.
pub(crate) fn init(bench: &Bench, repository: &Path) -> Command {
    let mut command = borg(bench);
    command.args(["init", "--encryption=none"]).arg(repository);
    command
}

/// The command that backs a tree up as `archive`.
pub(crate) fn create(bench: &Bench, repository: &Path, archive: &str, tree: &Path) -> Command {
    let mut command = borg(bench);
    command.args(["create", "--compression=zstd"]);
    command.arg(format!("{}::{archive}", repository.display())).arg(".").current_dir(tree);
    command
}

/// The command that extracts an archive into the directory where it runs.
pub(crate) fn extract(bench: &Bench, repository: &Path, archive: &str, target: &Path) -> Command {
    let mut command = borg(bench);
    command.arg("extract").arg(format!("{}::{archive}", repository.display())).current_dir(target);
    command
}

fn borg(bench: &Bench) -> Command {
    let mut command = bench.environment.command("borg");
    command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
    command
}
