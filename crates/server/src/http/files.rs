//! `/files`: from a URL to a tree. Channels have slashes, so the refs that there are decide where a channel ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template as _;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Redirect, Response};
use percent_encoding::percent_decode_str;
use smart_sync_store::count::counted;
use smart_sync_sync::kinds::{self, ArtifactKind};
use smart_sync_sync::name::{Channel, RefName, TypedRef};
use smart_sync_sync::record::Publication;

use super::index::{Index, Place, Row, short_size, short_time};
use super::problem::Problem;
use super::tree::{TreeView, html};
use super::{App, blocking};
use crate::realm::refs::{RefState, Refs};

/// The most segments of a channel's name.
pub(super) const CHANNEL_SEGMENTS_MAX: usize = 16;

/// `GET /`: where a person begins.
pub(super) async fn front_page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let view = app.view().await?;
    let rows = vec![Row::directory(b"files"), Row::other(b"checkpoint", "the signed head of the log")];
    let root = view.root.record();
    let facts = vec![
        "smart-sync realm".to_owned(),
        counted(view.table.count(), "ref", "refs").to_string(),
        format!("last change {}", short_time(view.heads.time.seconds())),
    ];
    let note = format!("root document {}, version {}", view.root.leaf(), root.version);
    let page = Index::new(&Place::top(app.realm.origin.as_str()), rows).with_facts(facts);
    answer(&page.with_notes(vec![note]), view.heads.time.seconds(), &headers)
}

pub(super) fn answer(page: &Index, modified: u64, headers: &HeaderMap) -> Result<Response, Problem> {
    let page = page.render().map_err(|error| Problem::Fault(error.into()))?;
    Ok(html(page, modified, headers))
}

/// `GET /files`
pub(super) async fn without_slash() -> Redirect {
    Redirect::permanent("/files/")
}

/// `GET /files/`
pub(super) async fn top(state: State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    serve(state, headers, String::new()).await
}

/// `GET /files/<channel>/<ref>/<path>`
pub(super) async fn file(state: State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    // Names are bytes: the path is decoded segment by segment, from what was sent.
    serve(state, headers, below_files(&uri).to_owned()).await
}

fn below_files(uri: &Uri) -> &str {
    uri.path().strip_prefix("/files/").unwrap_or_default()
}

async fn serve(State(app): State<Arc<App>>, headers: HeaderMap, path: String) -> Result<Response, Problem> {
    let origin = app.realm.origin.to_string();
    match find(app, &headers, &path).await {
        Err(Problem::NotFound) if wants_html(&headers) => {
            let page = Index::of_nothing(&origin, path.split('/').count());
            let mut response = answer(&page, 0, &HeaderMap::new())?;
            *response.status_mut() = StatusCode::NOT_FOUND;
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        }
        found => found,
    }
}

/// Whether a browser asks: every other client takes what comes, and is told in one line of text.
fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

async fn find(app: Arc<App>, headers: &HeaderMap, path: &str) -> Result<Response, Problem> {
    let segments: Vec<Vec<u8>> =
        path.split('/').map(|segment| percent_decode_str(segment).collect()).collect();
    // A dot segment that was encoded is not a way to write one that is not.
    if segments.iter().any(|segment| segment == b"." || segment == b"..") {
        return Err(Problem::NotFound);
    }
    let caller = app.caller(headers).await?;
    let view = app.view().await?;
    let lookup = {
        let (app, view) = (Arc::clone(&app), Arc::clone(&view));
        let segments = segments.clone();
        blocking(move || {
            let refs = app.realm.refs(&view)?;
            Ok(Lookup::new(&segments, &refs, |channel| app.may_read(&caller, channel)))
        })
        .await?
    };
    let place = Place::below_files(app.realm.origin.as_str(), &segments);
    match lookup {
        Lookup::Tree { state, rest } => {
            if rest == segments.len() {
                return Err(Problem::MovedToDirectory(format!("/files/{path}/")));
            }
            let tree = tree_view(&app, &state.publication, place)?;
            match tree.answer(segments[rest..].join(&b'/'), headers).await? {
                Some(response) => Ok(response),
                None => Err(Problem::MovedToDirectory(format!("/files/{path}/"))),
            }
        }
        Lookup::Names { names, is_slashed } => {
            if !is_slashed {
                return Err(Problem::MovedToDirectory(format!("/files/{path}/")));
            }
            let rows = names.iter().map(|(name, state)| row(name, state.as_deref())).collect();
            answer(&Index::new(&place, rows), view.heads.time.seconds(), headers)
        }
        Lookup::Nothing => Err(Problem::NotFound),
    }
}

