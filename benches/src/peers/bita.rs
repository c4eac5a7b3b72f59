//! bita: `bita compress` with its defaults (chunks of about 64 KiB, brotli), cloned over HTTP with the old version as
//! a seed. It is built with cargo, since Debian has no package of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::bench::{Bench, prepare};

const VERSION: &str = "0.15.0";
/// How often an archive is made before it is given up.
const TRIES: u32 = 20;

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

/// Writes an archive of a file; false if the program could not. This version may end before its last pieces are on
/// the disk: the archive is tried, and made again where it lacks them.
pub(crate) fn compress(bench: &Bench, program: &Path, file: &Path, archive: &Path) -> Result<bool> {
    for _ in 0..TRIES {
        let mut command = bench.environment.command(program);
        command.args(["compress", "--force-create", "--input"]).arg(file).arg(archive);
        prepare(&mut command)?;
        let tried = archive.with_extension("tried");
        let mut command = bench.environment.command(program);
        command.args(["clone", "--force-create"]).arg(archive).arg(&tried);
        let whole = smart_sync_tests::program::run(&mut command).code == Some(0);
        if tried.exists() {
            fs::remove_file(&tried)?;
        }
        if whole {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The command that makes `target` of the archive at `url`, with what `seed` has.
pub(crate) fn clone(bench: &Bench, program: &Path, url: &str, seed: &Path, target: &Path) -> Command {
    let mut command = bench.environment.command(program);
    command.args(["clone", "--seed"]).arg(seed).arg(url).arg(target);
    command
}
