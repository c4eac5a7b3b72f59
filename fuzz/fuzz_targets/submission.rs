//! What a publisher sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::wire::submission(bytes);
});
