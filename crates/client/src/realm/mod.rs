//! Realms: what is believed of them, and asking their servers.

pub mod remote;
pub mod resolve;
pub mod roots;
pub mod trust_store;
