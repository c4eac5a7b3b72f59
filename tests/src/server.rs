//! A running server, and a realm with one.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::environment::TestEnvironment;
use crate::program::{self, describe};

/// How long a server may take to say where it listens, on the slowest machine that should still pass.
const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// A process that serves, in a process group of its own that is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a command and waits for it to print `listening on URL` on standard error.
    pub fn start(command: &mut Command) -> Self {
        let described = describe(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {described}: {error}"));
        let stderr = child.stderr.take().expect("standard error is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, receiver) = mpsc::channel();
        let copy = Arc::clone(&log);
        std::thread::spawn(move || follow(stderr, &copy, &sender));
        let mut server = Self { child, url: String::new(), log };
        match receiver.recv_timeout(READY_TIMEOUT) {
            Ok(url) => server.url = url,
            Err(RecvTimeoutError::Disconnected) => {
                panic!("{described} ended before it listened:\n{}", server.log());
            }
            Err(RecvTimeoutError::Timeout) => {
                panic!("{described} did not listen within {READY_TIMEOUT:?}:\n{}", server.log());
            }
        }
        server
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, address)| address)
    }

    /// The process, which is also its group.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Whether it answers a request.
    pub fn answers(&self) -> bool {
        let asked = TcpStream::connect(self.address()).and_then(|mut connection| {
            connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            connection.read(&mut [0; 16])
        });
        asked.is_ok_and(|length| length > 0)
    }

    /// Whether it runs. One that is dead and traced may not be waited for yet.
    pub fn is_alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
    }

    /// What it has printed on standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks it to stop, as an administrator does, and waits until it has.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().expect("a child that was not waited for can be")
    }

    /// Ends it at once, as a power failure does.
    pub fn kill(self) {
        drop(self);
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // The group is gone when the process was waited for and had no children: nothing is left to signal.
        let _ = kill_process_group(group.expect("a process id is a positive number"), signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An id that was waited for may belong to somebody else by now.
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Copies standard error into the log, and reports the first URL that it says it listens on.
fn follow(stderr: impl Read, log: &Mutex<String>, ready: &Sender<String>) {
    let mut ready = Some(ready);
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&line);
        log.push('\n');
        drop(log);
        if let Some(url) = listening_url(&line)
            && let Some(ready) = ready.take()
        {
            // Nobody waits any longer when starting was given up.
            let _ = ready.send(url.to_owned());
        }
    }
}

fn listening_url(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("listening on ")?;
    let end =
        rest.find(|character: char| character.is_whitespace() || character == '"').unwrap_or(rest.len());
    let url = &rest[..end];
    url.contains("://").then_some(url)
}

/// A realm on a server of its own: keys, log, and a token that may publish.
#[derive(Debug)]
pub struct Realm {
    data: PathBuf,
    fingerprint: String,
    token: String,
    server: Server,
}

impl Realm {
    /// The name that every realm here has.
    pub const ORIGIN: &str = "test.example";

    /// Makes a realm below `directory` and serves it. Its publish key may publish to `repos/*`.
    pub fn start(environment: &TestEnvironment, directory: &str) -> Self {
        Self::start_with(environment, directory, "", &[])
    }

    /// Makes a realm whose `server.toml` ends with these lines, with more arguments of `init`, and serves it.
    pub fn start_with(
        environment: &TestEnvironment,
        directory: &str,
        settings: &str,
        arguments: &[&str],
    ) -> Self {
        let data = environment.path(directory);
        let fingerprint = initialise_with(environment, &data, Self::ORIGIN, arguments);
        if !settings.is_empty() {
            add_settings(&data, settings);
        }
        let token = create_token(environment, &data, "publish", "repos/");
        let server = Server::start(&mut serve(environment, &data));
        Self { data, fingerprint, token, server }
    }

    /// The server's data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// One of the keys that `init` made: `root`, `log`, `clock` or `publish`.
    pub fn key(&self, name: &str) -> PathBuf {
        self.data.join("keys").join(format!("{name}.key"))
    }

    /// The first root document's digest, `sha256:…`, for `trust add --root`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A token with the verb `publish` for `repos/`.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The running server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until something else has ended the server.
    pub fn wait_until_dead(&mut self) {
        self.server.child.wait().expect("a child that was not waited for can be");
    }

    /// Starts the server again on its port, once it is dead.
    #[must_use]
    pub fn restart_at_its_address(self, environment: &TestEnvironment) -> Self {
        let mut command = environment.server();
        command.arg("serve").arg("--data").arg(&self.data).args(["--listen", self.server.address()]);
        Self { server: Server::start(&mut command), ..self }
    }

