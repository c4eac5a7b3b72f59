//! Patterns, one in a line, asked about what stands behind an empty line.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::host::exclusions(bytes);
});
