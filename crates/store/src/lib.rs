//! Content-addressed storage: ids, chunking, packs, manifests, the catalogue, garbage collection and `check`.

pub mod codec;
pub mod id;
pub mod manifest;
