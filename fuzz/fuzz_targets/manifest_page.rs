//! A page of a manifest; taken for a root, it is read as a manifest as well.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::store::manifest_page(bytes);
});
