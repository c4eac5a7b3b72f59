//! Requests by curl, and what came back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::environment::TestEnvironment;
use crate::program;

/// An answer of a server.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: String,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails the test unless this is the status.
    #[track_caller]
    #[expect(
        clippy::return_self_not_must_use,
        reason = "an assertion is a statement of its own as often as not"
    )]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}: {}", self.headers, self.text());
        self
    }
}

/// Runs curl with these arguments and reads the answer.
#[track_caller]
pub fn curl<I, S>(environment: &TestEnvironment, url: &str, arguments: I) -> Answer
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let (headers, body) = (
        environment.path(&format!("tmp/curl-{number}.headers")),
        environment.path(&format!("tmp/curl-{number}.body")),
    );
    let mut command = environment.command("curl");
    command.args(["--silent", "--show-error", "--globoff", "--path-as-is"]);
    command.arg("--dump-header").arg(&headers).arg("--output").arg(&body).args(arguments).arg(url);
    program::run(&mut command).success();
    let text = fs::read_to_string(&headers).expect("curl writes the headers of an answer");
    parse(&text, fs::read(&body).unwrap_or_default())
}

/// Asks with a token.
#[track_caller]
pub fn get(environment: &TestEnvironment, url: &str, token: Option<&str>) -> Answer {
    match token {
        Some(token) => curl(environment, url, ["--header", &format!("Authorization: Bearer {token}")]),
        None => curl(environment, url, [] as [&str; 0]),
    }
}

/// Sends a body with a method, and a token if there is one.
#[track_caller]
pub fn send(
    environment: &TestEnvironment,
    method: &str,
    url: &str,
    token: Option<&str>,
    body: &[u8],
) -> Answer {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = environment.write(&format!("tmp/body-{number}"), body);
    let data = format!("@{}", file.display());
    let mut arguments = vec!["--request".to_owned(), method.to_owned(), "--data-binary".to_owned(), data];
    arguments.extend(["--header".to_owned(), "Content-Type: application/octet-stream".to_owned()]);
    if let Some(token) = token {
        arguments.extend(["--header".to_owned(), format!("Authorization: Bearer {token}")]);
    }
    curl(environment, url, arguments)
}

/// The last of the answers in a dump: those with status 100 come before it.
fn parse(text: &str, body: Vec<u8>) -> Answer {
    let last = text.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let mut lines = last.lines();
    let mut status = lines.next().unwrap_or_default().split_whitespace();
    let version = status.next().unwrap_or_default().to_owned();
    let status = status.next().and_then(|status| status.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Answer { status: status.unwrap_or_else(|| panic!("no status in {text:?}")), version, headers, body }
}
