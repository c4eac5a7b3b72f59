//! ostree: `ostree commit` into a repository, pulled over HTTP into a `bare-user` repository and checked out.
//!
//! `archive` compresses each object with zlib and is what is served; `bare-user` compresses nothing. Signatures are
//! off, which spares ostree work that ours does.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::{Bench, prepare};

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

/// The command that writes the static delta from the commit before to the newest one into a file, with everything in
/// it: by default files of 4 MB and more are fetched apart from it.
pub(crate) fn write_delta(bench: &Bench, repository: &Path, file: &Path) -> Command {
    let mut command = ostree(bench, repository, &["static-delta", "generate"]);
    command.args(["--inline", "--min-fallback-size=0", "--from=bench^", "--to=bench"]);
    command.arg(format!("--filename={}", file.display()));
    command
}

/// The command that applies such a file.
pub(crate) fn apply_delta(bench: &Bench, repository: &Path, file: &Path) -> Command {
    let mut command = ostree(bench, repository, &["static-delta", "apply-offline"]);
    command.arg(file);
    command
}

/// The id of the newest commit of the branch `bench`.
pub(crate) fn newest(bench: &Bench, repository: &Path) -> Result<String> {
    let id = prepare(ostree(bench, repository, &["rev-parse"]).arg("bench"))?;
    Ok(id.trim().to_owned())
}

/// The command that copies a commit from a repository on this machine.
pub(crate) fn pull_local(bench: &Bench, repository: &Path, from: &Path, commit: &str) -> Command {
    let mut command = ostree(bench, repository, &["pull-local"]);
    command.arg(from).arg(commit);
    command
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

/// The command that checks the branch `bench` out into a directory that is not there yet, as names of the files of the
/// repository.
pub(crate) fn checkout_linked(bench: &Bench, repository: &Path, target: &Path) -> Command {
    let mut command = ostree(bench, repository, &["checkout"]);
    command.args(["--user-mode", "--require-hardlinks", "bench"]).arg(target);
    command
}

fn ostree(bench: &Bench, repository: &Path, verb: &[&str]) -> Command {
    let mut command = bench.environment.command("ostree");
    command.args(verb).arg("--repo").arg(repository);
    command
}