    /// The URL of something on the server; `path` begins without a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.server.url())
    }

    /// Stops serving, and leaves the data as it is.
    pub fn end(self, end: impl FnOnce(Server)) -> PathBuf {
        end(self.server);
        self.data
    }

    /// Runs a subcommand of the server on the realm's data, such as `["log", "audit"]`.
    pub fn run(&self, environment: &TestEnvironment, arguments: &[&str]) -> program::Finished {
        run_on(environment, &self.data, arguments)
    }

    /// Publishes a directory, or a revision of a repository, from the server's own machine.
    #[track_caller]
    pub fn publish_local(
        &self,
        environment: &TestEnvironment,
        channel: &str,
        reference: &str,
        source: &Path,
        options: &[&str],
    ) -> program::Finished {
        let source = source.to_str().expect("paths of the tests are text");
        let mut arguments = vec!["publish-local", "--channel", channel, "--ref", reference];
        arguments.extend(options);
        arguments.push(source);
        self.run(environment, &arguments)
    }

    /// Ends the server with `end`, and starts it again on the same data and another port.
    #[must_use]
    pub fn restart(self, environment: &TestEnvironment, end: impl FnOnce(Server)) -> Self {
        end(self.server);
        let server = Server::start(&mut serve(environment, &self.data));
        Self { server, ..self }
    }
}

/// Runs `init`, and returns the root's fingerprint from what it printed.
pub fn initialise(environment: &TestEnvironment, data: &Path, origin: &str) -> String {
    initialise_with(environment, data, origin, &[])
}

fn initialise_with(environment: &TestEnvironment, data: &Path, origin: &str, arguments: &[&str]) -> String {
    let mut command = environment.server();
    command.arg("init").arg("--data").arg(data).args(["--origin", origin, "--publish", "repos/*"]);
    word_of(command.args(arguments), "sha256:")
}

/// Changes settings in `server.toml`: a line takes the place of the one with its key in its table.
fn add_settings(data: &Path, settings: &str) {
    let path = data.join("server.toml");
    let old = fs::read_to_string(&path).expect("init writes the settings");
    let mut tables = tables_of(&old);
    for (name, lines) in tables_of(settings) {
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let is_new = |line: &&str| !lines.iter().any(|new| key(new) == key(line));
        match tables.iter_mut().find(|(found, _)| *found == name) {
            Some((_, old)) => *old = old.iter().copied().filter(is_new).chain(lines.clone()).collect(),
            None => tables.push((name, lines)),
        }
    }
    let texts: Vec<String> =
        tables.iter().map(|(name, lines)| format!("{name}\n{}\n", lines.join("\n"))).collect();
    fs::write(&path, texts.concat()).expect("the settings can be written");
}

/// The lines of each table; those of the first one, which has no name, come before all others.
fn tables_of(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut tables = vec![("", Vec::new())];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match tables.last_mut() {
            Some((_, lines)) if !line.starts_with('[') => lines.push(line),
            _ => tables.push((line, Vec::new())),
        }
    }
    tables
}

/// Makes everything in a store look as old as it would after hours, for collecting garbage.
pub fn age_marks(data: &Path) {
    let catalogue = data.join("store/catalogue.sqlite");
    let catalogue = rusqlite::Connection::open(catalogue).expect("the catalogue can be opened");
    let age = "UPDATE packs SET touched = touched - 10000, condemned = condemned - 10000";
    catalogue.execute_batch(age).expect("the catalogue can be written");
}

/// Runs `token create`, and returns the token that it printed. Its name is `VERB PREFIX`.
pub fn create_token(environment: &TestEnvironment, data: &Path, verb: &str, prefix: &str) -> String {
    let mut command = environment.server();
    command.args(["token", "create"]).arg("--data").arg(data);
    command.args(["--name", &format!("{verb} {prefix}"), "--verb", verb, "--prefix", prefix]);
    word_of(&mut command, "sst_")
}

/// Runs a subcommand of the server on a data directory.
pub fn run_on(environment: &TestEnvironment, data: &Path, arguments: &[&str]) -> program::Finished {
    program::run(environment.server().args(arguments).arg("--data").arg(data))
}

/// The command that serves a realm on a free port.
pub fn serve(environment: &TestEnvironment, data: &Path) -> Command {
    let mut command = environment.server();
    command.arg("serve").arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]);
    command
}

/// Runs a command, and returns the first word of its output that begins in this way.
fn word_of(command: &mut Command, beginning: &str) -> String {
    let finished = program::run(command).success();
    let found = finished.stdout.split_whitespace().find(|word| word.starts_with(beginning));
    found
        .unwrap_or_else(|| panic!("{} printed no {beginning}…:\n{}", finished.command, finished.stdout))
        .to_owned()
}
