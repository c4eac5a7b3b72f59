//! Proofs about trees of any size: the input is a size, claims of nine bytes each, and then hashes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::trust::log_proof(bytes);
});
