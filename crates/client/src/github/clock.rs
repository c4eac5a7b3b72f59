//! Time, from outside.
//!
//! Waiting for a rate limit and giving up a dead connection are decisions about time; with the clock handed in, tests
//! make them without waiting and without depending on how busy the machine is.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;

/// What tells the time and lets it pass.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Lets time pass before something is tried again.
    fn pause(&self, length: Duration) -> BoxFuture<'static, ()>;

    /// Ends when something has taken too long; raced against that.
    fn timeout(&self, length: Duration) -> BoxFuture<'static, ()>;
}

/// The clock of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn pause(&self, length: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(length))
    }

    fn timeout(&self, length: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(length))
    }
}
