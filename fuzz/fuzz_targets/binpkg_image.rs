//! The files of a package; the first byte chooses how they are compressed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::binpkgs::image(bytes);
});
