//! An archive of an ebuild tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::mirrored::snapshot(bytes);
});
