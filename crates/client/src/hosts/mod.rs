//! Several hosts: bringing them up to date over ssh.
//!
//! What a host says comes from outside, as what a server says does: of its output a bounded part is kept, it is only
//! ever shown, and its exit status decides.

pub mod choose;
pub mod config;
pub mod deploy;
mod heard;
pub mod name;
mod outcome;
mod remote_words;
mod ssh;
