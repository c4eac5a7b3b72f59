//! A realm whose channel follows a directory of somebody else, and what that directory holds.

use std::fs;
use std::path::PathBuf;

use crate::environment::TestEnvironment;
use crate::hostile::{Reply, Request};
use crate::http::{Answer, get};
use crate::program::{self, Finished};
use crate::server::Realm;
use crate::static_files::answer;

/// What the mirror is called.
pub const NAME: &str = "files";
/// Its channel.
pub const CHANNEL: &str = "repos/files";
/// The file upstream that has the digests of all others.
pub const SUMS: &str = "SHA512SUMS";

/// A realm with such a mirror.
#[derive(Debug)]
pub struct Followed<'environment> {
    /// The machine.
    pub environment: &'environment TestEnvironment,
    /// The realm.
    pub realm: Realm,
}

impl<'environment> Followed<'environment> {
    /// Starts a server with a mirror of these upstreams, with more lines of settings.
    pub fn new(environment: &'environment TestEnvironment, sources: &[String], lines: &str) -> Self {
        let sources: Vec<String> = sources.iter().map(|source| format!("{source:?}")).collect();
        let sources = sources.join(", ");
        // An upstream may give nothing for as long as any test takes.
        let settings = format!(
            "[upstream]\nstall-seconds = 3600\n[[mirror]]\nname = \"{NAME}\"\nchannel = \"{CHANNEL}\"\n\
             sources = [{sources}]\n{lines}\n"
        );
        Self { environment, realm: Realm::start_with(environment, "realm", &settings, &[]) }
    }

    /// The same, where nobody signs the digests.
    pub fn unsigned(environment: &'environment TestEnvironment, sources: &[String]) -> Self {
        let lines = format!("kind = \"files\"\ndigests = \"{SUMS}\"\nallow-unsigned = true");
        Self::new(environment, sources, &lines)
    }

    /// The arguments of `mirror sync`.
    pub fn sync_arguments<'a>(options: &[&'a str]) -> Vec<&'a str> {
        [&["mirror", "sync", NAME], options].concat()
    }

    /// Runs `mirror sync`.
    pub fn sync(&self, options: &[&str]) -> Finished {
        self.realm.run(self.environment, &Self::sync_arguments(options))
    }

    /// What is published at a path.
    pub fn get(&self, path: &str) -> Answer {
        get(self.environment, &self.realm.url(&format!("files/{CHANNEL}/main/{path}")), None)
    }

    /// What the server says of the mirror.
    pub fn status(&self) -> serde_json::Value {
        let answer = get(self.environment, &self.realm.url("v1/mirrors"), None).expect(200);
        let said: serde_json::Value = serde_json::from_slice(&answer.body).expect("it is JSON");
        said["mirrors"][0].clone()
    }

    /// What is shown of the mirror.
    pub fn shown(&self) -> String {
        self.realm.run(self.environment, &["mirror", "status"]).success().stdout
    }

    /// Where files are while they come.
    pub fn parts(&self) -> PathBuf {
        let channel = CHANNEL.replace('/', "%2F");
        self.realm.data().join(format!("cache/follow/{channel}/parts"))
    }
}

/// Writes files to a directory of upstream, which has nothing else then, and what their digests are.
pub fn write_upstream(environment: &TestEnvironment, files: &[(&str, &[u8])]) {
    let upstream = environment.path("upstream");
    // It may not be there yet.
    let _ = fs::remove_dir_all(&upstream);
    for (name, bytes) in files {
        environment.write(&format!("upstream/{name}"), bytes);
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let mut command = environment.command("sha512sum");
    let summed = program::run(command.current_dir(&upstream).args(&names)).success().stdout;
    environment.write(&format!("upstream/{SUMS}"), summed);
}

/// Answers out of the directory of upstream, with entity tags, as servers of files do.
pub fn tagged(environment: &TestEnvironment) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let directory = environment.path("upstream");
    move |request| {
        let Reply::Ok(bytes) = answer(&directory, request) else { return Reply::Status(404, "not found") };
        let tag = format!("\"{}\"", blake3::hash(&bytes).to_hex());
        if request.headers.get("if-none-match") == Some(&tag) {
            return Reply::Raw(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}"), Vec::new());
        }
        let length = bytes.len();
        Reply::Raw(format!("HTTP/1.1 200 OK\r\nETag: {tag}\r\nContent-Length: {length}"), bytes)
    }
}
