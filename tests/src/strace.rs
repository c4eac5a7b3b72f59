//! Faults inside the real programs: strace kills one at its n-th system call of a kind, or makes that call fail.
//!
//! What happens between two system calls cannot be seen from outside, so a kill before every call is a kill at every
//! step, and it is the same step on every run. strace counts for each thread on its own: a test asks first how many
//! calls one thread makes at most, and then goes through the numbers up to that.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::environment::TestEnvironment;
use crate::program::{self, Finished};
use crate::skip::skipped;

/// What happens at a call: SIGKILL before it is made.
pub const KILL: &str = "signal=KILL";

/// The threads that are killed, several of a process, before strace lets go of what begins again and again.
const HITS_MAX: usize = 200;

/// Which calls of a trace some of its lines are: the kind, and the number among those that the same thread makes.
pub fn points_of(trace: &str, is_one: impl Fn(&str) -> bool) -> Vec<(String, u32)> {
    let mut made = BTreeMap::new();
    let mut found = Vec::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        let number = made.entry((thread, call)).or_insert(0);
        *number += 1;
        if is_one(line) {
            found.push((call.to_owned(), *number));
        }
    }
    found
}

/// Where the run of a trace switches a target that keeps a directory for each version, each time.
pub fn switches_of(trace: &str, target: &Path) -> Vec<(String, u32)> {
    let target = format!("<{}>", target.display());
    points_of(trace, |line| line.contains(&target) && line.contains("\"current\""))
}

/// strace on a machine where it may trace.
#[derive(Debug)]
pub struct Strace<'environment> {
    environment: &'environment TestEnvironment,
}

impl<'environment> Strace<'environment> {
    /// strace, or nothing where it is not installed or may not trace; then the test is skipped.
    pub fn find(environment: &'environment TestEnvironment) -> Option<Self> {
        let mut command = environment.command("strace");
        command.args(["-f", "-qq", "--seccomp-bpf", "-o", "tmp/strace", "-e", "trace=fsync", "true"]);
        let can_trace = command.output().is_ok_and(|output| output.status.success());
        if !can_trace {
            skipped("strace is not installed, or may not trace here");
        }
        can_trace.then_some(Self { environment })
    }

    /// Runs a command to its end, and returns for each kind of call how many one thread made at most.
    #[track_caller]
    pub fn count(&self, command: &Command, calls: &[&str]) -> BTreeMap<String, u32> {
        let trace = format!("trace={}", calls.join(","));
        program::run(&mut self.command(&["--seccomp-bpf", "-e", &trace], command)).success();
        let text = fs::read(self.environment.path("tmp/strace")).expect("strace writes what it saw");
        count_calls(&String::from_utf8_lossy(&text))
    }

    /// Runs a command to its end, and returns how many calls of each kind it made on each file or directory below
    /// the machine's root. Those on a path are made by one thread, where nothing writes to it twice at a time.
    #[track_caller]
    pub fn count_on_paths(&self, command: &Command, calls: &[&str]) -> BTreeMap<(String, String), u32> {
        let trace = format!("trace={}", calls.join(","));
        program::run(&mut self.command(&["--seccomp-bpf", "-y", "-e", &trace], command)).success();
        let text = fs::read(self.environment.path("tmp/strace")).expect("strace writes what it saw");
        let root = self.environment.root().to_str().expect("paths of the tests are text");
        count_on_paths(&String::from_utf8_lossy(&text), root)
    }

    /// Runs a command to its end, and returns its calls of these kinds, as lines with the paths of descriptors.
    #[track_caller]
    pub fn trace(&self, command: &Command, calls: &[&str]) -> String {
        self.trace_to(0, command, calls)
    }

    /// The same of a command that ends with another exit status.
    #[track_caller]
    pub fn trace_to(&self, code: i32, command: &Command, calls: &[&str]) -> String {
        let trace = format!("trace={}", calls.join(","));
        program::run(&mut self.command(&["--seccomp-bpf", "-y", "-s", "200", "-e", &trace], command))
            .expect_code(code);
        self.traced()
    }

    /// Writes the calls of a process that runs already to the file that [`traced`](Self::traced) reads, until the
    /// returned value is dropped.
    pub fn watch(&self, process: u32, calls: &[&str]) -> Attached {
        let trace = format!("trace={}", calls.join(","));
        self.attach_with(process, &["-y", "-s", "200", "-o", "tmp/strace", "-e", &trace])
    }

    /// What [`watch`](Self::watch) has written.
    pub fn traced(&self) -> String {
        let text = fs::read(self.environment.path("tmp/strace")).expect("strace writes what it saw");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Runs a command, and lets its `when`-th call of a kind on a path fail with an error such as `ENOSPC`.
    #[track_caller]
    pub fn fail_on_path(
        &self,
        command: &Command,
        call: &str,
        path: &str,
        when: &str,
        error: &str,
    ) -> Finished {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when={when}"));
        program::run(&mut self.command(&["-P", path, "-e", &trace, "-e", &inject], command))
    }

    /// Runs a command, and injects `fault` when a thread makes a call for the `when`-th time; `3+` is the third time
    /// and from then on.
    #[track_caller]
    pub fn run(&self, command: &Command, call: &str, when: &str, fault: &str) -> Finished {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}:when={when}"));
        let mut options = vec!["-e", &trace, "-e", &inject];
        // Where only these calls are stopped at, strace gives out errors but forgets the signals.
        if !fault.starts_with("signal=") {
            options.push("--seccomp-bpf");
            return program::run(&mut self.command(&options, command));
        }
        self.run_until_hit_often(&options, command)
    }

