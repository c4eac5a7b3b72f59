//! What the C library's allocator keeps of memory that was given back.
//!
//! The allocator of glibc has a heap for each of many threads, and learns to keep in them what is given back in pieces
//! of up to 32 MiB. A server that now and then computes with large buffers, on threads that come and go, ends up with a
//! part of them in every heap: with 32 hosts that install a tree for the first time, it had 328 MiB at the most, and
//! 206 MiB with the bounds that are set here. They are those of the allocator itself, and can only be set by a call
//! that Rust cannot check; so it has a crate of its own.

/// From this size on a buffer has pages of its own, which go back to the system with it.
#[cfg(target_env = "gnu")]
const OWN_PAGES_BYTES: libc::c_int = 4 << 20;

/// Has memory that is given back go back to the system soon. To be called before other threads are started.
pub fn give_back_soon(processors: usize) {
    #[cfg(target_env = "gnu")]
    {
        let heaps = libc::c_int::try_from(processors.saturating_mul(2)).unwrap_or(libc::c_int::MAX);
        set(libc::M_ARENA_MAX, heaps.max(2));
        set(libc::M_MMAP_THRESHOLD, OWN_PAGES_BYTES);
        set(libc::M_TRIM_THRESHOLD, OWN_PAGES_BYTES);
    }
    // Other C libraries keep little.
    #[cfg(not(target_env = "gnu"))]
    let _ = processors;
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator has no other interface")]
fn set(parameter: libc::c_int, value: libc::c_int) {
    // SAFETY: it takes two numbers by value and sets a parameter of the allocator, which has a lock for that. What was
    // allocated before is not touched. A parameter that it does not know is left alone.
    unsafe { libc::mallopt(parameter, value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_allocated_before_is_still_there() {
        let before = vec![7u8; 64 << 20];
        give_back_soon(2);
        let after = vec![8u8; 64 << 20];
        assert!(before.iter().all(|byte| *byte == 7) && after.iter().all(|byte| *byte == 8));
    }
}
