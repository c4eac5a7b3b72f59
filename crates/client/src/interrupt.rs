//! Ctrl-C and SIGTERM.
//!
//! A first signal asks: what is running ends at its next safe point. A second one ends the process at once, which is
//! safe too, because every run can be completed or undone from its journal; it only takes the next run longer.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::{Exit, Failure};

/// Knows whether the run was asked to end. Clones share the knowledge.
#[derive(Debug, Clone)]
pub struct Interrupt {
    requested: Arc<watch::Sender<bool>>,
}

impl Interrupt {
    /// Takes over both signals; to be called once, inside the runtime.
    pub fn install() -> std::io::Result<Self> {
        let interrupt = Self::quiet();
        let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::spawn(listen(signals, interrupt.clone()));
        Ok(interrupt)
    }

    /// One that no signal reaches, for code that is run without taking signals over.
    pub fn quiet() -> Self {
        Self { requested: Arc::new(watch::Sender::new(false)) }
    }

    /// Whether the run was asked to end. Work that cannot be dropped half-way asks between its steps.
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Asks the run to end.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Waits until the run is asked to end.
    pub async fn requested(&self) {
        let mut receiver = self.requested.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = receiver.wait_for(|requested| *requested).await;
    }

    /// Runs what may be dropped at any point: fetching, listing, looking.
    pub async fn guard<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.requested() => Err(interrupted()),
            result = work => result,
        }
    }
}

/// The failure that an interrupted run ends with.
pub fn interrupted() -> Failure {
    Failure::message(Exit::Interrupted, "interrupted")
        .hint("the next run completes or undoes what this one had begun; nothing needs to be cleaned up")
}

async fn listen((mut interrupt, mut terminate): (Signal, Signal), state: Interrupt) {
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if state.is_requested() {
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        state.request();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_is_a_request_and_the_first_one_does_not_end_the_process() {
        use rustix::process::{Signal, getpid, kill_process};
        let interrupt = Interrupt::install().unwrap();
        assert!(!interrupt.is_requested());
        kill_process(getpid(), Signal::TERM).unwrap();
        interrupt.requested().await;
        assert!(interrupt.is_requested());
    }

    #[tokio::test]
    async fn a_request_ends_work_that_may_be_dropped() {
        let interrupt = Interrupt::quiet();
        assert_eq!(interrupt.guard(async { Ok(1) }).await.unwrap(), 1);
        let waiting = interrupt.guard(std::future::pending::<Result<(), Failure>>());
        let other = interrupt.clone();
        let (result, ()) = tokio::join!(waiting, async move { other.request() });
        assert_eq!(result.unwrap_err().exit(), Exit::Interrupted);
        assert!(interrupt.is_requested());
    }
}
