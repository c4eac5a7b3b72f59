//! What a command costs: wall time, CPU time and peak memory.
//!
//! Each command runs below a small process of its own, this same program, that asks the kernel what its children
//! used. Asking from the driver itself would count the driver's memory too: a child's peak includes the moment before
//! it replaced its parent's image.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::bench::Bench;

/// More than a command of any workload writes in one run.
const MEMORY_BYTES: usize = 2 << 30;

/// What one command, or several after each other, used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// From start to end.
    pub(crate) wall: Duration,
    /// User and system time of the command and of all its children.
    pub(crate) cpu: Duration,
    /// The peak memory of the largest process, in bytes.
    pub(crate) memory: u64,
}

impl Usage {
    /// The usage of one command after another.
    pub(crate) fn then(self, next: Self) -> Self {
        Self { wall: self.wall + next.wall, cpu: self.cpu + next.cpu, memory: self.memory.max(next.memory) }
    }
}

/// Runs a command to its end and returns what it used.
pub(crate) fn measure(bench: &Bench, command: &Command) -> Result<Usage> {
    if bench.timed {
        use_memory();
    }
    spawn(bench, command)?.finish()
}

/// The same, with what the command printed.
pub(crate) fn measure_with_output(bench: &Bench, command: &Command) -> Result<(Usage, String)> {
    if bench.timed {
        use_memory();
    }
    let running = spawn(bench, command)?;
    let output = running.output.clone();
    let kept = tempfile::NamedTempFile::new_in(bench.environment.root()).context("creating a file")?;
    // The directory of the run goes with it: the output has to be moved out before.
    let usage = running.finish_with(|| fs::copy(&output, kept.path()).map(|_| ()))?;
    let text = fs::read_to_string(kept.path()).context("reading what a command printed")?;
    Ok((usage, text))
}

/// Uses memory and gives it back. The host of a virtual machine may take what is free there, and whoever is the first
/// to use it again pays for that with several times the time: that is not to be one program of those that are
/// compared.
fn use_memory() {
    // Anything but zero, which the kernel would only promise.
    let memory = vec![1u8; MEMORY_BYTES];
    std::hint::black_box(&memory);
}

/// A measured command that runs.
pub(crate) struct Running {
    child: Child,
    described: String,
    usage: PathBuf,
    errors: PathBuf,
    output: PathBuf,
    // The files above lie in it.
    _directory: TempDir,
}

/// Starts a command that is to be measured.
pub(crate) fn spawn(bench: &Bench, command: &Command) -> Result<Running> {
    let directory = tempfile::tempdir_in(bench.environment.root()).context("creating a directory")?;
    let path = |name: &str| directory.path().join(name);
    let (usage, errors, output) = (path("usage"), path("stderr"), path("stdout"));
    let described = smart_sync_tests::program::describe(command);
    let mut wrapper = Command::new(std::env::current_exe().context("finding this program")?);
    wrapper.arg("measured").arg(&usage).arg(command.get_program()).args(command.get_args());
    wrapper.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapper.current_dir(command.get_current_dir().unwrap_or(bench.environment.root()));
    let stderr = File::create(&errors).with_context(|| format!("creating {}", errors.display()))?;
    let stdout = File::create(&output).with_context(|| format!("creating {}", output.display()))?;
    wrapper.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    if bench.timed {
        // What earlier steps wrote goes to the disk on their account.
        nix::unistd::sync();
    }
    let child = wrapper.spawn().with_context(|| format!("starting {described}"))?;
    Ok(Running { child, described, usage, errors, output, _directory: directory })
}

impl Running {
    /// Waits for the end.
    pub(crate) fn finish(self) -> Result<Usage> {
        self.finish_with(|| Ok(()))
    }

    /// Waits for the end, and looks at what was printed.
    fn finish_with(mut self, look: impl FnOnce() -> std::io::Result<()>) -> Result<Usage> {
        let status = self.child.wait().with_context(|| format!("waiting for {}", self.described))?;
        if !status.success() {
            let errors = fs::read(&self.errors).unwrap_or_default();
            bail!("{} failed ({status}):\n{}", self.described, String::from_utf8_lossy(&errors));
        }
        look().context("keeping what a command printed")?;
        let usage = fs::read(&self.usage).with_context(|| format!("reading {}", self.usage.display()))?;
        serde_json::from_slice(&usage).with_context(|| format!("reading what {} used", self.described))
    }
}

/// The other side: runs the command and writes what it used.
pub(crate) fn run_measured(usage: &Path, program: &OsStr, arguments: &[OsString]) -> Result<()> {
    let start = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    let wall = start.elapsed();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking what the command used")?;
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    let memory = u64::try_from(used.max_rss()).unwrap_or(0) * 1024;
    let cpu = duration(used.user_time()) + duration(used.system_time());
    let text = serde_json::to_vec(&Usage { wall, cpu, memory })?;
    fs::write(usage, text).with_context(|| format!("writing {}", usage.display()))
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
}
