//! A tar stream; the first byte chooses how much of its metadata is kept.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::host::tar(bytes);
});
