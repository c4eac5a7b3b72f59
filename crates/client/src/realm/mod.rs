//! Realms: what is believed of them, and asking their servers.

mod continuation;
mod directory;
pub mod history;
pub mod locate;
pub mod log_tiles;
pub mod mirrors;
pub mod pages;
pub mod remote;
pub mod resolve;
pub mod roots;
pub mod trust_store;
