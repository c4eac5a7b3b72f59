//! Any bytes as an artifact that is taken apart.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: smart_sync_fuzz::unpack::keep_caught_panics(),
    |bytes: &[u8]| {
        smart_sync_fuzz::unpack::unpack_artifact(bytes);
    }
);
