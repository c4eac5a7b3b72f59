//! Running a command of the host's configuration, with an end to everything that it starts.
//!
//! Whatever the command starts is ended with it, also what has left its process group or made itself a daemon: this
//! program becomes the one that inherits orphans, finds all that descends from it, and kills that until nothing is left.
//! What the command prints is read for as long as it runs, and a part from its beginning and one from its end are kept,
//! so that a command which prints for ever fills neither memory nor disk.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};

use crate::interrupt::Interrupt;

/// What is kept of an output, from its beginning and again from its end.
const KEPT_BYTES: usize = 64 << 10;
/// How often it is looked whether this run was asked to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a command that was asked to end may take for it.
const GRACE: Duration = Duration::from_secs(5);
/// How often what is left is killed: each time there may be some that were started meanwhile.
const ROUNDS_MAX: usize = 100;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// It took longer than it may.
    TimedOut,
    /// This run was asked to end.
    Interrupted,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    /// How.
    pub ended: Ended,
    /// What it printed; of much, the beginning and the end.
    pub output: Vec<u8>,
    /// Processes that it had left behind, and that were ended.
    pub left: usize,
}

impl Ran {
    /// Whether it did what it was to do.
    pub const fn is_success(&self) -> bool {
        matches!(self.ended, Ended::Exited(0))
    }

    /// How it ended, as a person says it.
    pub fn how(&self, timeout: Duration) -> String {
        match self.ended {
            Ended::Exited(status) => format!("ended with status {status}"),
            Ended::Signalled(signal) => format!("was ended by signal {signal}"),
            Ended::TimedOut => format!("took longer than {} s, and was ended", timeout.as_secs()),
            Ended::Interrupted => "was interrupted".to_owned(),
        }
    }

    /// The last lines of what it printed.
    pub fn last_lines(&self, number: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.output);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(number)..].iter().map(|line| (*line).to_owned()).collect()
    }
}

/// Runs a command to its end, or to that of its time.
pub fn run(command: &mut Command, timeout: Duration, interrupt: &Interrupt) -> io::Result<Ran> {
    // Where this is not possible, daemons of the command are somebody else's children, and stay.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let before: Vec<i32> = children_of(own_pid());
    let (mut reader, writer) = io::pipe()?;
    command.process_group(0).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    // What a command says to the service manager would be taken for this program's word.
    command.env_remove("NOTIFY_SOCKET");
    let mut child = command.spawn()?;
    // The ends that the command writes to are its own alone.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (said, output) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody may be there any more to hear it.
        let _ = said.send(drain(&mut reader));
    });
    let (done, status) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = done.send(child.wait());
    });
    let ended = wait(&status, group, timeout, interrupt);
    let left = end_rest(&before);
    // What could not be ended may still hold the other end.
    let output = output.recv_timeout(GRACE).unwrap_or_default();
    Ok(Ran { ended: ended?, output, left })
}

fn wait(
    status: &mpsc::Receiver<io::Result<ExitStatus>>,
    group: Option<Pid>,
    timeout: Duration,
    interrupt: &Interrupt,
) -> io::Result<Ended> {
    let end = Instant::now() + timeout;
    let why = loop {
        let left = end.saturating_duration_since(Instant::now());
        match status.recv_timeout(left.min(LOOK_EVERY)) {
            Ok(status) => return status.map(ended_as),
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("nobody waits for it")),
            Err(RecvTimeoutError::Timeout) if interrupt.is_requested() => break Ended::Interrupted,
            Err(RecvTimeoutError::Timeout) if left.is_zero() => break Ended::TimedOut,
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    for signal in [Signal::TERM, Signal::KILL] {
        // It has not been waited for, so that the number is still its own.
        group.map(|group| kill_process_group(group, signal));
        if status.recv_timeout(GRACE).is_ok() {
            break;
        }
    }
    Ok(why)
}

fn ended_as(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or_default()),
    }
}

/// Reads to the end, and keeps a part from the beginning and one from the end.
fn drain(reader: &mut impl Read) -> Vec<u8> {
    let (mut first, mut last, mut omitted) = (Vec::new(), Vec::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let to_first = read.min(KEPT_BYTES.saturating_sub(first.len()));
        first.extend_from_slice(&buffer[..to_first]);
        last.extend_from_slice(&buffer[to_first..read]);
        if last.len() >= 2 * KEPT_BYTES {
            omitted += keep_end(&mut last);
        }
    }
    omitted += keep_end(&mut last);
    if omitted > 0 {
        first.extend_from_slice(format!("\n[{omitted} bytes left out]\n").as_bytes());
    }
    first.extend(last);
    first
}

/// Drops all but the end. Returns how many bytes that were.
fn keep_end(bytes: &mut Vec<u8>) -> usize {
    let over = bytes.len().saturating_sub(KEPT_BYTES);
    bytes.drain(..over);
    over
}

/// Ends what descends from this process and was not there before. Returns how many that were.
fn end_rest(before: &[i32]) -> usize {
    let mut ended = 0;
    for _ in 0..ROUNDS_MAX {
        let rest = descendants(own_pid(), before);
        if rest.is_empty() {
            break;
        }
        for (pid, is_child) in rest {
            let Some(pid) = Pid::from_raw(pid) else { continue };
            ended += usize::from(kill_process(pid, Signal::KILL).is_ok());
            if is_child {
                let _ = waitpid(Some(pid), WaitOptions::empty());
            }
        }
    }
    ended
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn children_of(parent: i32) -> Vec<i32> {
    parents().into_iter().filter(|(_, found)| *found == parent).map(|(pid, _)| pid).collect()
}

/// What descends from a process, but for some of its children and theirs; and whether each is its child.
fn descendants(ancestor: i32, without: &[i32]) -> Vec<(i32, bool)> {
    let parents = parents();
    let mut found = Vec::new();
    let mut ancestors = vec![ancestor];
    while let Some(parent) = ancestors.pop() {
        for (pid, _) in parents.iter().filter(|(pid, found)| **found == parent && !without.contains(pid)) {
            found.push((*pid, parent == ancestor));
            ancestors.push(*pid);
        }
    }
    found
}

/// The parent of each process.
fn parents() -> HashMap<i32, i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses, and may hold any of them itself.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(length: usize, omitted: usize) {
        let said: Vec<u8> = (0..length).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
        let kept = drain(&mut &said[..]);
        if omitted == 0 {
            assert!(kept == said, "{length}");
            return;
        }
        let between = format!("\n[{omitted} bytes left out]\n");
        let (first, last) = (&said[..KEPT_BYTES], &said[length - KEPT_BYTES..]);
        assert!(kept == [first, between.as_bytes(), last].concat(), "{length}");
    }

    #[test]
    fn the_beginning_and_the_end_of_what_is_said_are_kept() {
        check(0, 0);
        check(2 * KEPT_BYTES, 0);
        check(2 * KEPT_BYTES + 1, 1);
        check(9 * KEPT_BYTES + 7, 7 * KEPT_BYTES + 7);
    }
}
