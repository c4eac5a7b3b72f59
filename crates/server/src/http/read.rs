//! What clients of ours ask: evidence, deltas, where contents lie, and what there is.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use smart_sync_store::codec::put_prefixed;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Manifest, Node as TreeNode};
use smart_sync_store::object::ObjectKey;
use smart_sync_sync::evidence::{BuildError, DatedIndexes, Evidence, Inquiry, LogReader, Private, build};
use smart_sync_sync::log::heads::HeadKey;
use smart_sync_sync::log::merkle::{LogHash, Node, NodeReader};
use smart_sync_sync::name::{Channel, RefName, TypedRef};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::wire::locate::{Wanted, decode as decode_locate};

use super::problem::Problem;
use super::static_files::{TEXT, caching};
use super::{App, blocking};
use crate::realm::log_files::LogFiles;
use crate::realm::pages::StorePages;
use crate::realm::view::View;
use crate::realm::{Published, fetch};
use crate::tokens::Caller;

/// How hard a delta is compressed: it is computed for one client, who waits.
const DELTA_LEVEL: i32 = 3;
/// Publications in one answer.
const HISTORY_MAX: u64 = 100;

/// What a client says of itself when it asks for an update.
#[derive(Debug, Default, Deserialize)]
pub(super) struct UpdateQuery {
    /// The manifest that its target has.
    have: Option<String>,
    /// The log size that it last verified.
    size: Option<u64>,
    /// The time as of which the ref is asked for.
    at: Option<u64>,
}

/// `GET /v1/update/<channel>/<ref>`
pub(super) async fn update(
    State(app): State<Arc<App>>,
    Path((channel, reference)): Path<(String, String)>,
    Query(query): Query<UpdateQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let channel = visible_channel(&app, &headers, &channel)?;
    let query_time =
        query.at.map(|at| UnixTime::new(at).ok_or_else(|| malformed("at is beyond the year 9999")));
    let at = query_time.transpose()?;
    blocking(move || {
        let view = app.realm.view()?;
        let reference = choose_ref(&app, &view, &channel, &reference)?;
        let known = known(&app, &view, &channel, &reference, &query)?;
        match (at, known) {
            (Some(at), _) => dated_answer(&app, &view, &channel, &reference, at),
            (None, Known::Everything) => Ok(evidence_response(short_evidence(&view))),
            (None, Known::Size(size)) => evidence_answer(&app, &view, &channel, &reference, Some(size)),
            (None, Known::Nothing) => evidence_answer(&app, &view, &channel, &reference, None),
        }
    })
    .await
}

/// What the client has verified before.
enum Known {
    /// This very log and this very manifest.
    Everything,
    /// A smaller log.
    Size(u64),
    /// Nothing that helps.
    Nothing,
}

fn known(
    app: &App,
    view: &View,
    channel: &Channel,
    reference: &RefName,
    query: &UpdateQuery,
) -> Result<Known, Problem> {
    let Some(size) = query.size else { return Ok(Known::Nothing) };
    if size == view.size && query.have.is_some() {
        let newest = app.realm.newest(view, channel, reference)?;
        let manifest = newest.and_then(|newest| newest.publication.manifest);
        if manifest.map(|manifest| manifest.id.to_string()) == query.have {
            return Ok(Known::Everything);
        }
    }
    // A client that has seen a larger log learns from the evidence that this one is behind.
    Ok(if (1..=view.size).contains(&size) { Known::Size(size) } else { Known::Nothing })
}

/// A ref as it was typed, without a kind: a branch if there is one, else a tag.
fn choose_ref(app: &App, view: &View, channel: &Channel, typed: &str) -> Result<RefName, Problem> {
    let typed: TypedRef = typed.parse().map_err(|error| malformed(&format!("{error}")))?;
    let candidates = typed.candidates();
    for candidate in &candidates {
        if app.realm.head(view, channel, candidate)?.is_some() {
            return Ok(candidate.clone());
        }
    }
    candidates.into_iter().next().ok_or(Problem::NotFound)
}

