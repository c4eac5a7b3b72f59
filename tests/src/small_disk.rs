//! A file system of a few pages, for tests of what happens when it is full.
//!
//! Mounting takes root's rights, and a mount that nobody removes outlives its test. So the test runs once more in a
//! user and mount namespace of its own, where it is root and its mounts go when it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program;
use crate::skip::skipped;

/// Says inside a namespace that this is one.
const INSIDE: &str = "SMART_SYNC_TEST_NAMESPACE";

/// Pages of a tmpfs; nothing takes less.
pub const PAGE_BYTES: u64 = 4096;

/// Runs the calling test again where it may mount file systems, and returns whether this is that run.
///
/// The test goes on if it is, and returns at once if it is not. Fails if the other run does; where no namespace can
/// be had, the test is skipped.
#[track_caller]
pub fn in_namespace() -> bool {
    run_again(&["--user", "--map-root-user", "--mount"])
}

/// The same with a namespace of these kinds.
#[track_caller]
pub(crate) fn run_again(unshare: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mount = "mount -t tmpfs none \"$0\" && umount \"$0\"";
    let place = tempfile::tempdir().expect("a temporary directory can be made");
    let mut can_mount = Command::new("unshare");
    can_mount.args(unshare).args(["sh", "-c", mount]).arg(place.path()).stderr(Stdio::null());
    if !can_mount.status().is_ok_and(|status| status.success()) {
        skipped("no file system can be mounted here: unshare is missing, or user namespaces are not allowed");
        return false;
    }
    let thread = std::thread::current();
    let test = thread.name().expect("a test's thread has its name");
    let mut again = Command::new("unshare");
    again.args(unshare).arg(std::env::current_exe().expect("the running executable has a path"));
    again.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    program::run(&mut again).success();
    false
}

/// A mounted file system of a fixed size.
#[derive(Debug)]
pub struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    /// Mounts an empty one on a directory, which is made. To be called inside [`in_namespace`].
    pub fn mount(directory: PathBuf, bytes: u64) -> Self {
        fs::create_dir_all(&directory).expect("a directory can be made");
        let size = format!("size={bytes},mode=700");
        program::run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&directory))
            .success();
        Self { directory }
    }

    /// Where it is mounted.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Fills it until this much is free.
    pub fn leave(&self, bytes: u64) {
        self.make_room();
        let free = rustix::fs::statvfs(&self.directory).expect("it is mounted");
        let taken = (free.f_bavail * free.f_frsize).saturating_sub(bytes);
        let file = fs::File::create(self.filler()).expect("an empty file takes no page");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, taken.max(1))
            .expect("this much is free");
    }

    /// Removes what [`leave`](Self::leave) had filled it with.
    pub fn make_room(&self) {
        // The first time there is nothing.
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }
}
