//! git: a repository served by `git daemon`, cloned and then brought up to date with `git pull`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::{Bench, prepare};
use crate::daemon::{Daemon, free_port};

/// Records a tree in the repository `BASE/tree.git`, which is made when it is not there.
pub(crate) fn commit(bench: &Bench, base: &Path, tree: &Path) -> Result<()> {
    let repository = base.join("tree.git");
    let git = || {
        let mut command = bench.environment.command("git");
        command.arg("--git-dir").arg(&repository).arg("--work-tree").arg(tree).current_dir(tree);
        command
    };
    if !repository.exists() {
        prepare(bench.environment.command("git").args(["init", "--quiet", "--bare"]).arg(&repository))?;
        keep_bytes(&repository)?;
    }
    // Contents go straight into a pack: a file for each of 200,000 objects takes minutes to write and to remove.
    prepare(git().args(["-c", "core.bigFileThreshold=1", "add", "--all", "--force"]))?;
    prepare(git().args(["commit", "--quiet", "--allow-empty", "--message=update"]))?;
    // A server keeps its repositories packed: what is sent is then found without packing anew.
    prepare(git().args(["repack", "-adq"]))?;
    Ok(())
}

/// Makes git store and check out files as they are, whatever attributes a tree of sources brings.
pub(crate) fn keep_bytes(git_directory: &Path) -> Result<()> {
    fs::create_dir_all(git_directory.join("info"))?;
    fs::write(git_directory.join("info/attributes"), "* -text -filter -ident -export-subst\n")?;
    Ok(())
}

/// A daemon that serves everything below a directory.
pub(crate) fn serve(bench: &Bench, base: &Path) -> Result<Daemon> {
    let port = free_port()?;
    let mut command = bench.environment.command("git");
    command.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
    command.arg(format!("--port={port}")).arg(format!("--base-path={}", base.display()));
    Daemon::start(bench, &command, port)
}

/// The command that clones the newest commit.
pub(crate) fn clone(bench: &Bench, address: &str, target: &Path) -> Command {
    let mut command = bench.environment.command("git");
    command.args(["clone", "--quiet"]).arg(format!("git://{address}/tree.git")).arg(target);
    command
}

/// The command that brings a clone up to date.
pub(crate) fn pull(bench: &Bench, target: &Path) -> Command {
    let mut command = bench.environment.command("git");
    command.args(["pull", "--quiet", "--ff-only"]).current_dir(target);
    command
}

/// The command that clones the newest commit alone.
pub(crate) fn clone_shallow(bench: &Bench, address: &str, target: &Path) -> Command {
    let mut command = bench.environment.command("git");
    command.args(["clone", "--quiet", "--no-checkout", "--depth=1"]);
    command.arg(format!("git://{address}/tree.git")).arg(target);
    command
}

/// The command that fetches the newest commit alone.
pub(crate) fn fetch_shallow(bench: &Bench, target: &Path) -> Command {
    let mut command = bench.environment.command("git");
    command.args(["fetch", "--quiet", "--depth=1", "origin", "HEAD"]).current_dir(target);
    command
}

/// The command that checks out what was fetched, or another commit.
pub(crate) fn reset(bench: &Bench, target: &Path, commit: &str) -> Command {
    let mut command = bench.environment.command("git");
    command.args(["reset", "--quiet", "--hard", commit]).current_dir(target);
    command
}