/// `GET /v1/delta/<from>/<to>`
pub(super) async fn delta(
    State(app): State<Arc<App>>,
    Path((from, to)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let from: Option<ManifestId> = match from.as_str() {
        "none" => None,
        from => Some(from.parse().map_err(|_| Problem::NotFound)?),
    };
    let to: ManifestId = to.parse().map_err(|_| Problem::NotFound)?;
    let domains = app.domains_to_read(&app.caller(&headers)?)?;
    blocking(move || {
        for domain in domains {
            if !has_manifest(&app, &domain, to)? {
                continue;
            }
            if let Some(from) = from
                && !has_manifest(&app, &domain, from)?
            {
                return Err(Problem::NotFound);
            }
            let delta = fetch::delta(&app.realm.store, &domain, from, to)?;
            let bytes = delta.encode(DELTA_LEVEL).map_err(|error| Problem::Fault(error.into()))?;
            return Ok(octets(bytes, caching(&domain)));
        }
        Err(Problem::NotFound)
    })
    .await
}

fn has_manifest(app: &App, domain: &Domain, manifest: ManifestId) -> Result<bool, Problem> {
    let key = ObjectKey::page(manifest.root_page());
    let found = app.realm.store.locate(domain, &[key]).map_err(|error| Problem::Fault(error.into()))?;
    Ok(found.iter().any(Option::is_some))
}

/// `POST /v1/locate`
pub(super) async fn locate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let wanted = decode_locate(&body).map_err(|error| malformed(&error.to_string()))?;
    let domains = app.domains_to_read(&app.caller(&headers)?)?;
    let wanted: Vec<_> = wanted.into_iter().map(Wanted::content).collect();
    blocking(move || {
        // One answer speaks of one domain: the first that has something of what is asked for.
        for domain in domains {
            let map = fetch::locate(&app.realm.store, &domain, &wanted)?;
            if !map.contents.is_empty() {
                return Ok(octets(map.encode(), "no-store"));
            }
        }
        Ok(octets(smart_sync_sync::wire::fetch_map::FetchMap::default().encode(), "no-store"))
    })
    .await
}

/// Which publications of a ref are asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct HistoryQuery {
    before: Option<u64>,
}

/// `GET /v1/history/<channel>/<ref>`: the notes of a ref's publications, newest first, each with its length in
/// front. A reader who knows the newest one by its proof follows the rest by their hashes.
pub(super) async fn history(
    State(app): State<Arc<App>>,
    Path((channel, reference)): Path<(String, String)>,
    Query(query): Query<HistoryQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let channel = visible_channel(&app, &headers, &channel)?;
    blocking(move || {
        let view = app.realm.view()?;
        let reference = choose_ref(&app, &view, &channel, &reference)?;
        let key = app.realm.head_key(&channel, &reference)?.ok_or(Problem::NotFound)?;
        let leaves = app.realm.index().history(&key, query.before, HISTORY_MAX)?;
        let mut out = Vec::new();
        for (_, leaf) in leaves {
            let published = app.realm.published(leaf, view.size)?;
            put_prefixed(&mut out, &published.bytes);
            put_prefixed(&mut out, published.opening.as_ref().map_or(&[], |opening| &opening.random));
            put_prefixed(&mut out, published.opening.as_ref().map_or(&[], |opening| &opening.note));
        }
        if out.is_empty() { Err(Problem::NotFound) } else { Ok(octets(out, "no-cache")) }
    })
    .await
}

/// A ref, for people and scripts. It is what the server says, not what was proven.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RefInfo {
    channel: String,
    r#ref: String,
    kind: String,
    seq: u64,
    time: u64,
    manifest: Option<String>,
    entries: u64,
    bytes: u64,
    commit: Option<String>,
}

/// `GET /v1/refs`
pub(super) async fn all_refs(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    list_refs(app, &headers, |_| true).await
}

/// `GET /v1/refs/<channel>`
pub(super) async fn refs(
    State(app): State<Arc<App>>,
    Path(channel): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let channel = visible_channel(&app, &headers, &channel)?;
    list_refs(app, &headers, move |other| *other == channel).await
}

