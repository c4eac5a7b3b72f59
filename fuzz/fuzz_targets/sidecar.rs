//! Signature files of minisign and ssh-keygen.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::record::sidecar(bytes);
});
