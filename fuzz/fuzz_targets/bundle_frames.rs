//! What a bundle travels in.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::bundle::bundle_frames(bytes);
});
