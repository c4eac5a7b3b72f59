//! One run at a time.
//!
//! The lock is the kernel's (`flock`), so it ends with its holder, however that ends; what the file says is only
//! for the one who meets it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use smart_sync_store::manifest::path::Shown;

use super::error::ApplyError;
use super::tree_dir::TreeDir;

const LOCK: &[u8] = b"lock";
const HOLDER_BYTES_MAX: u64 = 4096;

/// Who works on a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started: i64,
    /// What was typed.
    pub command: String,
}

impl Holder {
    /// This process.
    pub fn this_process(command: &str, started: i64) -> Self {
        Self { pid: std::process::id(), started, command: command.to_owned() }
    }

    fn to_text(&self) -> String {
        let command: String =
            self.command.chars().filter(|character| *character != '\n').take(1000).collect();
        format!("{}\n{}\n{command}\n", self.pid, self.started)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        Some(Self {
            pid: lines.next()?.parse().ok()?,
            started: lines.next()?.parse().ok()?,
            command: lines.next()?.to_owned(),
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("a process that did not say who it is");
        }
        write!(f, "process {} ({}", self.pid, Shown(self.command.as_bytes()))?;
        match jiff::Timestamp::from_second(self.started) {
            Ok(started) => write!(f, ", since {started})"),
            Err(_) => f.write_str(")"),
        }
    }
}

/// The right to change a target, until this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a state directory, or says who has it.
    pub fn take(state: &TreeDir, holder: &Holder) -> Result<Self, ApplyError> {
        let mut file = match state.create_file(LOCK) {
            Err(error) if error.io_kind() == Some(io::ErrorKind::AlreadyExists) => {
                state.open_to_write(LOCK)?
            }
            created => created?,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ApplyError::Locked(read_holder(&file))),
            Err(errno) => return Err(state.error("locking", LOCK, errno)),
        }
        state.announce("write lock", LOCK)?;
        file.set_len(0)
            .and_then(|()| file.write_all(holder.to_text().as_bytes()))
            .map_err(|source| state.failed("writing", LOCK, source))?;
        Ok(Self { _file: file })
    }
}

/// The holder may be about to write its name, or have died while it did: then it has none.
fn read_holder(file: &File) -> Holder {
    let mut text = String::new();
    let read = file.take(HOLDER_BYTES_MAX).read_to_string(&mut text);
    read.ok().and_then(|_| Holder::from_text(&text)).unwrap_or(Holder {
        pid: 0,
        started: 0,
        command: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::step::Steps;
    use crate::apply::tree_dir::RootLink;

    #[test]
    fn the_second_run_learns_who_was_first() {
        let state = tempfile::tempdir().unwrap();
        let state = TreeDir::open(state.path(), RootLink::Refuse, Steps::default()).unwrap();
        let holder =
            Holder { pid: 17, started: 1_798_761_600, command: "smart-sync --ref\nmain\x1b[2J".into() };
        let lock = Lock::take(&state, &holder).unwrap();
        let refused = Lock::take(&state, &Holder::this_process("smart-sync", 0)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the target is being worked on by process 17 \
             (smart-sync --refmain\\u{1b}[2J, since 2027-01-01T00:00:00Z)"
        );
        drop(lock);
        Lock::take(&state, &holder).unwrap();
    }
}
