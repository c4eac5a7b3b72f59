//! The server: GitHub's answers over a real repository, and faults put in front of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::json;

use crate::github::Address;

/// Answers instead of the server, or leaves it to it.
type Fault = Box<dyn FnMut(&Asked) -> Option<Response<Body>> + Send>;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
}

/// A server of one repository, `o/r`.
pub(super) struct Server {
    state: Arc<Shared>,
    port: u16,
    _folder: tempfile::TempDir,
}

struct Shared {
    repository: PathBuf,
    asked: Mutex<Vec<Asked>>,
    fault: Mutex<Option<Fault>>,
    listing_rows_max: Mutex<usize>,
}

impl Server {
    /// Serves a repository that `make` fills, with its work tree as the current directory.
    pub(super) async fn start(make: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "-q", "-b", "main"]);
        make(folder.path());
        let state = Arc::new(Shared {
            repository: folder.path().join(".git"),
            asked: Mutex::default(),
            fault: Mutex::default(),
            listing_rows_max: Mutex::new(usize::MAX),
        });
        let router = Router::new().fallback(answer).with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { state, port, _folder: folder }
    }

    /// Serves a repository with names, modes and sizes of every sort.
    pub(super) async fn with_everything() -> Self {
        Self::start(everything).await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn address(&self) -> Address {
        self.url("/repos/o/r").parse().unwrap()
    }

    /// The same repository with a host for raw files.
    pub(super) fn address_with_raw(&self) -> Address {
        Address { raw: Some(self.url("/raw/o/r").parse().unwrap()), ..self.address() }
    }

    pub(super) fn set_fault(&self, fault: impl FnMut(&Asked) -> Option<Response<Body>> + Send + 'static) {
        *self.state.fault.lock().unwrap() = Some(Box::new(fault));
    }

    pub(super) fn set_listing_rows_max(&self, rows: usize) {
        *self.state.listing_rows_max.lock().unwrap() = rows;
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    pub(super) fn forget_asked(&self) {
        self.state.asked.lock().unwrap().clear();
    }

    /// What git says of the repository.
    pub(super) fn git(&self, arguments: &[&str]) -> String {
        String::from_utf8(git(&self.state.repository, arguments)).unwrap().trim_end().to_owned()
    }

    /// The tree of a commit as git has it: path, mode, content.
    pub(super) fn expected(&self, commit: &str) -> Vec<super::Shown> {
        let listed = git(&self.state.repository, &["ls-tree", "-r", "-z", commit]);
        let rows = listed.split(|byte| *byte == 0).filter(|row| !row.is_empty()).map(|row| {
            let tab = row.iter().position(|byte| *byte == b'\t').unwrap();
            let head: Vec<&str> = std::str::from_utf8(&row[..tab]).unwrap().split(' ').collect();
            let path = smart_sync_store::manifest::path::Shown(&row[tab + 1..]).to_string();
            let content = match head[1] {
                "blob" => super::brief(&git(&self.state.repository, &["cat-file", "blob", head[2]])),
                _ => head[2].to_owned(),
            };
            (path, head[0].to_owned(), content)
        });
        rows.collect()
    }
}

/// An answer of a test's own.
#[expect(clippy::unnecessary_wraps, reason = "every caller is a fault, which may answer or not")]
pub(super) fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Option<Response<Body>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Some(response.body(body.into()).unwrap())
}

/// Runs git for a fixture, under fixed names and times.
pub(super) fn git(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.fsync=none"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "1798750000 +0000")
        .env("GIT_COMMITTER_DATE", "1798750000 +0000")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn everything(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let write = |path: &str, content: &[u8]| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
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
    std::fs::set_permissions(folder.join("bin/run"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("../README", folder.join("bin/link")).unwrap();
    git(folder, &["add", "-A"]);
    std::fs::create_dir(folder.join("module")).unwrap();
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
    let asked = Asked { path: uri.path_and_query().unwrap().to_string(), headers };
    state.asked.lock().unwrap().push(asked.clone());
    let fault = state.fault.lock().unwrap().as_mut().and_then(|fault| fault(&asked));
    fault
        .or_else(|| {
            if uri.path().starts_with("/o/r.git/") {
                Some(backend(&state, &method, &uri, &asked, &body))
            } else {
                None
            }
        })
        .or_else(|| api(&state, &asked))
        .unwrap_or_else(|| reply(404, &[], "{\"message\":\"Not Found\"}").unwrap())
}

fn api(state: &Shared, asked: &Asked) -> Option<Response<Body>> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
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
        let listed = String::from_utf8(listed).unwrap();
        let row: Vec<&str> = listed.lines().next()?.split(' ').collect();
        let (id, kind, name) = (row[0], row[1], row[2]);
        let etag = format!("\"{id}\"");
        if asked.headers.get("if-none-match").is_some_and(|known| known.to_str().unwrap() == etag) {
            return reply(304, &[], "");
        }
        let body = json!({"ref": name, "object": {"type": kind, "sha": id}});
        return reply(200, &[("etag", &etag), ("content-type", "application/json")], body.to_string());
    }
    if let Some(id) = path.strip_prefix("git/tags/") {
        let tag = String::from_utf8(try_git(state, &["cat-file", "tag", id])?).unwrap();
        let field = |name: &str| tag.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let object = json!({"type": field("type "), "sha": field("object ")});
        return json_reply(&json!({"sha": id, "object": object}));
    }
    if let Some(id) = path.strip_prefix("git/commits/") {
        let tree = try_git(state, &["rev-parse", "--verify", "-q", &format!("{id}^{{tree}}")])?;
        return json_reply(&json!({"sha": id, "tree": {"sha": text(tree)}}));
    }
    if let Some(name) = path.strip_prefix("commits/") {
        let id =
            text(try_git(state, &["rev-parse", "--verify", "-q", &format!("{}^{{commit}}", decoded(name))])?);
        let tree = text(try_git(state, &["rev-parse", &format!("{id}^{{tree}}")])?);
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
        let (head, path) = row.split_once('\t').unwrap();
        let head: Vec<&str> = head.split_whitespace().collect();
        let mut row = json!({"path": path, "mode": head[0], "type": head[1], "sha": head[2]});
        if let Ok(size) = head[3].parse::<u64>() {
            row["size"] = size.into();
        }
        row
    });
    let mut rows: Vec<serde_json::Value> = rows.collect();
    let rows_max = *state.listing_rows_max.lock().unwrap();
    let is_truncated = rows.len() > rows_max;
    rows.truncate(rows_max);
    json_reply(&json!({"sha": id, "tree": rows, "truncated": is_truncated}))
}

/// `git http-backend`, for clients that fetch.
fn backend(state: &Shared, method: &Method, uri: &Uri, asked: &Asked, body: &[u8]) -> Response<Body> {
    use std::io::Write;
    let header = |name: &str| asked.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_TRANSLATED", state.repository.join(uri.path().strip_prefix("/o/r.git/").unwrap()))
        .env("REQUEST_METHOD", method.as_str())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(&value[..3]),
            _ => response.header(name, value),
        };
    }
    response.body(output[end + 4..].to_vec().into()).unwrap()
}

fn json_reply(value: &serde_json::Value) -> Option<Response<Body>> {
    reply(200, &[("content-type", "application/json; charset=utf-8")], value.to_string())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().trim_end().to_owned()
}

fn try_git(state: &Shared, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(&state.repository)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    output.status.success().then_some(output.stdout)
}
