//! A frame: its codec, its decoded length, and its bytes. Taken for a single object, it is that object.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::store::frame(bytes);
});
