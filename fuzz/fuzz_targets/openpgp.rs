//! Keys, signatures and signed texts of OpenPGP.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::openpgp::openpgp(bytes);
});
