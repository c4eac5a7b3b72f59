//! The cache of a publisher, without its checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::host::content_cache(bytes);
});
