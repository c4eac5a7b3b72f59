//! A ledger, without its checksum.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::host::ledger(bytes);
});
