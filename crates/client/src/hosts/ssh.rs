//! One run of ssh: what it says is taken as it comes, and it ends when its time is over.
//!
//! It carries nothing but a command line, and the bytes of a file where it is to place one: no terminal, no agent, no forwarded ports, and no question that somebody would
//! have to answer. It has a process group of its own, so that Ctrl-C reaches it by way of this program alone, which then
//! knows what it has ended.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::choose::Host;
use super::heard::{Heard, Message, shortened};
use super::outcome::Ended;
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;

/// The program.
const SSH: &str = "ssh";
/// How it is always run. A host that does not answer for a minute is given up.
const OPTIONS: [&str; 13] = [
    "-T",
    "-a",
    "-x",
    "-o",
    "BatchMode=yes",
    "-o",
    "ClearAllForwardings=yes",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "ServerAliveCountMax=4",
];
/// What keeps it from using a connection that is there already.
const NEW_CONNECTION: [&str; 4] = ["-o", "ControlMaster=no", "-o", "ControlPath=none"];
/// Secrets of this host that no other one is to see, whatever ssh is configured to send.
const SECRETS: [&str; 3] = ["SMART_SYNC_TOKEN", "SMART_SYNC_PASSPHRASE", "GITHUB_TOKEN"];
/// What is kept of what ssh itself says: the end.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// What is kept of an answer: the beginning.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long ssh may take to end when it is asked to, and how long is waited for what it said last.
const GRACE: Duration = Duration::from_secs(5);

/// Whether a connection that is open already may be used, where ssh is configured to keep them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    Any,
    New,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) ended: Ended,
    pub(super) heard: Heard,
    /// The last line that ssh, or the shell on the host, complained with.
    pub(super) complaint: Option<String>,
}

/// What a host answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ended: Ended,
    /// What came on standard output.
    pub(super) output: Vec<u8>,
    pub(super) complaint: Option<String>,
}

/// Runs a command line of a host that is no run of this program, with a file as what it reads.
pub(super) async fn ask(
    host: &Host,
    line: &OsStr,
    input: Option<File>,
    time: Duration,
    interrupt: &Interrupt,
) -> io::Result<Answer> {
    let child = start(host, line, input, Connection::Any)?;
    let mut output = Vec::new();
    let take = |bytes: &[u8]| {
        let room = ANSWER_BYTES_MAX - output.len();
        output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    };
    let (ended, complaint) = follow(child, time, interrupt, take).await?;
    Ok(Answer { ended, output, complaint })
}

/// What to say where ssh itself could not be started.
pub(super) fn not_run(error: io::Error, host: &Host) -> Failure {
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::message(Exit::MissingDependency, "the program ssh is not installed")
            .hint("install OpenSSH; on Debian its client is in the package openssh-client");
    }
    Failure::from(error).context(format!("running ssh for {}", host.name))
}

/// Runs a command line on a host.
pub(super) async fn run(
    host: &Host,
    line: &OsStr,
    connection: Connection,
    time: Duration,
    interrupt: &Interrupt,
    mut show: impl FnMut(Message),
) -> io::Result<Ran> {
    let child = start(host, line, None, connection)?;
    let mut heard = Heard::default();
    let (ended, complaint) = follow(child, time, interrupt, |bytes| heard.feed(bytes, &mut show)).await?;
    heard.end(&mut show);
    Ok(Ran { ended, heard, complaint })
}

/// Follows a run to its end, or to that of its time; what it says is taken as it comes. Returns what it complained with.
async fn follow(
    mut child: Child,
    time: Duration,
    interrupt: &Interrupt,
    take: impl FnMut(&[u8]),
) -> io::Result<(Ended, Option<String>)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut complaint = Vec::new();
    let ended = {
        let reading = async { tokio::join!(read(out, take), keep_end(err, &mut complaint)) };
        let mut reading = std::pin::pin!(reading);
        let ended = tokio::select! {
            biased;
            () = interrupt.requested() => None,
            () = tokio::time::sleep(time) => Some(Ended::TimedOut),
            status = wait(&mut child, &mut reading) => Some(ended_as(status?)),
        };
        let ended = ended.unwrap_or(Ended::Interrupted);
        if matches!(ended, Ended::TimedOut | Ended::Interrupted) {
            end(&mut child).await;
        }
        ended
    };
    let complaint = String::from_utf8_lossy(&complaint);
    let complaint = complaint.lines().map(str::trim).rfind(|line| !line.is_empty()).map(shortened);
    Ok((ended, complaint))
}

fn start(host: &Host, line: &OsStr, input: Option<File>, connection: Connection) -> io::Result<Child> {
    let mut command = Command::new(SSH);
    command.args(OPTIONS);
    if connection == Connection::New {
        command.args(NEW_CONNECTION);
    }
    for secret in SECRETS {
        command.env_remove(secret);
    }
    command.arg("--").arg(host.destination.as_str()).arg(line);
    command.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true).spawn()
}

/// Waits for the end of ssh and of what it says. What it has left in the background, such as a connection that is kept,
/// may hold the pipes open, and is not waited for.
async fn wait(
    child: &mut Child,
    reading: &mut (impl Future<Output = ((), ())> + Unpin),
) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => {
            let _ = timeout(GRACE, reading).await;
            status
        }
        _ = &mut *reading => child.wait().await,
    }
}

fn ended_as(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, _) => Ended::Signalled,
    }
}

/// Ends ssh, and what it has started to reach the host.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    for signal in [Signal::TERM, Signal::KILL] {
        // It has not been waited for, so that the number is still its own.
        group.map(|group| kill_process_group(group, signal));
        if timeout(GRACE, child.wait()).await.is_ok() {
            break;
        }
    }
}

async fn keep_end(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    read(from, |bytes| {
        kept.extend_from_slice(bytes);
        kept.drain(..kept.len().saturating_sub(COMPLAINT_BYTES_MAX));
    })
    .await;
}

/// Reads to the end; what cannot be read has ended.
async fn read(from: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        take(&buffer[..length]);
    }
}
