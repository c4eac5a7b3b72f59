//! A program that rebuilds an artifact.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::unpack::unpack_program(bytes);
});
