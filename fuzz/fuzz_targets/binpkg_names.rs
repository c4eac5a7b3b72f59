//! Names of packages, atoms and versions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::binpkgs::names(bytes);
});
