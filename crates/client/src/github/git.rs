//! The way around the API: a shallow fetch with the git program into a private bare repository.
//!
//! The repository holds nothing but objects; git reads no configuration of the user or the system, runs no hook, asks
//! no question, and speaks only the protocol of the address. What it hands over is proven again here, as if it came from
//! the network, because that is where it came from.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;

use base64::Engine;
use futures::future::{Either, select};
use reqwest::Url;
use smart_sync_store::id::CommitId;
use smart_sync_store::manifest::entry::GitMode;
use smart_sync_sync::name::{RefName, RefQuery, TypedRef};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdout, Command};

use super::Head;
use super::download::{Taker, VerifiedBlob, Wanted, io_error};
use super::error::{SourceError, excerpt};
use super::resolve::below_refs;
use super::tree_id::Row;
use crate::reference::is_abbreviation;
use crate::token::Token;
use smart_sync_store::id::from_hex;

/// How much of a list of refs or of a listing is read.
const OUTPUT_BYTES_MAX: u64 = 1 << 30;

/// A private bare repository and where it fetches from.
#[derive(Debug)]
pub(super) struct Git {
    folder: PathBuf,
    url: Url,
    token: Option<Token>,
    spool: PathBuf,
}

impl Git {
    pub(super) fn new(folder: PathBuf, url: Url, token: Option<Token>, spool: PathBuf) -> Self {
        Self { folder, url, token, spool }
    }

    /// Finds the commit that is meant, and fetches it.
    pub(super) async fn resolve(&self, requested: &RefQuery, name: &str) -> Result<Head, SourceError> {
        self.init().await?;
        let commit = match &requested.reference {
            TypedRef::Exact(RefName::Commit(id)) => *id,
            TypedRef::Exact(exact) => {
                self.remote(requested, name, &[format!("refs/{}", below_refs(exact))]).await?
            }
            TypedRef::Bare(other) if other.as_str().starts_with("refs/") => {
                self.remote(requested, name, &[other.to_string()]).await?
            }
            TypedRef::Bare(any) => {
                let candidates = [format!("refs/heads/{any}"), format!("refs/tags/{any}")];
                match self.remote(requested, name, &candidates).await {
                    Err(SourceError::NoSuchRef { .. }) if is_abbreviation(any.as_str()) => {
                        let reason =
                            "git cannot look up the beginning of a commit id; the whole id is needed";
                        return Err(SourceError::Git { command: "fetch", message: reason.to_owned() });
                    }
                    found => found?,
                }
            }
        };
        self.fetch(commit).await
    }

    /// Fetches a commit, unless it is there.
    pub(super) async fn fetch(&self, commit: CommitId) -> Result<Head, SourceError> {
        self.init().await?;
        let tree = format!("{commit}^{{tree}}");
        let parse = ["rev-parse", "--verify", "--quiet", tree.as_str()];
        if !self.has_all(commit).await {
            // The ref keeps the commit, so that the next fetch brings only what it lacks and old ones can be dropped.
            let text = format!("+{commit}:refs/heads/last");
            let arguments = [
                "fetch",
                "--quiet",
                "--depth=1",
                "--no-tags",
                "--no-write-fetch-head",
                self.url.as_str(),
                &text,
            ];
            self.run("fetch", &arguments).await?;
        }
        let found = self.run("rev-parse", &parse).await?;
        let tree = std::str::from_utf8(&found).ok().and_then(|text| text.trim_end().parse().ok());
        Ok(Head { commit, tree: tree.ok_or_else(|| unexpected("rev-parse", &found))? })
    }

    /// Lists the tree of a commit that was fetched.
    pub(super) async fn rows(&self, head: &Head) -> Result<Vec<Row>, SourceError> {
        let tree = head.tree.to_string();
        let listed = self.run("ls-tree", &["ls-tree", "-r", "-t", "-z", "-l", "--full-tree", &tree]).await?;
        let lines = listed.split(|byte| *byte == 0).filter(|line| !line.is_empty());
        lines.map(|line| parse_row(line).ok_or_else(|| unexpected("ls-tree", line))).collect()
    }