pub(super) fn tree_view(app: &App, publication: &Publication, place: Place) -> Result<TreeView, Problem> {
    let manifest = publication.manifest.ok_or(Problem::NotFound)?;
    let reference = &publication.reference;
    Ok(TreeView {
        store: Arc::clone(&app.realm.store),
        domain: app.realm.domain(&publication.channel)?,
        manifest: manifest.id,
        place,
        facts: facts(publication),
        commit: publication.git.map(|git| git.commit),
        modified: publication.content_time.seconds(),
        is_public: !app.realm.is_private(&publication.channel),
        is_immutable: !matches!(reference, RefName::Branch(_)),
        other_names: kinds::find(&publication.kind).and_then(ArtifactKind::other_names),
        names: Arc::clone(&app.names),
        pages: Arc::clone(&app.pages),
        archives: Arc::clone(&app.archives),
    })
}

/// What a page says of the tree that it shows a part of.
fn facts(publication: &Publication) -> Vec<String> {
    let (what, name) = split(&publication.reference);
    let content = publication.content;
    let entries = counted(content.entries, "entry", "entries");
    vec![
        format!("{what} {name}"),
        format!("number {}, published {}", publication.seq, short_time(publication.time.seconds())),
        format!("{entries}, {}", short_size(content.bytes)),
    ]
}

/// The line of a ref, or of a part of a channel's name.
fn row(name: &str, state: Option<&RefState>) -> Row {
    let Some(RefState { publication, .. }) = state else { return Row::directory(name.as_bytes()) };
    let (what, _) = split(&publication.reference);
    let time = i64::try_from(publication.time.seconds()).ok();
    Row::tree(name.as_bytes(), &what, publication.content.bytes).at(time)
}

/// The kind of a ref, and its name as it stands in an index.
fn split(reference: &RefName) -> (String, String) {
    let text = reference.to_string();
    let (what, name) = text.split_once(':').unwrap_or(("ref", &text));
    (what.to_owned(), name.to_owned())
}

/// What the first segments of a path mean.
enum Lookup {
    /// A tree; its path begins at this segment.
    Tree { state: Arc<RefState>, rest: usize },
    /// Channels, parts of channels or refs.
    Names { names: BTreeMap<String, Option<Arc<RefState>>>, is_slashed: bool },
    /// Nothing that may be seen.
    Nothing,
}

impl Lookup {
    fn new(segments: &[Vec<u8>], refs: &Refs, may_read: impl Fn(&Channel) -> bool) -> Self {
        let texts: Vec<&str> = segments.iter().map_while(|segment| str::from_utf8(segment).ok()).collect();
        // The name of a ref is one segment, slashes included. Everywhere else, a slash that was encoded is not a way
        // to write one that is not.
        let mut encoded = segments.iter().enumerate().filter(|(_, segment)| segment.contains(&b'/'));
        let (encoded, is_one) = (encoded.next().map(|(at, _)| at), encoded.next().is_none());
        if !is_one {
            return Self::Nothing;
        }
        // The shortest channel that has this ref: a longer one could only be reached through a ref of that name.
        for at in 1..texts.len().min(CHANNEL_SEGMENTS_MAX + 1) {
            if encoded.is_some_and(|encoded| encoded != at) {
                continue;
            }
            let Ok(channel) = texts[..at].join("/").parse::<Channel>() else { continue };
            let Ok(typed) = texts[at].parse::<TypedRef>() else { continue };
            let states = typed.candidates().into_iter().filter_map(|name| refs.get(&channel, &name));
            let found = states.into_iter().find(|state| state.publication.manifest.is_some());
            if let Some(state) = found.filter(|_| may_read(&channel)) {
                return Self::Tree { state: Arc::clone(state), rest: at + 1 };
            }
        }
        if encoded.is_some() { Self::Nothing } else { Self::names(segments, &texts, refs, may_read) }
    }

    fn names(segments: &[Vec<u8>], texts: &[&str], refs: &Refs, may_read: impl Fn(&Channel) -> bool) -> Self {
        let is_slashed = segments.last().is_some_and(Vec::is_empty);
        if texts.len() < segments.len() {
            return Self::Nothing;
        }
        let prefix = texts.join("/");
        let prefix = prefix.strip_suffix('/').unwrap_or(&prefix);
        let mut names = BTreeMap::new();
        for (channel, mut states) in refs.channels().filter(|(channel, _)| may_read(channel)) {
            let is_shown = |state: &&Arc<RefState>| state.publication.manifest.is_some();
            if channel.as_str() == prefix {
                for state in states.filter(is_shown) {
                    // Of a branch and a tag of one name, the branch is what the name leads to.
                    let (what, name) = split(&state.publication.reference);
                    if what == "branch" || !names.contains_key(&name) {
                        names.insert(name, Some(Arc::clone(state)));
                    }
                }
            } else if let Some(below) = below(channel.as_str(), prefix)
                && states.any(|state| is_shown(&state))
            {
                let name = below.split('/').next().unwrap_or(below);
                names.entry(name.to_owned()).or_default();
            }
        }
        if names.is_empty() && !prefix.is_empty() { Self::Nothing } else { Self::Names { names, is_slashed } }
    }
}

fn below<'a>(channel: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() { Some(channel) } else { channel.strip_prefix(prefix)?.strip_prefix('/') }
}
