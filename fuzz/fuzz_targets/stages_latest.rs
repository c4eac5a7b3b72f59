//! The text that names the newest release media.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::mirrored::latest(bytes);
});
