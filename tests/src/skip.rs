//! Tests that cannot run where they are.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Says that a test did not run, and why: for what a machine cannot offer, such as root's rights.
///
/// The line `skipped: TEST: REASON` is printed, and appended to the file that `SMART_SYNC_SKIPPED` names, which
/// `make test` shows at its end. The test returns after calling this.
#[expect(clippy::print_stdout, reason = "the line is for whoever runs the test")]
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {reason}\n", thread.name().unwrap_or("a test"));
    print!("{line}");
    if let Some(path) = std::env::var_os("SMART_SYNC_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        // One write of one short line: tests that skip at the same time do not mix their lines.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("appending to {}: {error}", path.display()));
    }
}
