//! Work that nobody waits for gives way to everything else.

use rustix::process::setpriority_process;

/// The lowest priority that there is.
const NICE: i32 = 19;

/// Gives the calling thread the lowest priority; threads that it starts inherit it.
pub(crate) fn lower() {
    // On Linux, the priority of "this process" is that of the calling thread.
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::warn!(%error, "work in the background has the priority of everything else");
    }
}
