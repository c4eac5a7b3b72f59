//! Content-addressed storage: ids, chunking, packs, manifests, the catalogue, garbage collection and `check`.

pub mod backend;
pub mod catalogue;
pub mod check;
pub mod chunk;
pub mod codec;
pub mod content;
pub mod count;
pub mod domain;
pub mod error;
pub mod gc;
pub mod id;
pub mod manifest;
pub mod object;
pub mod pack;
pub mod recipe;
mod store;
#[cfg(test)]
mod test_data;
pub mod unpack;

pub use store::{AT_HAND_LEN_MAX, Added, Apart, LaidOut, Originals, Store};
