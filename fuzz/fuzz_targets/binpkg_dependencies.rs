//! Dependencies; the first byte chooses USE flags.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::binpkgs::dependencies(bytes);
});
