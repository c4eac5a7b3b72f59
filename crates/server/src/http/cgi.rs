//! Answers that another program gives, by the Common Gateway Interface (RFC 3875).
//!
//! What the program is told is chosen by whoever calls this; nothing of a request is passed on by itself. Its input is
//! whole before it starts, so that a client that sends slowly holds up nobody. It ends with the answer, with the client,
//! or when it says nothing for too long.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::stream;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::Problem;
use crate::child::ChildGroup;

/// How long a program may say nothing while somebody listens.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// How long a program may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(3600);
/// The longest headers.
const HEADERS_BYTES_MAX: usize = 8 << 10;
/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;
/// How much of what a program complains about is kept.
const COMPLAINT_BYTES: u64 = 4096;
/// The headers that a program may set.
const HEADERS: &[HeaderName] =
    &[header::CONTENT_TYPE, header::CACHE_CONTROL, header::EXPIRES, header::PRAGMA];

/// A program has failed, or said something that is no answer.
#[derive(Debug)]
pub(super) struct Failed {
    /// How it ended, if it did.
    pub(super) status: Option<i32>,
    /// What it said about it.
    pub(super) complaint: Vec<u8>,
}

/// Told when a program fails, also when a part of its answer is out already.
pub(super) type OnFailure = Box<dyn FnOnce(Failed) + Send + 'static>;

