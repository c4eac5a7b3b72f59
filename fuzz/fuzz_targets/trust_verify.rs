//! Evidence as it is judged. The first byte of the input chooses what is asked, the second what is known.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::trust::trust_verify(bytes);
});
