//! The index of a pack. The input is the number of bytes of the frames, and the index without its trailer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    smart_sync_fuzz::store::pack_index(bytes);
});
