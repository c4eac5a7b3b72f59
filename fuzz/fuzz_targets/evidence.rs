//! Evidence as a message.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::trust::evidence(bytes);
});
