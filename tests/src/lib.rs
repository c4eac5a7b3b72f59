//! The environment of the end-to-end tests: a machine of its own for each test, with the real programs on it.
//!
//! The one decision: a test sees nothing of the machine it runs on except `PATH`. Home, state, configuration, time
//! zone, language and git's settings are the test's, below one temporary directory that goes when the test ends, so
//! that tests pass in any order, side by side, and on anybody's machine.
//!
//! The programs are the ones that cargo built beside the test's own executable. `cargo nextest run -p
//! smart-sync-tests` alone does not build them: run `cargo build --bins` first, or `make test`, which does. A program
//! that is absent, or older than its sources, fails the test with that advice.

pub mod backend;
pub mod btrfs_disk;
pub mod daemon;
pub mod datasets;
pub mod durability;
pub mod environment;
pub mod fleet;
pub mod folding_disk;
pub mod followed;
pub mod gentoo;
pub mod git;
pub mod github;
pub mod gpg;
pub mod gzip;
pub mod host;
pub mod hostile;
pub mod http;
pub mod kernel_files;
pub mod noise;
pub mod profiled;
pub mod program;
pub mod proxy;
pub mod publisher;
pub mod publishing_host;
pub mod recording;
pub mod releases;
pub mod server;
pub mod skip;
pub mod small_disk;
pub mod snapshot;
pub mod stand_in;
pub mod static_files;
pub mod strace;
pub mod supervisors;
pub mod update;
pub mod upstream;
pub mod versioned;

pub use backend::Backend;
pub use btrfs_disk::BtrfsDisk;
pub use environment::TestEnvironment;
pub use fleet::Fleet;
pub use gentoo::Gentoo;
pub use git::Repository;
pub use github::GithubServer;
pub use gpg::Gpg;
pub use host::{Host, Saved};
pub use profiled::Profiled;
pub use program::Finished;
pub use proxy::{CountingProxy, Totals};
pub use publisher::Publisher;
pub use publishing_host::PublishingHost;
pub use recording::Recording;
pub use server::{Realm, Server};
pub use skip::skipped;
pub use small_disk::SmallDisk;
pub use snapshot::Snapshot;
pub use stand_in::StandIns;
pub use strace::Strace;
pub use update::Update;
pub use versioned::Versioned;
