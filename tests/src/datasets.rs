//! Programs that stand in for those of file systems that this machine does not have.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// The directory of the programs.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stand-ins");

/// Has a command find them before all others.
pub fn put_first(command: &mut Command) {
    let mut path = OsString::from(DIRECTORY);
    if let Some(others) = std::env::var_os("PATH") {
        path.push(":");
        path.push(others);
    }
    command.env("PATH", path);
}

/// Makes a directory what the program `zfs` takes for a dataset.
pub fn make_dataset(directory: &Path) {
    std::fs::create_dir_all(directory.join(".zfs")).expect("a directory can be made");
}

/// What the program `zfs` was asked for about the dataset that is mounted at a directory.
pub fn asked(directory: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(directory.join(".zfs/log")).expect("it was asked");
    log.lines().map(str::to_owned).collect()
}
