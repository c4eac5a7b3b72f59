//! A package with its metadata behind it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::binpkgs::xpak(bytes);
});
