//! A program with frames and members that may not fit it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::unpack::unpack_rebuild(bytes);
});
