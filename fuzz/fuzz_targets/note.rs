//! A signed note, and whatever it may be taken for.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::record::note(bytes);
});
