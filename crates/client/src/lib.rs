//! The client: the command line, its settings, and the sources it reads.
//!
//! `main` parses, runs and exits; everything it is made of is here, so that it can be tested without a process.

pub mod after;
pub mod args;
pub mod commands;
pub mod config;
pub mod failure;
pub mod github;
pub mod hosts;
pub mod interrupt;
pub mod output;
pub mod passphrase;
pub mod prefer;
pub mod profile;
pub mod programs;
pub mod question;
pub mod realm;
pub mod reference;
pub mod server_url;
pub mod service;
pub mod settings;
pub mod shell_words;
pub mod signing;
pub mod state_dir;
pub mod sync;
pub mod token;
pub mod validate;
pub mod versions;
pub mod watch;

/// The first argument of a process that the program starts for what must not run in its own: it is no command.
pub const CONFINED: &str = "-confined";

/// The first argument of a process that stands by to take a target back.
pub const WAY_BACK: &str = "-way-back";
