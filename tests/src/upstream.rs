//! A realm that mirrors somebody else: a server whose channel of distfiles has nothing, an ebuild tree that names some,
//! and upstreams that give them well or badly.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::environment::TestEnvironment;
use crate::hostile::{HostileServer, Reply, Request};
use crate::http::{Answer, get};
use crate::program;
use crate::server::Realm;

/// What the mirror's channel is called.
pub const CHANNEL: &str = "repos/distfiles";
/// The channel of the ebuild tree.
pub const TREE: &str = "repos/gentoo";

/// A realm with a mirror.
#[derive(Debug)]
pub struct Mirroring<'environment> {
    /// The machine.
    pub environment: &'environment TestEnvironment,
    /// The realm.
    pub realm: Realm,
}

impl<'environment> Mirroring<'environment> {
    /// Starts a server that mirrors these upstreams, and publishes an ebuild tree that names these files. An upstream may
    /// give nothing for as long as any test takes.
    pub fn new(
        environment: &'environment TestEnvironment,
        sources: &[String],
        files: &[(&str, &[u8])],
    ) -> Self {
        Self::with_stall(environment, sources, files, 3600)
    }

    /// The same, where an upstream may give nothing for so many seconds.
    pub fn with_stall(
        environment: &'environment TestEnvironment,
        sources: &[String],
        files: &[(&str, &[u8])],
        seconds: u64,
    ) -> Self {
        let sources: Vec<String> = sources.iter().map(|source| format!("{source:?}")).collect();
        Self::with(environment, &format!("sources = [{}]", sources.join(", ")), files, seconds)
    }

    /// The same, where a line of the settings says what the upstreams are.
    pub fn with(
        environment: &'environment TestEnvironment,
        line: &str,
        files: &[(&str, &[u8])],
        stall_seconds: u64,
    ) -> Self {
        let scene = Self::start(environment, TREE, line, stall_seconds, &[]);
        scene.name_files("files", files);
        scene
    }

    /// Starts a server with a mirror that reads somewhere which files there are, with more arguments of `init`.
    pub fn start(
        environment: &'environment TestEnvironment,
        names_from: &str,
        line: &str,
        stall_seconds: u64,
        arguments: &[&str],
    ) -> Self {
        let settings = format!(
            "[upstream]\nstall-seconds = {stall_seconds}\n[[mirror]]\nname = \"upstream\"\nchannel = \"{CHANNEL}\"\n\
             kind = \"distfiles\"\nnames-from = \"{names_from}\"\n{line}\n"
        );
        Self { environment, realm: Realm::start_with(environment, "realm", &settings, arguments) }
    }

    /// Adds a package whose Manifest names these files to the ebuild tree, and publishes it.
    pub fn name_files(&self, package: &str, files: &[(&str, &[u8])]) {
        write_manifest(self.environment, package, files);
        let tree = self.environment.path("tree");
        self.realm.publish_local(self.environment, TREE, "main", &tree, &[]).success();
    }

    /// What the server answers for a file of the mirror, once it knows which files there are.
    pub fn get(&self, path: &str) -> Answer {
        loop {
            let answer = get(self.environment, &self.url(path), None);
            if answer.status != 503 || !answer.text().contains("being learnt") {
                return answer;
            }
        }
    }

    /// What the server says of its mirror, once so many files are kept.
    pub fn status(&self, kept: u64) -> serde_json::Value {
        loop {
            let answer = get(self.environment, &self.realm.url("v1/mirrors"), None).expect(200);
            let said: serde_json::Value = serde_json::from_slice(&answer.body).expect("it is JSON");
            if said["mirrors"][0]["kept_files"] == kept {
                return said["mirrors"][0].clone();
            }
        }
    }

    /// The URL of a file of the mirror.
    pub fn url(&self, path: &str) -> String {
        self.realm.url(&format!("{CHANNEL}/{path}"))
    }

    /// Stops the server and starts it again.
    #[must_use]
    pub fn restart(self) -> Self {
        let stop = |server: crate::server::Server| assert!(server.stop().success());
        Self { realm: self.realm.restart(self.environment, stop), ..self }
    }

    /// Begins to ask for a file of the mirror, and returns as soon as the head of the answer is there.
    pub fn begin(&self, path: &str, headers: &str) -> io::Result<Download> {
        let address = self.realm.server().address();
        let mut connection = TcpStream::connect(address)?;
        write!(
            connection,
            "GET /{CHANNEL}/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"
        )?;
        let mut body = BufReader::new(connection);
        let mut head = String::new();
        while body.read_line(&mut head)? > 2 {}
        Ok(Download { head, body })
    }
}

/// Writes the Manifest of a package of the ebuild tree, which names these files.
pub fn write_manifest(environment: &TestEnvironment, package: &str, files: &[(&str, &[u8])]) {
    let lines: Vec<String> =
        files.iter().map(|(name, bytes)| manifest_line(environment, name, bytes)).collect();
    environment.write(&format!("tree/app-test/{package}/Manifest"), lines.concat());
}

/// The line of a Manifest for a file, with the digests that other programs compute.
fn manifest_line(environment: &TestEnvironment, name: &str, bytes: &[u8]) -> String {
    environment.write("tmp/digested", bytes);
    let digest = |program: &str| {
        let said = program::run(environment.command(program).arg("tmp/digested")).success().stdout;
        said.split_whitespace().next().unwrap_or_default().to_owned()
    };
    format!("DIST {name} {} BLAKE2B {} SHA512 {}\n", bytes.len(), digest("b2sum"), digest("sha512sum"))
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Download {
    /// The status and the headers.
    pub head: String,
    body: BufReader<TcpStream>,
}

impl Download {
    /// The next bytes of the body.
    pub fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.body.read_exact(&mut bytes).map(|()| bytes)
    }
}

/// An upstream without a layout, which answers for its files as it is told.
pub fn upstream(behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> HostileServer {
    HostileServer::start(without_layout(behaviour))
}

/// The behaviour of an upstream that answers for its files in this way, and has no layout.
pub fn without_layout(
    behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| {
        let is_layout = request.path.ends_with("/layout.conf");
        if is_layout { Reply::Status(404, "not found") } else { behaviour(request) }
    }
}

/// How often an upstream was asked for a file since the last time.
pub fn asked(upstream: &HostileServer, name: &str) -> usize {
    upstream.take_requests().iter().filter(|request| request.path.ends_with(&format!("/{name}"))).count()
}
