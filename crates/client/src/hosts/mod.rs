//! Several hosts: bringing them up to date over ssh, and reporting how they stand.
//!
//! What a host says comes from outside, as what a server says does: of its output a bounded part is kept, it is only
//! ever shown, and its exit status decides.

mod carry;
pub mod choose;
pub mod config;
pub mod deploy;
mod heard;
pub mod list;
pub mod name;
mod outcome;
mod remote_words;
pub mod report;
mod ssh;
