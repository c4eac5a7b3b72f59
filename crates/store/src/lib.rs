//! Content-addressed storage: ids, chunking, packs, manifests, the catalogue, garbage collection and `check`.

pub mod backend;
pub mod chunk;
pub mod codec;
pub mod content;
pub mod domain;
pub mod error;
pub mod id;
pub mod manifest;
pub mod object;
pub mod pack;
pub mod recipe;
#[cfg(test)]
mod test_data;
