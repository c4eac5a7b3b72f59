//! A page of a recipe.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::store::recipe_page(bytes);
});
