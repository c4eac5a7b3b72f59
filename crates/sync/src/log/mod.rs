//! The transparency log: a Merkle tree of everything that was ever published.
//!
//! All of it is arithmetic on hashes. Where nodes and leaves are kept is behind [`merkle::NodeReader`], so that a
//! server's tiles, a mirror's files and a proof in an answer are read by the same code.

pub mod audit;
pub mod checkpoint;
pub mod heads;
pub mod merkle;
pub mod proof;
pub mod tile;
