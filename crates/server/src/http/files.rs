//! `/files`: from a URL to a tree. Channels have slashes, so the refs that there are decide where a channel ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template as _;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{Redirect, Response};
use percent_encoding::percent_decode_str;
use smart_sync_sync::name::{Channel, RefName, TypedRef};
use smart_sync_sync::record::Publication;

use super::index::{Index, Row, encode_segment};
use super::problem::Problem;
use super::tree::{TreeView, html};
use super::{App, blocking};
use crate::realm::refs::{RefState, Refs};

/// The most segments of a channel's name.
const CHANNEL_SEGMENTS_MAX: usize = 16;

/// `GET /`: where a person begins.
pub(super) async fn front_page(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let view = app.view().await?;
    let rows = vec![Row::directory(b"files"), Row::other(b"checkpoint", "the signed head of the log")];
    let title = app.realm.origin.to_string();
    let page = Index::new(&title, false, rows)
        .with_note(format_args!("smart-sync realm {title}, root document {}", view.root.leaf()))
        .render()
        .map_err(|error| Problem::Fault(error.into()))?;
    Ok(html(page, view.heads.time.seconds(), &headers))
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
    let segments: Vec<Vec<u8>> =
        path.split('/').map(|segment| percent_decode_str(segment).collect()).collect();
    // A dot segment that was encoded is not a way to write one that is not.
    if segments.iter().any(|segment| segment == b"." || segment == b"..") {
        return Err(Problem::NotFound);
    }
    let caller = app.caller(&headers).await?;
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
    match lookup {
        Lookup::Tree { state, rest } => {
            if rest == segments.len() {
                return Err(Problem::MovedToDirectory(format!("/files/{path}/")));
            }
            match tree_view(&app, &state.publication)?.answer(segments[rest..].join(&b'/'), &headers).await? {
                Some(response) => Ok(response),
                None => Err(Problem::MovedToDirectory(format!("/files/{path}/"))),
            }
        }
        Lookup::Names { names, is_slashed } => {
            if !is_slashed {
                return Err(Problem::MovedToDirectory(format!("/files/{path}/")));
            }
            let rows = names.iter().map(|name| Row::directory(name.as_bytes())).collect();
            let title = format!("Index of /files/{path}");
            let page =
                Index::new(&title, true, rows).render().map_err(|error| Problem::Fault(error.into()))?;
            Ok(html(page, view.heads.time.seconds(), &headers))
        }
        Lookup::Nothing => Err(Problem::NotFound),
    }
}

fn tree_view(app: &App, publication: &Publication) -> Result<TreeView, Problem> {
    let manifest = publication.manifest.ok_or(Problem::NotFound)?;
    let reference = &publication.reference;
    Ok(TreeView {
        store: Arc::clone(&app.realm.store),
        domain: app.realm.domain(&publication.channel)?,
        manifest: manifest.id,
        title: format!("/files/{}/{}", publication.channel, encode_segment(short(reference).as_bytes())),
        modified: publication.content_time.seconds(),
        is_public: !app.realm.is_private(&publication.channel),
        is_immutable: !matches!(reference, RefName::Branch(_)),
    })
}

/// A ref as it stands in an index: without its kind.
fn short(reference: &RefName) -> String {
    let text = reference.to_string();
    text.split_once(':').map_or(text.clone(), |(_, name)| name.to_owned())
}

/// What the first segments of a path mean.
enum Lookup {
    /// A tree; its path begins at this segment.
    Tree { state: Arc<RefState>, rest: usize },
    /// Channels, parts of channels or refs.
    Names { names: BTreeSet<String>, is_slashed: bool },
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
        let mut names = BTreeSet::new();
        for (channel, mut states) in refs.channels().filter(|(channel, _)| may_read(channel)) {
            let is_shown = |state: &&Arc<RefState>| state.publication.manifest.is_some();
            if channel.as_str() == prefix {
                names.extend(states.filter(is_shown).map(|state| short(&state.publication.reference)));
            } else if let Some(below) = below(channel.as_str(), prefix)
                && states.any(|state| is_shown(&state))
            {
                names.extend(below.split('/').next().map(str::to_owned));
            }
        }
        if names.is_empty() && !prefix.is_empty() { Self::Nothing } else { Self::Names { names, is_slashed } }
    }
}

fn below<'a>(channel: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() { Some(channel) } else { channel.strip_prefix(prefix)?.strip_prefix('/') }
}
