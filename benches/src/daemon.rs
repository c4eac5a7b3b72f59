//! Servers of other programs, and what a server's processes use.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::bench::Bench;

/// A server that used less than this of a processor, for so long, has nothing to do.
const QUIET_CPU: Duration = Duration::from_millis(50);
/// It looks every few seconds whether there is something.
const QUIET_LASTS: Duration = Duration::from_secs(5);
const QUIET_AFTER_MAX: Duration = Duration::from_secs(15 * 60);

/// A process that serves on a port of loopback; its process group is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    /// Starts a command that serves on `port`, and waits until it accepts connections.
    pub(crate) fn start(bench: &Bench, command: &Command, port: u16) -> Result<Self> {
        let described = smart_sync_tests::program::describe(command);
        let log = bench.environment.path(&format!("daemon-{port}.log"));
        let stderr = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        // Interrupting this program ends its daemons too, though they are in groups of their own.
        let mut wrapper = Command::new("setpriv");
        wrapper.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
        wrapper.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let child = wrapper
            .current_dir(bench.environment.root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {described}"))?;
        let mut daemon = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("{described} ended at once ({status}):\n{said}");
            }
            if Instant::now() > deadline {
                bail!("{described} does not accept connections");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process, which is also its group.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("finding a free port")?;
    Ok(listener.local_addr()?.port())
}

/// What the processes of a group have used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupUsage {
    /// User and system time, of children that have ended too.
    pub(crate) cpu: Duration,
    /// The sum of the peaks of all processes, in bytes.
    pub(crate) memory: u64,
}

/// Waits until a process group uses no processor to speak of: what a server does in the background after a publication is
/// measured by itself.
pub(crate) fn wait_until_quiet(group: u32) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < QUIET_AFTER_MAX {
        let before = group_usage(group)?.cpu;
        thread::sleep(QUIET_LASTS);
        if group_usage(group)?.cpu.saturating_sub(before) <= QUIET_CPU {
            return Ok(());
        }
    }
    bail!("the server still works though nobody has asked for anything for {} s", QUIET_AFTER_MAX.as_secs())
}

/// Adds up what `/proc` says of a process group.
pub(crate) fn group_usage(group: u32) -> Result<GroupUsage> {
    let ticks = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    let mut used = GroupUsage::default();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let path = entry?.path();
        // Processes come and go while the list is read, and most of `/proc` is not about processes.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        let Some(fields) = stat_fields(&stat) else { continue };
        if fields.group != group {
            continue;
        }
        used.cpu += Duration::from_millis(fields.ticks * 1000 / ticks);
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        used.memory += peak_memory(&status).unwrap_or(0);
    }
    Ok(used)
}

#[derive(Debug, PartialEq, Eq)]
struct StatFields {
    group: u32,
    ticks: u64,
}

/// The process group and the clock ticks of proc_pid_stat(5). The name in parentheses may hold anything.
fn stat_fields(stat: &str) -> Option<StatFields> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // Counted from the third field: process group is the 5th, then utime, stime, cutime and cstime from the 14th.
    let group = fields.get(2)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse().unwrap_or(0)).sum();
    Some(StatFields { group, ticks })
}

/// `VmHWM` of proc_pid_status(5), in bytes.
fn peak_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "17 (a) b) (c) S 1 42 42 0 -1 0 0 0 0 0 100 20 3 4 20 0 1";
        assert_eq!(stat_fields(stat), Some(StatFields { group: 42, ticks: 127 }));
        assert_eq!(stat_fields("nonsense"), None);
        assert_eq!(peak_memory("Name:\tx\nVmHWM:\t    1024 kB\n"), Some(1_048_576));
    }
}
