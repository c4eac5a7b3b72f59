//! A whole pack. The input is its frames and its index, and the length of the index.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::store::pack(bytes);
});
