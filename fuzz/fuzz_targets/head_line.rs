//! A line of the table of heads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::record::head_line(bytes);
});