async fn list_refs(
    app: Arc<App>,
    headers: &HeaderMap,
    is_wanted: impl Fn(&Channel) -> bool + Send + 'static,
) -> Result<Response, Problem> {
    let caller = app.caller(headers)?;
    blocking(move || {
        let infos: Vec<_> = visible_refs(&app, &caller)?
            .into_iter()
            .filter(|published| is_wanted(&published.publication.channel))
            .map(|published| info(&published))
            .collect();
        let json = serde_json::to_vec(&infos).map_err(|error| Problem::Fault(error.into()))?;
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
        Ok((headers, json).into_response())
    })
    .await
}

/// The newest publication of every ref that the caller may see.
pub(super) fn visible_refs(app: &App, caller: &Caller) -> Result<Vec<Published>, Problem> {
    let view = app.realm.view()?;
    let mut refs = Vec::new();
    for (channel, _, head) in app.realm.refs(&view)? {
        if app.may_read(caller, &channel) {
            refs.push(app.realm.published(head.index, view.size)?);
        }
    }
    Ok(refs)
}

fn info(published: &Published) -> RefInfo {
    let publication = &published.publication;
    RefInfo {
        channel: publication.channel.to_string(),
        r#ref: publication.reference.to_string(),
        kind: publication.kind.to_string(),
        seq: publication.seq,
        time: publication.time.seconds(),
        manifest: publication.manifest.map(|manifest| format!("blake3:{}", manifest.id)),
        entries: publication.content.entries,
        bytes: publication.content.bytes,
        commit: publication.git.map(|git| git.commit.to_string()),
    }
}

/// `GET /v1/root/<version>`
pub(super) async fn root(
    State(app): State<Arc<App>>,
    Path(version): Path<String>,
) -> Result<Response, Problem> {
    let version = match version.as_str() {
        "latest" => None,
        version => Some(version.parse().map_err(|_| Problem::NotFound)?),
    };
    blocking(move || {
        let view = app.realm.view()?;
        let leaf = app.realm.index().root(version)?.ok_or(Problem::NotFound)?;
        let note = app.realm.files.leaf(leaf, view.size)?;
        Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], note).into_response())
    })
    .await
}

/// `GET /v1/signed/<channel>/<ref>/<file>`: the publication, the tree's checksums, and signatures of both that other
/// programs check.
pub(super) async fn signed(
    State(app): State<Arc<App>>,
    Path((channel, reference, file)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let channel = visible_channel(&app, &headers, &channel)?;
    blocking(move || {
        let view = app.realm.view()?;
        let reference = choose_ref(&app, &view, &channel, &reference)?;
        let newest = app.realm.newest(&view, &channel, &reference)?.ok_or(Problem::NotFound)?;
        let bytes = match file.as_str() {
            "publication" => newest.note().to_vec(),
            "SUMS" => sums(&app, &newest)?.into_bytes(),
            name => app.realm.sidecar(&newest.leaf, name)?.ok_or(Problem::NotFound)?,
        };
        Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], bytes).into_response())
    })
    .await
}

/// The tree as `b3sum` prints it.
fn sums(app: &App, published: &Published) -> Result<String, Problem> {
    let manifest = published.publication.manifest.ok_or(Problem::NotFound)?;
    let domain = app.realm.domain(&published.publication.channel)?;
    let pages = StorePages::new(Arc::clone(&app.realm.store), domain);
    let fault = |error| Problem::Fault(anyhow::Error::new(error));
    let manifest = Manifest::open(pages, manifest.id, Some(manifest.bytes)).map_err(fault)?;
    let mut out = String::new();
    for entry in manifest.iter() {
        let entry = entry.map_err(fault)?;
        if let TreeNode::File(content) = &entry.node {
            let line = smart_sync_sync::sums::line(entry.path.as_bytes(), &content.id);
            // Writing to a string does not fail.
            let _ = out.write_str(&line);
        }
    }
    Ok(out)
}

