//! A fetch map, and the plan that is made of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::wire::fetch_map(bytes);
});
