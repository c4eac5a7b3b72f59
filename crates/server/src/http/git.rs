//! `/git/CHANNEL`: channels as repositories of git, for its own programs: to be cloned and fetched from, and nothing
//! else.
//!
//! `git http-backend` answers. It is told a path, a method and a query that were chosen here; of a request it gets the
//! version of the protocol, where that is one that is known, and the body, bounded and decompressed.

use std::io::Read as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::Response;
use flate2::read::MultiGzDecoder;
use percent_encoding::percent_decode_str;
use smart_sync_sync::name::{Channel, RefName};

use super::problem::Problem;
use super::{App, blocking, cgi};
use crate::tokens::Caller;
use crate::views::Views;
use crate::views::git::program;

/// The most bytes of a request: what a client has of a repository, and what it wants.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;
/// The same once it is decompressed.
const PLAIN_BYTES_MAX: u64 = 16 << 20;
/// How long a request waits for what has just been published.
const REACH_MAX: Duration = Duration::from_secs(30);
/// How long a request waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(20);

/// What a client of git asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    /// Which refs there are, and what is spoken.
    Refs,
    /// Objects.
    Objects,
}

/// `GET /git/<channel>/info/refs?service=git-upload-pack`
pub(super) async fn refs(
    State(app): State<Arc<App>>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (channel, service) = parse(uri.path(), query.as_deref(), Method::Get)?;
    answer(&app, &channel, service, &headers, Vec::new()).await
}

/// `POST /git/<channel>/git-upload-pack`
pub(super) async fn objects(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let (channel, service) = parse(uri.path(), None, Method::Post)?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|found| found != "application/x-git-upload-pack-request")
    {
        return Err(Problem::Malformed("this is not what git sends".to_owned()));
    }
    let is_compressed = match headers.get(header::CONTENT_ENCODING).map(header::HeaderValue::as_bytes) {
        None | Some(b"identity") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => return Err(Problem::Malformed("only gzip is understood".to_owned())),
    };
    let body = blocking(move || plain(&body, is_compressed)).await?;
    answer(&app, &channel, service, &headers, body).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Post,
}

/// Finds out which channel is meant, and what of it.
fn parse(path: &str, query: Option<&str>, method: Method) -> Result<(Channel, Service), Problem> {
    let read_only = || Problem::Forbidden("nothing is pushed here: publish with smart-sync".to_owned());
    let path = path.strip_prefix("/git/").ok_or(Problem::NotFound)?;
    let (channel, service) = match method {
        Method::Get => {
            let channel = path.strip_suffix("/info/refs").ok_or(Problem::NotFound)?;
            match query {
                Some("service=git-upload-pack") => (channel, Service::Refs),
                Some("service=git-receive-pack") => return Err(read_only()),
                _ => {
                    let text =
                        "only the smart protocol is spoken here, which git has had since version 1.6.6";
                    return Err(Problem::Forbidden(text.to_owned()));
                }
            }
        }
        Method::Post if path.ends_with("/git-receive-pack") => return Err(read_only()),
        Method::Post => (path.strip_suffix("/git-upload-pack").ok_or(Problem::NotFound)?, Service::Objects),
    };
    let channel = percent_decode_str(channel).decode_utf8().map_err(|_| Problem::NotFound)?;
    Ok((channel.parse().map_err(|_| Problem::NotFound)?, service))
}

/// The body as git reads it.
fn plain(body: &[u8], is_compressed: bool) -> Result<Vec<u8>, Problem> {
    if !is_compressed {
        return Ok(body.to_vec());
    }
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(body).take(PLAIN_BYTES_MAX + 1).read_to_end(&mut plain);
    read.map_err(|_| Problem::Malformed("the body is not gzip".to_owned()))?;
    if plain.len() as u64 > PLAIN_BYTES_MAX { Err(Problem::TooLarge) } else { Ok(plain) }
}

