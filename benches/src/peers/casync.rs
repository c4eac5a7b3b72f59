//! casync: `casync make --with=unix`, its own default compression (zstd), extracted over HTTP.

use std::path::Path;
use std::process::Command;

use crate::bench::Bench;

/// The command that writes a tree's index and chunks below `repository`.
pub(crate) fn make(bench: &Bench, repository: &Path, tree: &Path) -> Command {
    let mut command = bench.environment.command("casync");
    command.args(["--with=unix", "make"]);
    command.arg(format!("--store={}", repository.join("default.castr").display()));
    command.arg(repository.join("tree.caidx")).arg(tree);
    command
}

/// The command that makes `target` what the index at `url` says. A target that is there serves as a seed.
pub(crate) fn extract(bench: &Bench, url: &str, target: &Path) -> Command {
    let mut command = bench.environment.command("casync");
    command.args(["--with=unix", "--delete=yes", "--seed-output=yes", "extract"]);
    command.arg(format!("--store={url}/default.castr")).arg(format!("{url}/tree.caidx")).arg(target);
    command
}

/// The command that makes `target`, where nothing is, what the index at `url` says, with what `seed` has.
pub(crate) fn extract_beside(bench: &Bench, url: &str, seed: &Path, target: &Path) -> Command {
    let mut command = bench.environment.command("casync");
    command.args(["--with=unix", "extract"]).arg(format!("--seed={}", seed.display()));
    command.arg(format!("--store={url}/default.castr")).arg(format!("{url}/tree.caidx")).arg(target);
    command
}

/// The command that writes one file's index and chunks below `repository`.
pub(crate) fn make_file(bench: &Bench, repository: &Path, file: &Path) -> Command {
    let mut command = bench.environment.command("casync");
    command.arg("make").arg(format!("--store={}", repository.join("default.castr").display()));
    command.arg(repository.join("file.caibx")).arg(file);
    command
}

/// The command that makes `target` what the index at `url` says, with what `seed` has.
pub(crate) fn extract_file(bench: &Bench, url: &str, seed: &Path, target: &Path) -> Command {
    let mut command = bench.environment.command("casync");
    command.arg("extract").arg(format!("--seed={}", seed.display()));
    command.arg(format!("--store={url}/default.castr")).arg(format!("{url}/file.caibx")).arg(target);
    command
}
