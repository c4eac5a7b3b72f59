//! The path of a tile.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::wire::tile_path(bytes);
});
