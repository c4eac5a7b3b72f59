//! The side that starts a confined process and waits for it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::Signal;

use super::limits::Bounds;
use super::{Confined, Task};

/// A confined process, which does not outlive this.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    output: Option<ChildStdout>,
}

impl Process {
    /// Starts one that reads `input` and is told `numbers`.
    pub(super) fn start(
        confined: &Confined,
        task: Task,
        bounds: Bounds,
        numbers: &[u64],
        input: File,
    ) -> io::Result<Self> {
        let mut child = Command::new(&confined.program)
            .arg0("confined")
            .arg(&confined.word)
            .arg(task.word())
            .args(bounds.numbers().iter().chain(numbers).map(u64::to_string))
            .env_clear()
            .current_dir(&confined.directory)
            .stdin(input)
            .stdout(Stdio::piped())
            // A message that somebody else's bytes have led to is for nobody.
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take();
        Ok(Self { child, output })
    }

    /// Waits for its end, which has to be a good one.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.output = None;
        let status = self.child.wait()?;
        let stops = [Signal::INT, Signal::TERM].map(|signal| Some(signal.as_raw()));
        if status.success() {
            Ok(())
        } else if stops.contains(&status.signal()) {
            // A terminal sends these to both processes: it is not the work that failed.
            Err(io::Error::new(io::ErrorKind::Interrupted, "a confined process was told to stop"))
        } else {
            Err(io::Error::other(format!("a confined process has ended with {status}")))
        }
    }
}

impl Read for Process {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.as_mut().map_or(Ok(0), |output| output.read(buffer))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
