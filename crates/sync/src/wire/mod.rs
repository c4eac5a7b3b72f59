//! What client and server send each other beside evidence, packs and pages.
//!
//! None of it is trusted: each message only says where something may be found, and what is found there is named by
//! its own hash. Reports of hosts are only ever shown.

pub mod delta;
pub mod fetch_map;
pub mod locate;
pub mod report;
pub mod submission;
pub mod update;
