//! `/files`: the trees as plain files and directory indexes, for clients that know nothing of smart-sync.
//!
//! A request resolves its ref once and works on that manifest to its end, so that an update in the middle of a
//! download changes nothing about it. Contents are named by their hashes, which makes the entity tags.

mod archive;
mod names;
mod pages;
mod resolve;

use std::ops::Range;
use std::sync::Arc;

use askama::Template as _;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use smart_sync_store::content::name_content;
use smart_sync_store::domain::Domain;
use smart_sync_store::error::StoreError;
use smart_sync_store::id::{CommitId, ContentId, ManifestId, to_hex};
use smart_sync_store::manifest::{Content, Manifest, TreePath};
use smart_sync_store::{AT_HAND_LEN_MAX, Store};
use smart_sync_sync::kinds::{Located, OtherNames};
use tokio::runtime::Handle;

use super::archives::Archives;
use super::conditional::{Answer, Validators, evaluate};
use super::index::{Index, Place, Row};
use super::problem::Problem;
use crate::realm::pages::StorePages;
pub(crate) use names::NamesCache;
use pages::CachedPages;
pub(crate) use pages::PageCache;
use resolve::{Resolved, read_problem};

/// The number of bytes of a file that are read before they are sent.
const BATCH_BYTES: usize = 512 << 10;

/// One version of a tree, as it is shown.
#[derive(Clone)]
pub(crate) struct TreeView {
    pub(crate) store: Arc<Store>,
    pub(crate) domain: Domain,
    pub(crate) manifest: ManifestId,
    /// Where the page is that shows a directory of it.
    pub(crate) place: Place,
    /// What that page says of the tree.
    pub(crate) facts: Vec<String>,
    /// The commit that it is the tree of.
    pub(crate) commit: Option<CommitId>,
    /// When the content was made, for files that have no time of their own.
    pub(crate) modified: u64,
    /// Whether an answer may be kept by shared caches.
    pub(crate) is_public: bool,
    /// Whether this version is what the URL will always mean.
    pub(crate) is_immutable: bool,
    /// How its files get other names, where its kind gives them some.
    pub(crate) other_names: Option<&'static dyn OtherNames>,
    /// Those that were learnt.
    pub(crate) names: Arc<NamesCache>,
    /// Pages of manifests that were asked for last.
    pub(crate) pages: Arc<PageCache>,
    /// Archives that were made of its directories.
    pub(crate) archives: Arc<Archives>,
}

impl TreeView {
    /// Answers a GET or HEAD for a path in the tree; `path` is decoded, without a slash at its beginning. None for a
    /// directory that was asked for without the slash at its end.
    pub(crate) async fn answer(
        self,
        path: Vec<u8>,
        headers: &HeaderMap,
    ) -> Result<Option<Response>, Problem> {
        if let Some(Resolved::File { content, modified, name, bytes }) = self.at_hand(&path) {
            return Ok(Some(self.file(content, bytes, modified, &name, headers)));
        }
        let resolved = match self.look_up(path.clone()).await {
            Err(Problem::NotFound) => match self.locate(&path).await? {
                Some(Located::File(path)) => self.look_up(path.as_bytes().to_vec()).await?,
                Some(Located::Made(bytes)) => return Ok(Some(self.made(bytes, &path, headers))),
                Some(Located::Only { directory, start }) => {
                    let path =
                        self.read_with(move |_, manifest| archive::only(manifest, &directory, start)).await?;
                    self.look_up(path.as_bytes().to_vec()).await?
                }
                Some(Located::Archive { directory, below }) => {
                    return self.archive(directory, below, &path, headers).await.map(Some);
                }
                None => return Err(Problem::NotFound),
            },
            found => found?,
        };
        match resolved {
            Resolved::File { content, modified, name, bytes } => {
                Ok(Some(self.file(content, bytes, modified, &name, headers)))
            }
            Resolved::Directory { rows, is_whole } => self.directory(rows, is_whole, headers).map(Some),
            Resolved::DirectoryWithoutSlash => Ok(None),
        }
    }

    /// A small file at a path, if it is found and read without waiting for anything. None says nothing of what is there.
    fn at_hand(&self, path: &[u8]) -> Option<Resolved> {
        let pages = CachedPages::kept(self.domain.clone(), Arc::clone(&self.pages));
        let manifest = Manifest::open(pages, self.manifest, None).ok()?;
        let mut resolved = match self.file_at(&manifest, &TreePath::new(path).ok()?).ok()? {
            Some(resolved) => resolved,
            // Nothing stands there, which is known for sure.
            None => match self.other_names?.locate(path)? {
                Located::File(path) => self.file_at(&manifest, &path).ok()??,
                _ => return None,
            },
        };
        let Resolved::File { content, bytes, .. } = &mut resolved else { return None };
        *bytes = Some(self.store.at_hand(&self.domain, content)?);
        Some(resolved)
    }

