//! The stream of a bundle, against a small tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::bundle::bundle(bytes);
});
