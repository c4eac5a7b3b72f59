//! Profiles: several targets as one.
//!
//! A profile is a channel whose tree holds a file that says which channels a machine follows, and where. It is read
//! together with those that it builds on ([`document`], [`merge`]) and held against what the host lets it do
//! ([`permit`]); everything that it names is proven against one state of the log ([`resolve`]). All targets become that together, or
//! none does ([`journal`]), and what they are together is kept as a [`set`].

pub(crate) mod between;
mod cache;
pub mod config;
mod confirm;
pub mod document;
pub mod journal;
mod list;
mod members;
pub mod merge;
pub mod permit;
mod places;
mod plan;
mod pull;
pub mod resolve;
pub mod set;
pub mod settings;
mod settle;
mod show;
pub mod store;
mod taken;
mod trial;
mod undo;

pub use self::between::alone;
pub use self::confirm::{confirm, confirm_all};
pub use self::list::{list, resume, rollback};
pub use self::pull::pull;
pub use self::settle::{settle_all, settle_one};
pub use self::show::show;
pub use self::store::is_any;
