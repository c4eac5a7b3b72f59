//! How a mirror names distfiles.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::mirrored::layout(bytes);
});
