//! Whether a host is healthy: the checks of a target.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::Handle;

use super::process;
use crate::config::Span;
use crate::interrupt::Interrupt;

/// Lines of a failed command that are shown.
const LINES: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
const RETRIES_MAX: u32 = 10_000;

/// A check, as it is configured. Exactly one of the kinds is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Check {
    /// What it is called in messages.
    pub name: Option<String>,
    /// A program and its arguments, which ends with 0 where all is well.
    pub command: Option<Vec<String>>,
    /// A URL that is answered with a status of 200 to 299.
    pub http: Option<String>,
    /// A `HOST:PORT` that takes connections.
    pub tcp: Option<String>,
    /// A unit of systemd that is active.
    pub unit: Option<String>,
    /// The realm that the target follows is asked, and answers what can be believed.
    #[serde(default)]
    pub server: bool,
    /// How long it is waited before the first attempt.
    pub grace: Option<Span>,
    /// How long between two attempts.
    pub interval: Option<Span>,
    /// How often it is tried again.
    pub retries: Option<u32>,
    /// How long one attempt may take.
    pub timeout: Option<Span>,
}

/// What a check looks at.
enum Looks<'c> {
    Command(&'c [String]),
    Http(&'c str),
    Tcp(&'c str),
    Unit(&'c str),
    Server,
}

impl Check {
    /// Why this is not a check, if it is not.
    pub fn mistake(&self) -> Option<String> {
        let named = [self.command.is_some(), self.http.is_some(), self.tcp.is_some(), self.unit.is_some()];
        if named.into_iter().chain([self.server]).filter(|named| *named).count() != 1 {
            return Some("a check is one of `command`, `http`, `tcp`, `unit` and `server`".to_owned());
        }
        if self.command.as_ref().is_some_and(Vec::is_empty) {
            return Some("the command of a check names a program".to_owned());
        }
        if let Some(url) = &self.http
            && !reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        {
            return Some(format!(
                "`{url}` is not the address of something that is reached over http: or https:"
            ));
        }
        if let Some(address) = &self.tcp
            && address
                .rsplit_once(':')
                .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            return Some(format!("`{address}` is not HOST:PORT"));
        }
        (self.retries.unwrap_or_default() > RETRIES_MAX)
            .then(|| format!("a check is tried again at most {RETRIES_MAX} times"))
    }

    fn looks(&self) -> Option<Looks<'_>> {
        let command = self.command.as_deref().map(Looks::Command);
        let http = self.http.as_deref().map(Looks::Http);
        let (tcp, unit) = (self.tcp.as_deref().map(Looks::Tcp), self.unit.as_deref().map(Looks::Unit));
        command.or(http).or(tcp).or(unit).or(self.server.then_some(Looks::Server))
    }

    /// What it is called.
    pub fn title(&self) -> String {
        match (&self.name, self.looks()) {
            (Some(name), _) => name.clone(),
            (None, Some(Looks::Command(command))) => command.join(" "),
            (None, Some(Looks::Http(what) | Looks::Tcp(what) | Looks::Unit(what))) => what.to_owned(),
            (None, Some(Looks::Server)) => "the server answers".to_owned(),
            (None, None) => String::new(),
        }
    }

    /// Looks until all is well, or until it was tried often enough. Returns why it is not well. `prepare` tells commands
    /// what they have to know, `ask_server` asks the realm of the target.
    pub fn run(
        &self,
        runtime: &Handle,
        interrupt: &Interrupt,
        prepare: impl Fn(&mut Command),
        ask_server: impl Fn(Duration) -> Result<(), String>,
    ) -> Result<(), String> {
        let span = |span: Option<Span>, usual| span.map_or(usual, |span| span.0);
        let (interval, timeout) = (span(self.interval, INTERVAL), span(self.timeout, TIMEOUT));
        let mut wait = span(self.grace, Duration::ZERO);
        let mut last = String::new();
        for _ in 0..=self.retries.unwrap_or(RETRIES) {
            if !wait.is_zero() && runtime.block_on(is_interrupted_within(interrupt, wait)) {
                return Err("it was interrupted".to_owned());
            }
            wait = interval;
            match self.look(timeout, runtime, interrupt, &prepare, &ask_server) {
                Ok(()) => return Ok(()),
                Err(reason) => last = reason,
            }
            if interrupt.is_requested() {
                return Err("it was interrupted".to_owned());
            }
        }
        Err(last)
    }

    fn look(
        &self,
        timeout: Duration,
        runtime: &Handle,
        interrupt: &Interrupt,
        prepare: &impl Fn(&mut Command),
        ask_server: &impl Fn(Duration) -> Result<(), String>,
    ) -> Result<(), String> {
        match self.looks() {
            Some(Looks::Command(words)) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                prepare(&mut command);
                run_command(&mut command, timeout, interrupt)
            }
            Some(Looks::Unit(unit)) => {
                let mut command = Command::new("systemctl");
                run_command(command.args(["is-active", "--", unit]), timeout, interrupt)
            }
            Some(Looks::Http(url)) => runtime.block_on(get(url, timeout)),
            Some(Looks::Tcp(address)) => connect(address, timeout),
            Some(Looks::Server) => ask_server(timeout),
            None => Err("it says nothing to look at".to_owned()),
        }
    }
}

async fn is_interrupted_within(interrupt: &Interrupt, wait: Duration) -> bool {
    tokio::select! {
        () = interrupt.requested() => true,
        () = tokio::time::sleep(wait) => false,
    }
}

fn run_command(command: &mut Command, timeout: Duration, interrupt: &Interrupt) -> Result<(), String> {
    let ran = process::run(command, timeout, interrupt)
        .map_err(|error| format!("{} cannot be started: {error}", command.get_program().to_string_lossy()))?;
    if ran.is_success() {
        return Ok(());
    }
    let lines = ran.last_lines(LINES).join(" / ");
    let said = if lines.is_empty() { String::new() } else { format!(": {lines}") };
    Err(format!("it {}{said}", ran.how(timeout)))
}

async fn get(url: &str, timeout: Duration) -> Result<(), String> {
    let client = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
    let client = client.build().map_err(|error| error.to_string())?;
    // The body is not read: it has no end that could be relied on.
    let answer = client.get(url).send().await.map_err(|error| {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        format!("it does not answer: {reason}")
    })?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answers with {status}")) }
}

fn connect(address: &str, timeout: Duration) -> Result<(), String> {
    let found = address.to_socket_addrs().map_err(|error| format!("its address is not known: {error}"))?;
    let mut last = "its address is not known".to_owned();
    for address in found {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("it takes no connections: {error}"),
        }
    }
    Err(last)
}
