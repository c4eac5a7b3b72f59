//! A server on loopback that imitates GitHub: its answers come from a real repository, with faults put in front.
//!
//! What it says of a repository comes from the git program, which is thus the oracle for every id. It runs on threads
//! of its own, so that tests with and without a runtime can use it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::json;
use tokio::runtime::Runtime;

/// An answer of the server, as a fault makes it.
pub type Reply = Response<Body>;

/// Answers instead of the server, or leaves it to it.
type Fault = Box<dyn FnMut(&Asked) -> Option<Response<Body>> + Send>;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// The headers, with names in lower case.
    pub headers: HeaderMap,
}

/// A server of one repository, `o/r`.
pub struct GithubServer {
    state: Arc<Shared>,
    port: u16,
    folder: tempfile::TempDir,
    runtime: Option<Runtime>,
}

struct Shared {
    repository: PathBuf,
    asked: Mutex<Vec<Asked>>,
    fault: Mutex<Option<Fault>>,
    listing_rows_max: Mutex<usize>,
}

impl GithubServer {
    /// Serves a repository that `make` fills, with its work tree as the directory.
    pub fn start(make: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        git(folder.path(), &["init", "-q", "-b", "main"]);
        make(folder.path());
        let state = Arc::new(Shared {
            repository: folder.path().join(".git"),
            asked: Mutex::default(),
            fault: Mutex::default(),
            listing_rows_max: Mutex::new(usize::MAX),
        });
        let router = Router::new().fallback(answer).with_state(state.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be set so");
        let port = listener.local_addr().expect("it is bound").port();
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(2).enable_all().build().expect("threads can be started");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router).await
        });
        Self { state, port, folder, runtime: Some(runtime) }
    }

    /// Serves a repository with names, modes and sizes of every sort.
    pub fn with_everything() -> Self {
        Self::start(everything)
    }

    /// The work tree.
    pub fn work_tree(&self) -> &Path {
        self.folder.path()
    }

    /// Commits everything in the work tree, and returns the commit's id.
    pub fn commit(&self, message: &str) -> String {
        git(self.work_tree(), &["add", "-A"]);
        git(self.work_tree(), &["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// The address of something on it; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Puts a fault in front of its answers.
    pub fn set_fault(&self, fault: impl FnMut(&Asked) -> Option<Reply> + Send + 'static) {
        *lock(&self.state.fault) = Some(Box::new(fault));
    }

    /// Takes the fault away.
    pub fn clear_fault(&self) {
        *lock(&self.state.fault) = None;
    }

    /// Cuts listings after so many rows, as a server does with those of large trees.
    pub fn set_listing_rows_max(&self, rows: usize) {
        *lock(&self.state.listing_rows_max) = rows;
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state.asked).clone()
    }

    /// Every request so far, of which the next call does not know.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.state.asked))
    }

    /// What git says of the repository.
    pub fn git(&self, arguments: &[&str]) -> String {
        text(&git(&self.state.repository, arguments))
    }

    /// What git says of the repository, as bytes.
    pub fn git_bytes(&self, arguments: &[&str]) -> Vec<u8> {
        git(&self.state.repository, arguments)
    }
}

impl Drop for GithubServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops it may be inside a runtime of its own, and must not wait there.
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer of a test's own.
pub fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Option<Response<Body>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Some(response.body(body.into()).expect("what the tests serve is well-formed"))
}

