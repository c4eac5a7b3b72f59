//! What a confined process may use.

use std::io;

use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::set_no_new_privs;

/// Bytes of addresses. The largest thing at work takes some 300 MiB: a window of corrections with all its tokens, or the
/// encoder of xz. Nested in each other there may be a few of them.
const MEMORY_BYTES: u64 = 1 << 30;

/// What differs from task to task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The process that waits for this one, without which it has to end.
    pub(super) parent: u32,
    /// Seconds of a processor.
    pub(super) processor_seconds: u64,
    /// How large a file may become that it writes.
    pub(super) file_bytes: u64,
    /// Open files.
    pub(super) files: u64,
}

impl Bounds {
    pub(super) fn numbers(self) -> [u64; 4] {
        [self.parent.into(), self.processor_seconds, self.file_bytes, self.files]
    }

    /// Reads what [`Self::numbers`] gave, and what follows it.
    pub(super) fn from_numbers(numbers: &[u64]) -> Option<(Self, &[u64])> {
        let ([parent, processor_seconds, file_bytes, files], rest) = numbers.split_first_chunk()?;
        let parent = u32::try_from(*parent).ok()?;
        let (processor_seconds, file_bytes, files) = (*processor_seconds, *file_bytes, *files);
        Some((Self { parent, processor_seconds, file_bytes, files }, rest))
    }

    /// Holds this process to the bounds, for good.
    pub(super) fn hold(self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The signal comes for a death from now on alone.
        let parent = getppid().map(|parent| parent.as_raw_nonzero().get().cast_unsigned());
        if parent != Some(self.parent) {
            return Err(io::Error::other("whoever has started this process is gone"));
        }
        set_no_new_privs(true)?;
        let bounds = [
            (Resource::Core, 0),
            // It starts no thread and no other process.
            (Resource::Nproc, 0),
            (Resource::Nofile, self.files),
            (Resource::Fsize, self.file_bytes),
            (Resource::Cpu, self.processor_seconds),
            (Resource::As, MEMORY_BYTES),
        ];
        for (resource, bound) in bounds {
            // What is bounded more tightly already cannot be raised, and need not be.
            let bound = getrlimit(resource).maximum.map_or(bound, |maximum| bound.min(maximum));
            setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) })?;
        }
        Ok(())
    }
}
