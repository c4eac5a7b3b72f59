//! The file that trust is remembered in.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::trust::trust_state(bytes);
});