    /// Hands over the contents of blobs that were fetched.
    pub(super) async fn download(
        &self,
        wanted: &[Wanted],
        sink: &mut dyn FnMut(VerifiedBlob) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut child = self
            .command(&["cat-file", "--batch", "--buffer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| self.cannot_run("cat-file", &error))?;
        let (mut stdin, stdout) =
            (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
        let mut ids = wanted.iter().map(|blob| blob.id.to_string()).collect::<Vec<_>>().join("\n");
        ids.push('\n');
        let ask = async move {
            // A git that ends early is noticed by what is missing from its answer.
            let _ = stdin.write_all(ids.as_bytes()).await;
            drop(stdin);
            std::future::pending::<Infallible>().await
        };
        let read = async {
            let mut stdout = BufReader::new(stdout);
            for blob in wanted {
                sink(self.read_blob(&mut stdout, blob).await?).map_err(SourceError::Sink)?;
            }
            Ok(())
        };
        // Asking ends when reading does: a git whose answer nobody reads takes no more questions.
        match select(pin!(read), pin!(ask)).await {
            Either::Left((result, _)) => result,
            Either::Right((never, _)) => match never {},
        }
    }

    async fn read_blob(
        &self,
        stdout: &mut BufReader<ChildStdout>,
        blob: &Wanted,
    ) -> Result<VerifiedBlob, SourceError> {
        let failed = |error: io::Error| unexpected("cat-file", error.to_string().as_bytes());
        let mut line = Vec::new();
        stdout.take(256).read_until(b'\n', &mut line).await.map_err(failed)?;
        if line != format!("{} blob {}\n", blob.id, blob.size).as_bytes() {
            return Err(unexpected("cat-file", &line));
        }
        let (mut taker, mut left) = (Taker::new(blob, &self.spool)?, blob.size);
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let count = stdout.read(&mut buffer[..most]).await.map_err(failed)?;
            if count == 0 {
                return Err(unexpected("cat-file", b"it ended inside a blob"));
            }
            taker.take(&buffer[..count])?;
            left -= count as u64;
        }
        stdout.read_exact(&mut [0]).await.map_err(failed)?;
        taker.finish("git")
    }

    async fn init(&self) -> Result<(), SourceError> {
        if self.folder.join("HEAD").exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.folder).map_err(io_error("making", &self.folder))?;
        self.run("init", &["init", "--quiet", "--bare", "--template=", "."]).await.map(drop)
    }

    /// The commit that the first of these refs stands for.
    async fn remote(
        &self,
        requested: &RefQuery,
        name: &str,
        refs: &[String],
    ) -> Result<CommitId, SourceError> {
        let mut arguments = vec!["ls-remote", "--quiet", self.url.as_str()];
        // The line with `^{}` names what an annotated tag is put on.
        let peeled: Vec<String> = refs.iter().map(|name| format!("{name}^{{}}")).collect();
        arguments.extend(refs.iter().chain(&peeled).map(String::as_str));
        let listed = self.run("ls-remote", &arguments).await?;
        let listed = String::from_utf8_lossy(&listed);
        let find = |wanted: &str| {
            let mut rows = listed.lines().filter_map(|line| line.split_once('\t'));
            rows.find(|(_, name)| *name == wanted).and_then(|(id, _)| id.parse().ok())
        };
        let found = refs.iter().zip(&peeled).find_map(|(plain, peeled)| find(peeled).or_else(|| find(plain)));
        found.ok_or_else(|| SourceError::NoSuchRef {
            reference: requested.to_string(),
            repository: name.to_owned(),
        })
    }

    /// Whether a commit and everything below it is there: a fetch that was killed may have left half of it.
    async fn has_all(&self, commit: CommitId) -> bool {
        let text = commit.to_string();
        self.run("rev-list", &["rev-list", "--objects", "--quiet", "--no-walk", &text]).await.is_ok()
    }

    /// Runs git to its end and returns what it wrote.
    async fn run(&self, name: &'static str, arguments: &[&str]) -> Result<Vec<u8>, SourceError> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.cannot_run(name, &error))?;
        let (stdout, stderr) =
            (child.stdout.take().expect("it is piped"), child.stderr.take().expect("it is piped"));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (stdout.take(OUTPUT_BYTES_MAX), stderr.take(1 << 20));
        let reading = futures::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
        let status = child.wait().await;
        match (reading, status) {
            ((Ok(_), Ok(_)), Ok(status)) if status.success() => Ok(out),
            _ => Err(unexpected(name, &err)),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(&self.folder).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            // Whom a connection trusts is a matter of the host, all else would change what git does.
            if text.starts_with("GIT_") && !text.starts_with("GIT_SSL_CA") {
                command.env_remove(name);
            }
        }
        command
            .env("GIT_DIR", &self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("LC_ALL", "C")
            .env("GIT_ALLOW_PROTOCOL", self.url.scheme());
        // By the environment, because everybody can read the arguments of a process.
        for (number, (key, value)) in self.configuration().into_iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{number}"), key)
                .env(format!("GIT_CONFIG_VALUE_{number}"), value);
            command.env("GIT_CONFIG_COUNT", (number + 1).to_string());
        }
        command
    }

    fn configuration(&self) -> Vec<(String, String)> {
        let pairs = [
            ("core.hooksPath", "/dev/null"),
            ("transfer.fsckObjects", "true"),
            ("gc.auto", "1000"),
            ("gc.autoPackLimit", "10"),
            ("gc.autoDetach", "false"),
            ("maintenance.autoDetach", "false"),
            ("gc.pruneExpire", "1.day.ago"),
            ("http.lowSpeedLimit", "200"),
            ("http.lowSpeedTime", "30"),
        ];
        let mut pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        if let Some(token) = &self.token {
            // With a token no redirect is followed: git would send it along.
            let basic = base64::engine::general_purpose::STANDARD
                .encode(format!("x-access-token:{}", token.reveal()));
            pairs.push((format!("http.{}.extraHeader", self.url), format!("Authorization: Basic {basic}")));
            pairs.push(("http.followRedirects".to_owned(), "false".to_owned()));
        }
        pairs
    }

    fn cannot_run(&self, name: &'static str, error: &io::Error) -> SourceError {
        if error.kind() == io::ErrorKind::NotFound && self.folder.exists() {
            return SourceError::GitMissing(None);
        }
        unexpected(name, error.to_string().as_bytes())
    }
}

/// Whether the program is there at all.
pub(super) fn is_installed() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("git").is_file()))
}

fn unexpected(command: &'static str, said: &[u8]) -> SourceError {
    SourceError::Git { command, message: excerpt(said) }
}

/// `<mode> <type> <id> <size, padded>\t<path>`
fn parse_row(line: &[u8]) -> Option<Row> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let mut fields = std::str::from_utf8(&line[..tab]).ok()?.split_ascii_whitespace();
    let mode = GitMode::new(u32::from_str_radix(fields.next()?, 8).ok()?)?;
    let (kind, object, size) = (fields.next()?, from_hex(fields.next()?)?, fields.next()?);
    let size = if kind == "blob" { size.parse().ok()? } else { 0 };
    Some(Row { path: line[tab + 1..].to_vec(), mode, object, size })
}

/// The folder of a repository's objects below a folder for sources.
pub(super) fn folder(below: &Path) -> PathBuf {
    below.join("objects-v1.git")
}
