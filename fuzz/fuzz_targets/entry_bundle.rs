//! A bundle of leaves; the first byte is their number less one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::wire::entry_bundle(bytes);
});
