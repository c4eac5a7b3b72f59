//! A GPKG, with the checksums of its headers and its Manifest made to fit.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::binpkgs::gpkg(bytes);
});