/// Runs git for a fixture, under fixed names and times.
pub fn git(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.fsync=none"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "1798750000 +0000")
        .env("GIT_COMMITTER_DATE", "1798750000 +0000")
        .output()
        .expect("what the tests serve is well-formed");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn everything(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let write = |path: &str, content: &[u8]| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("what the tests serve is well-formed"))
            .expect("what the tests serve is well-formed");
        std::fs::write(path, content).expect("what the tests serve is well-formed");
    };
    write("README", b"read me\n");
    write("copy of README", b"read me\n");
    write("empty", b"");
    write("data.json", b"{\"encoding\":\"base64\",\"content\":\"bm8=\"}");
    write("a b/[x]|?#%25&+;.txt", b"odd names\n");
    write("a b/%2e%2e/quote\"'\\", b"odder names\n");
    write("gr\u{fc}n/\u{1f331}", b"unicode\n");
    write("a.b", b"sorts between a and a/\n");
    write("a/x/y/z", b"deep\n");
    write("large", &(0..3_000_000u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect::<Vec<u8>>());
    write("bin/run", b"#!/bin/sh\n");
    std::fs::set_permissions(folder.join("bin/run"), std::fs::Permissions::from_mode(0o755))
        .expect("what the tests serve is well-formed");
    std::os::unix::fs::symlink("../README", folder.join("bin/link"))
        .expect("what the tests serve is well-formed");
    git(folder, &["add", "-A"]);
    std::fs::create_dir(folder.join("module")).expect("what the tests serve is well-formed");
    let module = format!("160000,{},module", "1".repeat(40));
    git(folder, &["update-index", "--add", "--cacheinfo", &module]);
    git(folder, &["commit", "-q", "-m", "one"]);
    git(folder, &["tag", "v1"]);
    git(folder, &["tag", "-a", "-m", "annotated", "v1-annotated"]);
    git(folder, &["tag", "-a", "-m", "twice", "v1-twice", "v1-annotated"]);
    git(folder, &["tag", "tree-tag", "HEAD^{tree}"]);
    git(folder, &["branch", "feature/a#1"]);
    write("README", b"read me again\n");
    git(folder, &["commit", "-q", "-a", "-m", "two"]);
    git(folder, &["update-ref", "refs/pull/7/head", "HEAD"]);
}

async fn answer(
    State(state): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let asked = Asked {
        path: uri.path_and_query().expect("what the tests serve is well-formed").to_string(),
        headers,
    };
    lock(&state.asked).push(asked.clone());
    let fault = lock(&state.fault).as_mut().and_then(|fault| fault(&asked));
    fault
        .or_else(|| {
            if uri.path().starts_with("/o/r.git/") {
                Some(backend(&state, &method, &uri, &asked, &body))
            } else {
                None
            }
        })
        .or_else(|| api(&state, &asked))
        .unwrap_or_else(|| {
            reply(404, &[], "{\"message\":\"Not Found\"}").expect("what the tests serve is well-formed")
        })
}

fn api(state: &Shared, asked: &Asked) -> Option<Response<Body>> {
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .expect("what the tests serve is well-formed")
            .into_owned()
    };
    if let Some(raw) = asked.path.strip_prefix("/raw/o/r/") {
        let (commit, path) = raw.split_once('/')?;
        let blob = try_git(state, &["cat-file", "blob", &format!("{commit}:{}", decoded(path))])?;
        return reply(200, &[("content-type", "text/plain")], blob);
    }
    let path = asked.path.strip_prefix("/repos/o/r/")?;
    if let Some(name) = path.strip_prefix("git/ref/") {
        let name = decoded(name);
        let listed = try_git(
            state,
            &["for-each-ref", "--format=%(objectname) %(objecttype) %(refname)", &format!("refs/{name}")],
        )?;
        let listed = String::from_utf8(listed).expect("what the tests serve is well-formed");
        let row: Vec<&str> = listed.lines().next()?.split(' ').collect();
        let (id, kind, name) = (row[0], row[1], row[2]);
        let etag = format!("\"{id}\"");
        if asked
            .headers
            .get("if-none-match")
            .is_some_and(|known| known.to_str().expect("what the tests serve is well-formed") == etag)
        {
            return reply(304, &[], "");
        }
        let body = json!({"ref": name, "object": {"type": kind, "sha": id}});
        return reply(200, &[("etag", &etag), ("content-type", "application/json")], body.to_string());
    }
    if let Some(id) = path.strip_prefix("git/tags/") {
        let tag = String::from_utf8(try_git(state, &["cat-file", "tag", id])?)
            .expect("what the tests serve is well-formed");
        let field = |name: &str| {
            tag.lines()
                .find_map(|line| line.strip_prefix(name))
                .expect("what the tests serve is well-formed")
                .to_owned()
        };
        let object = json!({"type": field("type "), "sha": field("object ")});
        return json_reply(&json!({"sha": id, "object": object}));
    }
    if let Some(id) = path.strip_prefix("git/commits/") {
        let tree = try_git(state, &["rev-parse", "--verify", "-q", &format!("{id}^{{tree}}")])?;
        return json_reply(&json!({"sha": id, "tree": {"sha": text(&tree)}}));
    }
    if let Some(name) = path.strip_prefix("commits/") {
        let id = text(&try_git(
            state,
            &["rev-parse", "--verify", "-q", &format!("{}^{{commit}}", decoded(name))],
        )?);
        let tree = text(&try_git(state, &["rev-parse", &format!("{id}^{{tree}}")])?);
        return json_reply(&json!({"sha": id, "commit": {"tree": {"sha": tree}}, "files": []}));
    }
    if let Some(rest) = path.strip_prefix("git/trees/") {
        return listing(state, rest);
    }
    let blob = try_git(state, &["cat-file", "blob", path.strip_prefix("git/blobs/")?])?;
    reply(200, &[("content-type", "application/vnd.github.raw+json; charset=utf-8")], blob)
}