    /// Finds what stands at a path. A small file is read at once: going to another thread twice would cost more than that.
    async fn look_up(&self, path: Vec<u8>) -> Result<Resolved, Problem> {
        let runtime = Handle::current();
        self.read_with(move |view, manifest| {
            let mut resolved = view.resolve(manifest, &path)?;
            if let Resolved::File { content, bytes, .. } = &mut resolved
                && content.size <= AT_HAND_LEN_MAX
            {
                let stream = view.store.read_content(&view.domain, *content, 0..content.size);
                // One that cannot be read is found out, and said, by whoever begins to send it.
                *bytes = runtime.block_on(stream.try_collect::<Vec<_>>()).ok().map(joined);
                if let Err(error) = view.store.note_not_at_hand(&view.domain, content) {
                    tracing::warn!(%error, "finding out where a small file is");
                }
            }
            Ok(resolved)
        })
        .await
    }

    /// Looks at the manifest, on a thread that may block.
    async fn read_with<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Self, &Manifest<CachedPages>) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let view = self.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let pages = StorePages::new(Arc::clone(&view.store), view.domain.clone());
            let pages = CachedPages::new(pages, view.domain.clone(), Arc::clone(&view.pages));
            let manifest = Manifest::open(pages, view.manifest, None).map_err(read_problem)?;
            look(&view, &manifest)
        });
        looking.await.map_err(|error| Problem::Fault(error.into()))?
    }

    /// Bytes that the kind of the tree has made.
    fn made(self, bytes: &'static [u8], name: &[u8], headers: &HeaderMap) -> Response {
        let content = name_content(bytes);
        self.answer_with((content.id, content.size), self.modified, name, headers, |range| {
            part_of(bytes, &range)
        })
    }

    /// A file, whose bytes may be at hand.
    fn file(
        self,
        content: Content,
        bytes: Option<Bytes>,
        modified: u64,
        name: &[u8],
        headers: &HeaderMap,
    ) -> Response {
        let is_it = (content.id, content.size);
        self.answer_with(is_it, modified, name, headers, |range| {
            let part = |bytes: Bytes| {
                let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
                (start <= end && end <= bytes.len()).then(|| Body::from(bytes.slice(start..end)))
            };
            bytes.and_then(part).unwrap_or_else(|| self.body_of(content, range.clone()))
        })
    }

    /// Answers with a content, or the part of it that is asked for.
    fn answer_with(
        &self,
        (id, size): (ContentId, u64),
        modified: u64,
        name: &[u8],
        headers: &HeaderMap,
        body: impl FnOnce(Range<u64>) -> Body,
    ) -> Response {
        let validators = Validators { etag: format!("\"{}\"", to_hex(&id.as_bytes()[..16])), modified, size };
        let mut response = deliver(&validators, name, headers, body);
        self.add_cache_control(&mut response);
        response
    }

    fn body_of(&self, content: Content, range: Range<u64>) -> Body {
        content_body(&self.store, &self.domain, content, range)
    }

    fn directory(self, rows: Vec<Row>, is_whole: bool, headers: &HeaderMap) -> Result<Response, Problem> {
        let mut notes =
            vec!["What a browser shows is not verified; what smart-sync brings to a host is.".to_owned()];
        notes.extend(self.commit.map(|commit| format!("commit {commit}")));
        notes.push(format!("manifest blake3:{}", self.manifest));
        let mut page = Index::new(&self.place, rows).with_facts(self.facts.clone()).with_notes(notes);
        if !is_whole {
            page = page.with_message("There are more names than a page can show: these are the first ones.");
        }
        let page = page.render().map_err(|error| Problem::Fault(error.into()))?;
        Ok(self.page(page, headers))
    }

    fn page(self, page: String, headers: &HeaderMap) -> Response {
        let mut response = html(page, self.modified, headers);
        self.add_cache_control(&mut response);
        response
    }

    fn add_cache_control(&self, response: &mut Response) {
        let value = match (self.is_public, self.is_immutable) {
            (true, true) => "public, max-age=3600",
            (true, false) => "public, no-cache",
            (false, _) => "private, no-cache",
        };
        insert(response, header::CACHE_CONTROL, value);
    }
}

