//! Names of all kinds, refs as people type them and URLs hold them, dates and ids.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::record::names(bytes);
});
