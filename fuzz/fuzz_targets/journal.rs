//! A journal. The input is its records, each a length of two bytes and the body; a last one may be torn.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::host::journal(bytes);
});
