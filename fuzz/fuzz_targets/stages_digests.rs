//! The text with the digests of release media.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::mirrored::digests(bytes);
});
