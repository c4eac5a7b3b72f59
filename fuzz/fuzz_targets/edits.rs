//! A list of edits; the first byte of the input says of which fidelity.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::store::edits(bytes);
});
