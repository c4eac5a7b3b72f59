//! bita: `bita compress` with its defaults (chunks of about 64 KiB, brotli), cloned over HTTP with the old version as
//! a seed. It is built with cargo, since Debian has no package of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::bench::{Bench, prepare};

const VERSION: &str = "0.15.0";

/// Where it is installed; it is built if it is not there and that may take its minutes.
pub(crate) fn program(bench: &Bench) -> Result<Option<PathBuf>> {
    let name = format!("bita-{VERSION}");
    if bench.scale.generated && !bench.cache.path(&name).exists() {
        return Ok(None);
    }
    let directory = bench.cache.kept(&name, |directory| {
        let mut command = Command::new("cargo");
        // It is used without TLS.
        command.args(["install", "--quiet", "--locked", "--no-default-features", "bita", "--version"]);
        prepare(command.arg(format!("={VERSION}")).arg("--root").arg(directory)).map(drop)
    })?;
    Ok(Some(directory.join("bin/bita")))
}

/// The command that writes an archive of a file.
pub(crate) fn compress(bench: &Bench, program: &Path, file: &Path, archive: &Path) -> Command {
    let mut command = bench.environment.command(program);
    command.args(["compress", "--force-create", "--input"]).arg(file).arg(archive);
    command
}

/// The command that makes `target` of the archive at `url`, with what `seed` has.
pub(crate) fn clone(bench: &Bench, program: &Path, url: &str, seed: &Path, target: &Path) -> Command {
    let mut command = bench.environment.command(program);
    command.args(["clone", "--seed"]).arg(seed).arg(url).arg(target);
    command
}
