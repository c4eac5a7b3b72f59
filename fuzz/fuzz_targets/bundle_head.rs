//! The head of a bundle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::bundle::bundle_head(bytes);
});