    /// Runs a command to its end, with all that strace follows from there, or until so many processes were killed that it can
    /// only be one attempt of what stands by, begun again and again: it would never get past that call. Then strace
    /// lets go, and the next attempt is left alone.
    #[track_caller]
    fn run_until_hit_often(&self, options: &[&str], command: &Command) -> Finished {
        let hits = self.environment.path("tmp/hits");
        if !hits.exists() {
            program::run(self.environment.command("mkfifo").arg(&hits)).success();
        }
        let mut command = self.command_into("tmp/hits", options, command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("strace was found");
        let trace = fs::File::open(&hits).expect("strace writes what it sees");
        let lines = BufReader::new(trace).lines().map_while(Result::ok);
        if lines.filter(|line| line.ends_with("+++ killed by SIGKILL +++")).nth(HITS_MAX).is_some() {
            child.kill().expect("it has not ended");
        }
        program::finish(&command, child)
    }

    /// Kills a command before a thread makes a call for the `when`-th time, and leaves alone whatever other program it
    /// starts: one that stands by and begins with the same work again and again would never get past that call.
    #[track_caller]
    pub fn kill_alone(&self, command: &Command, call: &str, when: &str) -> Finished {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{KILL}:when={when}"));
        program::run(&mut self.command(&["-b", "execve", "-e", &trace, "-e", &inject], command))
    }

    /// Does what [`run`](Self::run) does to a process that runs already; calls are counted from now on, and the faults end with the returned
    /// value.
    pub fn attach(&self, process: u32, call: &str, when: &str, fault: &str) -> Attached {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}:when={when}"));
        self.attach_with(process, &["-o", "/dev/null", "-e", &trace, "-e", &inject])
    }

    fn attach_with(&self, process: u32, options: &[&str]) -> Attached {
        let mut command = self.environment.command("strace");
        command.arg("-f").args(options).args(["-p", &process.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("strace was found");
        let mut stderr = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let mut line = String::new();
        // It says so when it holds all threads; before that a call could pass by.
        stderr.read_line(&mut line).expect("strace says what it does");
        assert!(line.contains("attached"), "strace: {line}");
        std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
        Attached { child }
    }

    fn command(&self, options: &[&str], traced: &Command) -> Command {
        self.command_into("tmp/strace", options, traced)
    }

    fn command_into(&self, trace: &str, options: &[&str], traced: &Command) -> Command {
        let mut command = self.environment.command("strace");
        command.args(["-f", "-qq", "-o", trace]).args(options);
        command.arg(traced.get_program()).args(traced.get_args());
        for (name, value) in traced.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    }
}

/// strace on a running process.
#[derive(Debug)]
pub struct Attached {
    child: Child,
}

impl Drop for Attached {
    fn drop(&mut self) {
        // The kernel lets go of what a killed tracer holds. Asked to end, strace would wait for threads that are gone
        // when the process was killed just now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers from 1 to `count`, all of them or `max` that lie evenly, the first and the last among them.
pub fn points(count: u32, max: u32) -> Vec<u32> {
    let max = max.min(count).max(1);
    let mut points: Vec<u32> =
        (0..max).map(|point| 1 + point * count.saturating_sub(1) / (max - 1).max(1)).collect();
    points.dedup();
    points
}

/// The greatest number of calls of each kind in one thread, from lines such as `11775 fsync(14) = 0`.
fn count_calls(trace: &str) -> BTreeMap<String, u32> {
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        // A call that was interrupted in the listing goes on with `<... NAME resumed>`.
        if let Some((call, _)) = rest.trim_start().split_once('(').filter(|(call, _)| !call.contains('<')) {
            *counts.entry((thread, call)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in counts {
        let known = most.entry(call.to_owned()).or_default();
        *known = count.max(*known);
    }
    most
}

/// The number of calls for each kind and path, from lines such as `11775 fsync(14</PATH>) = 0`.
fn count_on_paths(trace: &str, root: &str) -> BTreeMap<(String, String), u32> {
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        let Some((_, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        let path = arguments.split_once('<').and_then(|(_, path)| path.split_once('>')).map(|(path, _)| path);
        if let Some(path) = path.filter(|path| path.starts_with(root)) {
            *counts.entry((call.to_owned(), path.to_owned())).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_reach_from_the_first_to_the_last() {
        for (count, max, expected) in
            [(1, 9, vec![1]), (3, 9, vec![1, 2, 3]), (100, 3, vec![1, 50, 100]), (7, 1, vec![1])]
        {
            assert_eq!(points(count, max), expected, "{count} {max}");
        }
    }

    #[test]
    fn calls_are_counted_for_each_thread() {
        let trace = "10 fsync(3) = 0\n11 fsync(3 <unfinished ...>\n11 <... fsync resumed>) = 0\n11 fsync(4) = 0\n\
                     10  write(1, \"(\", 1) = 1\n";
        let expected = BTreeMap::from([("fsync".to_owned(), 2), ("write".to_owned(), 1)]);
        assert_eq!(count_calls(trace), expected);
    }
}