/// Answers with a file, or the part of it that is asked for.
pub(super) fn deliver(
    validators: &Validators,
    name: &[u8],
    headers: &HeaderMap,
    body: impl FnOnce(Range<u64>) -> Body,
) -> Response {
    let with_body = |status: StatusCode, range: Range<u64>| {
        let length = HeaderValue::from(range.end - range.start);
        let mut response = (status, body(range)).into_response();
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        response
    };
    let size = validators.size;
    let mut response = match evaluate(headers, validators) {
        Answer::Whole => with_body(StatusCode::OK, 0..size),
        Answer::Part { start, end } => {
            let mut response = with_body(StatusCode::PARTIAL_CONTENT, start..end);
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
            response
        }
        Answer::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Answer::PreconditionFailed => StatusCode::PRECONDITION_FAILED.into_response(),
        Answer::RangeNotSatisfiable => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            response
        }
    };
    insert(&mut response, header::ACCEPT_RANGES, "bytes");
    insert(&mut response, header::CONTENT_TYPE, content_type(name));
    // What is published is data, not a page of this site: a browser must not run it.
    insert(&mut response, header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'");
    insert(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    insert(&mut response, header::ETAG, &validators.etag);
    insert(&mut response, header::LAST_MODIFIED, &http_date(validators.modified));
    response
}

/// A part of bytes that are at hand.
pub(super) fn part_of(bytes: &'static [u8], range: &Range<u64>) -> Body {
    let (start, end) = (usize::try_from(range.start), usize::try_from(range.end));
    let part = start.ok().zip(end.ok()).and_then(|(start, end)| bytes.get(start..end));
    Body::from(part.unwrap_or_default())
}

/// A part of a content of the store.
pub(super) fn content_body(store: &Arc<Store>, domain: &Domain, content: Content, range: Range<u64>) -> Body {
    let length = range.end - range.start;
    let stream = store.read_content(domain, content, range);
    Body::from_stream(off_runtime(stream.boxed(), length).inspect_err(|error| {
        // The status is out already: all that is left is to break the connection off, and to say why here.
        tracing::error!(error = %error, "reading a content that is being served");
    }))
}

/// Reads, decodes and hashes on a thread that may block: a thread of the runtime would hold up the other requests
/// meanwhile. Several pieces are made at a time, because going to another thread costs about as much as a piece.
pub(super) fn off_runtime(
    pieces: BoxStream<'static, Result<Bytes, StoreError>>,
    length: u64,
) -> impl Stream<Item = anyhow::Result<Bytes>> + Send {
    let batches = stream::try_unfold((pieces, length), |(pieces, left)| async move {
        // Nobody goes to another thread to hear that there is no more.
        if left == 0 {
            return Ok(None);
        }
        let runtime = Handle::current();
        let next = tokio::task::spawn_blocking(move || runtime.block_on(next_batch(pieces))).await?;
        let (batch, pieces) = next?;
        let come: u64 = batch.iter().map(|piece| piece.len() as u64).sum();
        let more = (pieces, left.saturating_sub(come));
        Ok::<_, anyhow::Error>((!batch.is_empty()).then(|| (stream::iter(batch.into_iter().map(Ok)), more)))
    });
    batches.try_flatten()
}

async fn next_batch(
    mut pieces: BoxStream<'static, Result<Bytes, StoreError>>,
) -> Result<(Vec<Bytes>, BoxStream<'static, Result<Bytes, StoreError>>), StoreError> {
    let (mut batch, mut length) = (Vec::new(), 0);
    while length < BATCH_BYTES
        && let Some(piece) = pieces.try_next().await?
    {
        length += piece.len();
        batch.push(piece);
    }
    Ok((batch, pieces))
}

/// Pieces as one.
fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => pieces.concat().into(),
    }
}

/// A page of ours, with an entity tag made of its bytes.
pub(crate) fn html(page: String, modified: u64, headers: &HeaderMap) -> Response {
    let name = name_content(page.as_bytes());
    let etag = format!("\"{}\"", to_hex(&name.id.as_bytes()[..16]));
    let validators = Validators { etag, modified, size: page.len() as u64 };
    let mut without_range = headers.clone();
    without_range.remove(header::RANGE);
    let mut response = match evaluate(&without_range, &validators) {
        Answer::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Answer::PreconditionFailed => StatusCode::PRECONDITION_FAILED.into_response(),
        _ => page.into_response(),
    };
    insert(&mut response, header::CONTENT_TYPE, "text/html; charset=utf-8");
    insert(&mut response, header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'");
    insert(&mut response, header::ETAG, &validators.etag);
    insert(&mut response, header::LAST_MODIFIED, &http_date(modified));
    response
}

fn insert(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn http_date(seconds: u64) -> String {
    // A file's time is what its publisher says, and a date of HTTP ends with the year 9999.
    const SECONDS_MAX: u64 = 253_402_300_799;
    let seconds = seconds.min(SECONDS_MAX);
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

/// Text is shown in a browser, everything else is offered as a file.
fn content_type(name: &[u8]) -> &'static str {
    const TEXT: &[&[u8]] = &[
        b"txt", b"md", b"rst", b"nix", b"toml", b"yaml", b"yml", b"json", b"conf", b"cfg", b"ini", b"sh",
        b"py", b"rs", b"c", b"h", b"cpp", b"go", b"js", b"ts", b"css", b"html", b"xml", b"ebuild", b"eclass",
        b"patch", b"diff", b"asc", b"sha256", b"log", b"service", b"socket", b"timer", b"lock",
    ];
    let extension = name.rsplit(|byte| *byte == b'.').next().filter(|extension| extension.len() < name.len());
    let is_text = match extension {
        Some(extension) => TEXT.iter().any(|text| text.eq_ignore_ascii_case(extension)),
        // README, LICENSE, Makefile, Manifest, layout files.
        None => name.iter().any(u8::is_ascii_uppercase),
    };
    if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" }
}
