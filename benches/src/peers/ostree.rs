//! ostree: `ostree commit` into a repository, pulled over HTTP into a `bare-user` repository and checked out.
//!
//! `archive` compresses each object with zlib and is what is served; `bare-user` compresses nothing. Signatures are
//! off, which spares ostree work that ours does.

use std::path::Path;
use std::process::Command;

use crate::bench::Bench;

/// The commands that make a repository; the mode is `archive` or `bare-user`.
pub(crate) fn init(bench: &Bench, repository: &Path, mode: &str) -> Command {
    let mut command = ostree(bench, repository, &["init"]);
    command.arg(format!("--mode={mode}"));
    command
}

/// The command that commits a tree to the branch `bench`.
pub(crate) fn commit(bench: &Bench, repository: &Path, tree: &Path) -> Command {
    let mut command = ostree(bench, repository, &["commit"]);
    command.args(["--branch=bench", "--no-xattrs", "--owner-uid=0", "--owner-gid=0"]);
    command.arg(format!("--tree=dir={}", tree.display()));
    command
}

/// The command that makes the static delta from the commit before to the newest one. No file is left to be fetched
/// apart from it, which by default those of 4 MB and more are.
pub(crate) fn generate_delta(bench: &Bench, repository: &Path) -> Command {
    let mut command = ostree(bench, repository, &["static-delta", "generate"]);
    command.args(["--min-fallback-size=0", "--from=bench^", "--to=bench"]);
    command
}

/// The command that tells clients which deltas there are.
pub(crate) fn update_summary(bench: &Bench, repository: &Path) -> Command {
    ostree(bench, repository, &["summary", "--update"])
}

/// The command that says where a repository pulls from.
pub(crate) fn add_remote(bench: &Bench, repository: &Path, url: &str) -> Command {
    let mut command = ostree(bench, repository, &["remote", "add"]);
    command.args(["--no-gpg-verify", "origin", url]);
    command
}

/// The command that pulls the branch `bench`.
pub(crate) fn pull(bench: &Bench, repository: &Path) -> Command {
    let mut command = ostree(bench, repository, &["pull"]);
    command.args(["origin", "bench"]);
    command
}

/// The command that checks `reference` out into a directory that is not there yet.
pub(crate) fn checkout(bench: &Bench, repository: &Path, reference: &str, target: &Path) -> Command {
    let mut command = ostree(bench, repository, &["checkout"]);
    command.args(["--user-mode", reference]).arg(target);
    command
}

fn ostree(bench: &Bench, repository: &Path, verb: &[&str]) -> Command {
    let mut command = bench.environment.command("ostree");
    command.args(verb).arg("--repo").arg(repository);
    command
}
