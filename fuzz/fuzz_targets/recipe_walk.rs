//! A recipe of pages that the input describes from the bottom up: each page is a level, the number of its parts, and
//! two bytes for each of them, which name a page that came before or are the length of a chunk.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::store::recipe_walk(bytes);
});