async fn answer(
    app: &Arc<App>,
    channel: &Channel,
    service: Service,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Result<Response, Problem> {
    let caller = app.caller(headers).await?;
    let views = app.views.as_ref().ok_or(Problem::NotFound)?;
    let name = readable(app, views, &caller, channel).await?;
    let git = &views.git;
    let repository = git.directory().join(&name);
    if !repository.join("HEAD").exists() {
        return Err(Problem::Busy("the repository is being made; try again"));
    }
    let turn = tokio::time::timeout(TURN_MAX, Arc::clone(&git.requests).acquire_owned());
    let Ok(Ok(turn)) = turn.await else {
        return Err(Problem::Busy("too many ask for repositories of git; try again"));
    };
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear();
    for (name, value) in program::settings(&repository) {
        command.env(name, value);
    }
    let (method, path, query) = match service {
        Service::Refs => ("GET", "info/refs", "service=git-upload-pack"),
        Service::Objects => ("POST", "git-upload-pack", ""),
    };
    command
        .env("GIT_PROJECT_ROOT", git.directory())
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", format!("/{name}/{path}"))
        .env("REQUEST_METHOD", method)
        .env("QUERY_STRING", query);
    if service == Service::Objects {
        command.env("CONTENT_TYPE", "application/x-git-upload-pack-request");
        command.env("CONTENT_LENGTH", body.len().to_string());
    }
    if let Some(version) = protocol(headers) {
        command.env("GIT_PROTOCOL", version);
    }
    let (views, channel) = (Arc::clone(views), channel.clone());
    let on_failure = move |failed: cgi::Failed| {
        let complaint = program::complaint(&failed.complaint);
        tracing::warn!(%channel, status = failed.status, complaint, "git has failed to answer");
        views.git.suspect(&channel);
    };
    cgi::answer(command, body, turn, Box::new(on_failure)).await
}

/// The name of a channel's repository, once that is where the channel is; for whoever may read the channel.
async fn readable(
    app: &Arc<App>,
    views: &Views,
    caller: &Caller,
    channel: &Channel,
) -> Result<String, Problem> {
    // A client sends its token only when it is asked for one. Where some may need it, everything that is not there is
    // answered so, and what is private is not told from that.
    let is_any_private = views.git.channels().iter().any(|channel| app.realm.is_private(channel));
    let missing = || match caller {
        Caller::Anonymous if is_any_private => Problem::Unauthorized("this needs a token, if it is there"),
        _ => Problem::NotFound,
    };
    let name = views.git.name_of(channel).filter(|_| app.may_read(caller, channel)).ok_or_else(missing)?;
    let view = app.view().await?;
    let (realm, asked, size) = (Arc::clone(&app.realm), channel.clone(), view.size);
    let newest = blocking(move || {
        let main = RefName::branch("main").map_err(|error| Problem::Fault(error.into()))?;
        Ok(realm.newest(&view, &asked, &main)?)
    });
    if newest.await?.is_none_or(|newest| newest.publication.manifest.is_none()) {
        return Err(missing());
    }
    views.reach(size, REACH_MAX).await;
    Ok(name)
}

/// The version of the protocol that a client wants to speak, if it is one that there is.
fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    let asked = headers.get("git-protocol")?.as_bytes();
    ["version=2", "version=1", "version=0"].into_iter().find(|known| known.as_bytes() == asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, query: Option<&str>, method: Method, expected: Result<(&str, Service), &str>) {
        let found = match parse(path, query, method) {
            Ok((channel, service)) => Ok((channel.to_string(), service)),
            Err(Problem::Forbidden(_)) => Err("forbidden"),
            Err(_) => Err("missing"),
        };
        assert_eq!(found, expected.map(|(channel, service)| (channel.to_owned(), service)), "{path}");
    }

    #[test]
    fn only_what_reads_is_understood() {
        let upload = Some("service=git-upload-pack");
        check("/git/repos/a/info/refs", upload, Method::Get, Ok(("repos/a", Service::Refs)));
        check("/git/repos%2Fa%2B/info/refs", upload, Method::Get, Ok(("repos/a+", Service::Refs)));
        check("/git/repos/a/git-upload-pack", None, Method::Post, Ok(("repos/a", Service::Objects)));
        check("/git/repos/a/info/refs", Some("service=git-receive-pack"), Method::Get, Err("forbidden"));
        check("/git/repos/a/info/refs", None, Method::Get, Err("forbidden"));
        check("/git/repos/a/info/refs", Some("service=git-upload-pack&x"), Method::Get, Err("forbidden"));
        check("/git/repos/a/git-receive-pack", None, Method::Post, Err("forbidden"));
        for path in
            ["/git/repos/a/HEAD", "/git/repos/a/objects/info/packs", "/git//info/refs", "/git/info/refs"]
        {
            check(path, upload, Method::Get, Err("missing"));
        }
        for channel in ["..", "%2e%2e/x", "repos/../x", "repos/%00", "repos//a", "-a", "repos/a%0a"] {
            check(&format!("/git/{channel}/info/refs"), upload, Method::Get, Err("missing"));
        }
    }

    #[test]
    fn a_body_that_becomes_too_large_is_refused() {
        use std::io::Write as _;
        let zip = |length: usize| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(&vec![b'0'; length]).unwrap();
            out.finish().unwrap()
        };
        assert_eq!(plain(&zip(1000), true).unwrap(), vec![b'0'; 1000]);
        assert!(matches!(plain(&zip(17 << 20), true), Err(Problem::TooLarge)));
        assert!(matches!(plain(b"not gzip", true), Err(Problem::Malformed(_))));
    }
}
