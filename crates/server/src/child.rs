//! A program that works for one request or connection, and all that it starts in turn.
//!
//! It is the leader of a process group, which is killed when whoever it works for has gone. Until then it is not
//! reaped, so that its id stays its own and no other group is ever hit.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// A process group that ends with this value.
#[derive(Debug)]
pub(crate) struct ChildGroup {
    child: Child,
    id: Option<Pid>,
}

impl ChildGroup {
    /// Starts a command in a process group of its own.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { child, id })
    }

    /// The pipes that it was started with.
    pub(crate) const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until the program has ended, and returns its status; none if a signal has ended it.
    pub(crate) async fn ended(&self) -> io::Result<Option<i32>> {
        let id = self.id.ok_or_else(|| io::Error::other("it has no process id"))?;
        // It is left to be reaped when this value goes.
        let waiting = move || waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let status = tokio::task::spawn_blocking(waiting).await.map_err(io::Error::other)??;
        Ok(status.and_then(|status| status.exit_status()))
    }
}

impl Drop for ChildGroup {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // All of the group may have ended.
            let _ = kill_process_group(id, Signal::KILL);
        }
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // It was killed, and takes a moment for it: nobody else has to wait for that.
            let id = self.id;
            std::thread::spawn(move || {
                id.map(|id| rustix::process::waitpid(Some(id), rustix::process::WaitOptions::empty()))
            });
        }
    }
}