/// Starts a program and answers with what it says. `guard` is let go when the answer is over.
pub(super) async fn answer(
    mut command: Command,
    input: Vec<u8>,
    guard: impl Send + 'static,
    on_failure: OnFailure,
) -> Result<Response, Problem> {
    let fault =
        |error: std::io::Error| Problem::Fault(anyhow::Error::new(error).context("starting a program"));
    let complaints = sealed_file(COMPLAINT_BYTES).map_err(fault)?;
    command.stdin(file_of(&input).map_err(fault)?).stdout(Stdio::piped());
    command.stderr(complaints.try_clone().map_err(fault)?);
    let mut child = ChildGroup::start(&mut command).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Problem::Busy("the program that answers this is not installed on the server")
        }
        _ => fault(error),
    })?;
    drop(command);
    let output =
        child.child().stdout.take().ok_or_else(|| fault(std::io::Error::other("it has no output")))?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(fault)?;
    let mut answering = Running { child, output, complaints, until: Instant::now() + ANSWER_MAX };
    let mut said = BytesMut::new();
    let head = loop {
        if let Some(head) = parse_head(&said) {
            break head;
        }
        let is_too_long = said.len() > HEADERS_BYTES_MAX;
        if is_too_long || answering.read(&mut said).await.unwrap_or(0) == 0 {
            on_failure(answering.failed().await);
            return Err(Problem::Busy("the program that answers this has failed; try again"));
        }
    };
    let rest = said.split_off(head.length).freeze();
    let mut response = Response::new(body(answering, rest, guard, on_failure));
    *response.status_mut() = head.status;
    for (name, value) in head.headers {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// A program while it answers.
struct Running {
    child: ChildGroup,
    output: pipe::Receiver,
    complaints: File,
    until: Instant,
}

impl Running {
    async fn read(&mut self, into: &mut BytesMut) -> std::io::Result<usize> {
        into.reserve(READ_BYTES);
        let reading = timeout(SILENCE_MAX, self.output.read_buf(into));
        match timeout_at(self.until, reading).await {
            Ok(Ok(read)) => read,
            _ => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the program took too long")),
        }
    }

    /// Whether it has ended well.
    async fn is_well(&self) -> bool {
        matches!(timeout(SILENCE_MAX, self.child.ended()).await, Ok(Ok(Some(0))))
    }

    async fn failed(mut self) -> Failed {
        // One that still runs is ended with this value.
        let status = timeout(Duration::from_secs(1), self.child.ended()).await;
        let mut complaint = Vec::new();
        // What cannot be read is not said.
        let _ = self.complaints.rewind().and_then(|()| self.complaints.read_to_end(&mut complaint));
        complaint.retain(|byte| *byte != 0);
        Failed { status: status.ok().and_then(Result::ok).flatten(), complaint }
    }
}

fn body(running: Running, rest: Bytes, guard: impl Send + 'static, on_failure: OnFailure) -> Body {
    let first = (!rest.is_empty()).then_some(rest);
    let state = (running, first, guard, on_failure);
    Body::from_stream(stream::try_unfold(Some(state), |state| async move {
        let Some((mut running, first, guard, on_failure)) = state else { return Ok(None) };
        if let Some(first) = first {
            return Ok(Some((first, Some((running, None, guard, on_failure)))));
        }
        let mut said = BytesMut::new();
        let read = running.read(&mut said).await;
        match read {
            Ok(0) if running.is_well().await => Ok(None),
            Ok(read) if read > 0 => Ok(Some((said.freeze(), Some((running, None, guard, on_failure))))),
            read => {
                on_failure(running.failed().await);
                // The status is out already: all that is left is to break the connection off.
                Err(read.err().unwrap_or_else(|| std::io::Error::other("the program has failed")))
            }
        }
    }))
}

/// What stands in front of a body.
#[derive(Debug, PartialEq)]
struct Head {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Where the body begins.
    length: usize,
}

/// Reads the headers, once all of them are there. Those that a program has no business with are left out.
fn parse_head(said: &[u8]) -> Option<Head> {
    let mut head = Head { status: StatusCode::OK, headers: Vec::new(), length: 0 };
    loop {
        let line = &said[head.length..];
        let end = line.iter().position(|byte| *byte == b'\n')?;
        head.length += end + 1;
        let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
        if line.is_empty() {
            return Some(head);
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"status") {
            head.status = value.get(..3).and_then(|code| StatusCode::from_bytes(code).ok())?;
        } else if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            && HEADERS.contains(&name)
        {
            head.headers.push((name, value));
        }
    }
}

/// A file in memory with these bytes, to be read from its beginning.
fn file_of(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// A file in memory that holds no more than this, whatever is written to it.
fn sealed_file(bytes: u64) -> std::io::Result<File> {
    let file = memfd_create("complaints", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, bytes)?;
    fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_when_they_are_whole_and_only_those_that_are_known_count() {
        let said = b"Status: 404 Not Found\r\nContent-Type: text/plain\r\nSet-Cookie: a=b\r\n\r\nbody";
        let head = parse_head(said).unwrap();
        assert_eq!((head.status, &said[head.length..]), (StatusCode::NOT_FOUND, &b"body"[..]));
        assert_eq!(head.headers, [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
        assert_eq!(parse_head(b"\n").unwrap().status, StatusCode::OK);
        for part in [&b""[..], b"Status: 200 OK\r\n", b"Status: nonsense\r\n\r\n", b"no end"] {
            assert_eq!(parse_head(part), None, "{}", part.escape_ascii());
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    async fn said(response: Response) -> Result<String, axum::Error> {
        axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn a_program_reads_its_input_and_what_it_says_is_the_answer() {
        let script = "printf 'Status: 201 Made\\r\\nContent-Type: text/x-test\\r\\n\\r\\n'; cat";
        let answer = answer(shell(script), b"input".to_vec(), (), Box::new(|_| panic!("it is well"))).await;
        let response = answer.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::CREATED, &HeaderValue::from_static("text/x-test"))
        );
        assert_eq!(said(response).await.unwrap(), "input");
    }

    #[tokio::test]
    async fn a_program_that_fails_breaks_its_answer_off() {
        let (say, heard) = std::sync::mpsc::channel();
        let script = "printf '\\n'; echo begun; head -c 100000 /dev/zero | tr '\\0' 'x' >&2; exit 3";
        let response =
            answer(shell(script), Vec::new(), (), Box::new(move |failed| say.send(failed).unwrap()))
                .await
                .unwrap();
        assert!(said(response).await.is_err());
        let failed = heard.recv().unwrap();
        assert_eq!((failed.status, failed.complaint.len() <= 4096), (Some(3), true));
    }

    #[tokio::test]
    async fn a_program_that_says_nothing_sensible_is_no_answer() {
        for script in ["exit 1", "yes | head -c 100000"] {
            let refused = answer(shell(script), Vec::new(), (), Box::new(|_| ())).await;
            assert!(matches!(refused, Err(Problem::Busy(_))), "{script}");
        }
    }

    #[tokio::test]
    async fn a_program_ends_when_nobody_listens_any_more() {
        let (guard, free) = std::sync::mpsc::channel::<()>();
        let script = "printf '\\n'; echo $$; sleep 1000 & wait";
        let response = answer(shell(script), Vec::new(), guard, Box::new(|_| ())).await.unwrap();
        let mut body = response.into_body().into_data_stream();
        let first = futures::StreamExt::next(&mut body).await.unwrap().unwrap();
        let id: i32 = String::from_utf8_lossy(&first).trim().parse().unwrap();
        drop(body);
        assert!(free.recv().is_err(), "what was held is let go");
        let group = rustix::process::Pid::from_raw(id).unwrap();
        // What was killed is there until somebody has reaped it; the kernel does that for orphans, init for us.
        while rustix::process::test_kill_process_group(group).is_ok() && !is_dead(id) {
            tokio::task::yield_now().await;
        }
    }

    fn is_dead(id: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']) || rest.is_empty())
    }
}