fn listing(state: &Shared, rest: &str) -> Option<Response<Body>> {
    let id = rest.trim_end_matches("?recursive=1");
    let mut arguments = vec!["ls-tree", "-z", "-l"];
    if id != rest {
        arguments.extend(["-r", "-t"]);
    }
    arguments.push(id);
    let listed = try_git(state, &arguments)?;
    let rows = listed.split(|byte| *byte == 0).filter(|row| !row.is_empty()).map(|row| {
        // As the real one does, with what is not UTF-8 mangled.
        let row = String::from_utf8_lossy(row).into_owned();
        let (head, path) = row.split_once('\t').expect("what the tests serve is well-formed");
        let head: Vec<&str> = head.split_whitespace().collect();
        let mut row = json!({"path": path, "mode": head[0], "type": head[1], "sha": head[2]});
        if let Ok(size) = head[3].parse::<u64>() {
            row["size"] = size.into();
        }
        row
    });
    let mut rows: Vec<serde_json::Value> = rows.collect();
    let rows_max = *lock(&state.listing_rows_max);
    let is_truncated = rows.len() > rows_max;
    rows.truncate(rows_max);
    json_reply(&json!({"sha": id, "tree": rows, "truncated": is_truncated}))
}

/// `git http-backend`, for clients that fetch.
fn backend(state: &Shared, method: &Method, uri: &Uri, asked: &Asked, body: &[u8]) -> Response<Body> {
    use std::io::Write;
    let header = |name: &str| {
        asked
            .headers
            .get(name)
            .map_or("", |value| value.to_str().expect("what the tests serve is well-formed"))
            .to_owned()
    };
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env(
            "PATH_TRANSLATED",
            state
                .repository
                .join(uri.path().strip_prefix("/o/r.git/").expect("what the tests serve is well-formed")),
        )
        .env("REQUEST_METHOD", method.as_str())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("what the tests serve is well-formed");
    child
        .stdin
        .take()
        .expect("what the tests serve is well-formed")
        .write_all(body)
        .expect("what the tests serve is well-formed");
    let output = child.wait_with_output().expect("what the tests serve is well-formed").stdout;
    let end = output
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("what the tests serve is well-formed");
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).expect("what the tests serve is well-formed").lines() {
        let (name, value) = line.split_once(": ").expect("what the tests serve is well-formed");
        response = match name {
            "Status" => response.status(&value[..3]),
            _ => response.header(name, value),
        };
    }
    response.body(output[end + 4..].to_vec().into()).expect("what the tests serve is well-formed")
}

fn json_reply(value: &serde_json::Value) -> Option<Response<Body>> {
    reply(200, &[("content-type", "application/json; charset=utf-8")], value.to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

fn try_git(state: &Shared, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(&state.repository)
        .stderr(Stdio::null())
        .output()
        .expect("what the tests serve is well-formed");
    output.status.success().then_some(output.stdout)
}
