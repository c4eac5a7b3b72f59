//! Realms: what is believed of them, and asking their servers.

pub mod log_tiles;
pub mod pages;
pub mod remote;
pub mod resolve;
pub mod roots;
pub mod trust_store;
