//! What the C library's allocator keeps of memory that was given back.
//!
//! The allocator of glibc has up to eight heaps for each processor, and every heap keeps a part of what was given back
//! to it. A server that now and then computes with large buffers, on threads that come and go, ends up with some of
//! them in every heap: with 32 hosts that install a tree for the first time on two processors, it had 328 MiB at the
//! most, and 267 MiB with the bound that is set here. It is a bound of the allocator itself, and can only be set by a
//! call that Rust cannot check; so it has a crate of its own.

/// Bounds the heaps of this process to two for each processor. To be called before other threads are started.
pub fn bound_heaps(processors: usize) {
    #[cfg(target_env = "gnu")]
    set_heaps(libc::c_int::try_from(processors.saturating_mul(2)).unwrap_or(libc::c_int::MAX).max(2));
    // Other C libraries have no such heaps.
    #[cfg(not(target_env = "gnu"))]
    let _ = processors;
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator has no other interface")]
fn set_heaps(heaps: libc::c_int) {
    // SAFETY: it takes two numbers by value and sets a parameter of the allocator, which has a lock for that. What was
    // allocated before is not touched, and a parameter that it does not know is left alone.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_there_before_and_after() {
        let fill = |byte: u8| vec![byte; 1 << 20];
        let before = fill(7);
        bound_heaps(1);
        let after: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|byte| scope.spawn(move || fill(byte))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        assert!(before.iter().all(|byte| *byte == 7));
        for (filled, byte) in after.into_iter().zip(0..) {
            assert!(
                filled
                    .is_ok_and(|filled| filled.len() == 1 << 20 && filled.iter().all(|found| *found == byte))
            );
        }
    }
}
