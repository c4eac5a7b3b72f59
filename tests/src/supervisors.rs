//! Processes that stand by to take a target back.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::environment::TestEnvironment;
use crate::program;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Those of the targets of a state directory. They are not children of whoever runs them, so they are looked for.
pub fn supervisors(state: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("processes can be listed");
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|process| stands_by(*process, state)).collect()
}

/// Waits until nothing stands by any more.
pub fn wait_until_none_stands_by(state: &Path) {
    while !supervisors(state).is_empty() {
        std::thread::yield_now();
    }
}

/// Kills all of them, as a crash of the machine does.
pub fn end_all(state: &Path) {
    for process in supervisors(state) {
        let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process has an id");
        // It may have ended meanwhile.
        let _ = kill_process(process, Signal::KILL);
    }
    wait_until_none_stands_by(state);
}

fn stands_by(process: u32, state: &Path) -> bool {
    // One that has ended meanwhile stands by no more.
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).skip(1);
    words.next() == Some(b"-way-back")
        && words.next() == Some(b"stand-by")
        && words.next().is_some_and(|word| word.starts_with(state.as_os_str().as_bytes()))
}

/// Starts the machine again, as far as programs can tell: the kernel gives each start another name. It holds for a mount
/// namespace of the test's own.
pub fn start_again(environment: &TestEnvironment, number: u32) {
    let name = environment.write("boot_id", format!("00000000-0000-4000-8000-{number:012}\n"));
    program::run(environment.command("mount").arg("--bind").arg(name).arg(BOOT_ID)).success();
}
