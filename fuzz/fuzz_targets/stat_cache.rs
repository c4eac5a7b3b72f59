//! A stat cache behind its manifest, without its checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::host::stat_cache(bytes);
});
