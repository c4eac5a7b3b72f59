//! zsync: a control file by `zsyncmake`, read over HTTP with the old version as the source of what is there.
//!
//! A file that compresses is offered with `-z`, so that its pieces travel compressed; a compressed artifact with `-e`,
//! which makes zsync look inside only where it gives the exact file back.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::{Bench, prepare};

/// Puts `file` and its control file, `NAME.zsync`, into the directory that is served.
pub(crate) fn publish(bench: &Bench, served: &Path, file: &Path, name: &str, compressed: bool) -> Result<()> {
    std::fs::copy(file, served.join(name))?;
    let control = format!("{name}.zsync");
    let make = |options: &[&str]| {
        let mut command = bench.environment.command("zsyncmake");
        command.args(options).args(["-o", &control, name]).current_dir(served);
        prepare(&mut command).map(drop)
    };
    if !compressed {
        return make(&["-z"]);
    }
    // It refuses where it could not give the exact file back; then the file is taken as any other.
    make(&["-e"]).or_else(|_| make(&["-Z", "-C"]))
}

/// The command that makes `target` of what the control file at `url` says.
pub(crate) fn fetch(bench: &Bench, url: &str, old: &Path, target: &Path) -> Command {
    let mut command = bench.environment.command("zsync");
    command.args(["-q", "-i"]).arg(old).arg("-o").arg(target).arg(url);
    command
}