/// The channel of a request, if the caller may see it.
fn visible_channel(app: &App, headers: &HeaderMap, segment: &str) -> Result<Channel, Problem> {
    let caller = app.caller(headers)?;
    let channel: Channel = segment.parse().map_err(|_| Problem::NotFound)?;
    if app.may_read(&caller, &channel) { Ok(channel) } else { Err(Problem::NotFound) }
}

fn octets(bytes: Vec<u8>, cache: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, cache)];
    (headers, bytes).into_response()
}

fn malformed(text: &str) -> Problem {
    Problem::Malformed(text.to_owned())
}

/// The answer to a client that has seen this very log: the checkpoint with the clock's newest signature.
fn short_evidence(view: &View) -> Evidence {
    Evidence::Unchanged { checkpoint: view.checkpoint.to_vec() }
}

/// Evidence for where a ref stands now. `base` is the log size that the client knows.
pub(super) fn evidence_answer(
    app: &App,
    view: &View,
    channel: &Channel,
    reference: &RefName,
    base: Option<u64>,
) -> Result<Response, Problem> {
    answer(app, view, channel, reference, base, None)
}

/// Evidence for where a ref stood at a time.
fn dated_answer(
    app: &App,
    view: &View,
    channel: &Channel,
    reference: &RefName,
    at: UnixTime,
) -> Result<Response, Problem> {
    answer(app, view, channel, reference, None, Some(at))
}

fn answer(
    app: &App,
    view: &View,
    channel: &Channel,
    reference: &RefName,
    base: Option<u64>,
    at: Option<UnixTime>,
) -> Result<Response, Problem> {
    let realm = &app.realm;
    // A private channel that was never published to is answered as any channel that is not there.
    let key = match realm.head_key(channel, reference)? {
        Some(key) => key,
        None => HeadKey::open(channel, reference),
    };
    let (dated, dated_table) = match at {
        Some(at) => {
            let index = realm.index();
            let found = index.heads_at(at.seconds(), view.size)?;
            let (found, next) = match found {
                Some((found, next)) => (Some(found), next),
                // The log is younger than that: its first heads leaf shows it.
                None => (None, index.heads_at(u64::MAX, 2)?.map(|(first, _)| first)),
            };
            let table = index.table(found.map_or(0, |found| found + 1))?;
            (Some(DatedIndexes { found, next }), Some(table))
        }
        None => (None, None),
    };
    let table = dated_table.as_ref().unwrap_or(&view.table);
    let private = match realm.secrets.slot_secret(channel)? {
        Some(secret) if realm.is_private(channel) => {
            let head = table.get(&key);
            let opening = head.map(|head| realm.secrets.opening(&head.leaf)).transpose()?;
            Some(Private { secret, opening })
        }
        _ => None,
    };
    let inquiry = Inquiry {
        checkpoint: view.checkpoint.to_vec(),
        size: view.size,
        base: base.unwrap_or(0),
        roots: realm.roots_after(view, base)?,
        key,
        table,
        dated,
        private,
    };
    let log = LogAt { files: &realm.files, size: view.size };
    let evidence = build(&log, inquiry).map_err(|error| match error {
        BuildError::Log(error) => error,
        BuildError::Inquiry(error) => error.into(),
    })?;
    Ok(evidence_response(Evidence::Full(Box::new(evidence))))
}

fn evidence_response(evidence: Evidence) -> Response {
    octets(evidence.encode(), "no-store")
}

/// The log at a size, for what puts evidence together.
struct LogAt<'a> {
    files: &'a LogFiles,
    size: u64,
}

impl NodeReader for LogAt<'_> {
    type Error = anyhow::Error;

    fn node(&self, node: Node) -> anyhow::Result<LogHash> {
        Ok(self.files.nodes(self.size).node(node)?)
    }
}

impl LogReader for LogAt<'_> {
    fn leaf(&self, index: u64) -> anyhow::Result<Vec<u8>> {
        self.files.leaf(index, self.size)
    }
}
