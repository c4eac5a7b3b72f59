//! The address of a server or of a repository.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::host::server_address(bytes);
});
