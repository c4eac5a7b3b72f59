//! What the server says over HTTP.
//!
//! Handlers find out who asks and what for, hand the work to the realm, and turn what comes back into an answer.
//! `docs/protocol.md` lists the requests.

mod archives;
mod bundles;
mod caller;
mod cgi;
mod conditional;
mod deltas;
mod events;
mod evidence;
mod files;
mod git;
mod hosts;
mod index;
pub(crate) mod listen;
mod plain;
mod problem;
mod read;
mod refs;
mod static_files;
mod tree;
mod upstream;
mod write;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use smart_sync_store::object::ObjectKey;
use smart_sync_store::pack::PACK_LEN_MAX;
use smart_sync_sync::name::Channel;
use smart_sync_sync::wire::locate::LOCATE_BYTES_MAX;
use smart_sync_sync::wire::submission::SUBMISSION_BYTES_MAX;
use tokio::sync::Semaphore;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;

use archives::Archives;
pub(crate) use bundles::caching as bundle_caching;
pub(crate) use caller::now;
use caller::{RateLimit, identify, limit_rate, token_text};
use deltas::Deltas;
use events::Events;
use problem::Problem;
pub(crate) use read::DELTA_LEVEL;
use tree::{NamesCache, PageCache};

use crate::bundles::Bundles;
use crate::hosts::HostReports;
use crate::mirrors::Mirrors;
use crate::realm::Realm;
use crate::realm::view::View;
use crate::tokens::{Caller, TokenStore, Verb};
use crate::views::Views;

/// Packs that are taken in at once: each is held in memory until it is verified.
const UPLOADS_MAX: usize = 2;
/// Object keys of one question what is missing.
const KEYS_MAX: usize = 65_536;
/// The bytes of an object key: its kind and its id.
const KEY_BYTES: usize = 33;

/// What the handlers share.
pub(crate) struct App {
    pub(crate) realm: Arc<Realm>,
    tokens: Arc<TokenStore>,
    uploads: Semaphore,
    deltas: Deltas,
    bundles: Option<Arc<Bundles>>,
    events: Events,
    hosts: HostReports,
    names: Arc<NamesCache>,
    pages: Arc<PageCache>,
    archives: Arc<Archives>,
    mirrors: Option<Arc<Mirrors>>,
    views: Option<Arc<Views>>,
}

impl App {
    /// The handlers' state for a realm.
    pub(crate) fn new(
        realm: Arc<Realm>,
        tokens: TokenStore,
        bundles: Option<Arc<Bundles>>,
        mirrors: Option<Arc<Mirrors>>,
        views: Option<Arc<Views>>,
    ) -> Self {
        Self {
            events: Events::new(&realm.config.limits),
            hosts: HostReports::new(realm.data.hosts()),
            names: Arc::default(),
            pages: Arc::default(),
            archives: Arc::new(Archives::open(realm.data.archives())),
            mirrors,
            realm,
            tokens: Arc::new(tokens),
            uploads: Semaphore::new(UPLOADS_MAX),
            deltas: Deltas::default(),
            bundles,
            views,
        }
    }

    /// Who sent a request. Only who brings a token costs a look at the file of tokens.
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(text) = token_text(headers)? else { return Ok(Caller::Anonymous) };
        let tokens = Arc::clone(&self.tokens);
        blocking(move || identify(&tokens, &text)).await
    }

    /// The realm as it stands now.
    async fn view(&self) -> Result<Arc<View>, Problem> {
        if let Some(view) = self.realm.view_at_hand() {
            return Ok(view);
        }
        let realm = Arc::clone(&self.realm);
        blocking(move || Ok(realm.view())).await
    }

    fn may_read(&self, caller: &Caller, channel: &Channel) -> bool {
        !self.realm.is_private(channel)
            || caller.allows(Verb::Read, channel, now())
            || caller.allows(Verb::Publish, channel, now())
    }

    /// The domain of a channel, for a caller who may publish to it.
    fn domain_to_write(&self, caller: &Caller, channel: &Channel) -> Result<Domain, Problem> {
        if caller.allows(Verb::Publish, channel, now()) {
            return Ok(self.realm.domain(channel)?);
        }
        match caller {
            Caller::Anonymous => Err(Problem::Unauthorized("publishing needs a token")),
            // Whether a private channel exists is not told to whoever may not read it either.
            Caller::Holder(_) => {
                Err(Problem::Forbidden(format!("this token does not allow publishing to {channel}")))
            }
        }
    }

    /// Every domain that the caller may read from.
    fn domains_to_read(&self, caller: &Caller) -> Result<Vec<Domain>, Problem> {
        let mut domains = vec![Domain::public()];
        if matches!(caller, Caller::Holder(_)) {
            let mut channels: Vec<_> =
                self.realm.index().sealed_refs()?.into_iter().map(|(_, channel, _)| channel).collect();
            channels.dedup();
            for channel in channels.iter().filter(|channel| self.may_read(caller, channel)) {
                domains.push(self.realm.domain(channel)?);
            }
        }
        Ok(domains)
    }

    /// The first domain that the caller may read from and that has all of these manifests.
    async fn domain_of_manifests(
        self: &Arc<Self>,
        headers: &HeaderMap,
        manifests: Vec<ManifestId>,
    ) -> Result<Domain, Problem> {
        let caller = self.caller(headers).await?;
        let app = Arc::clone(self);
        blocking(move || {
            let keys: Vec<_> = manifests.iter().map(|id| ObjectKey::page(id.root_page())).collect();
            for domain in app.domains_to_read(&caller)? {
                let found = app.realm.store.locate(&domain, &keys).map_err(anyhow::Error::from)?;
                if found.iter().all(Option::is_some) {
                    return Ok(domain);
                }
            }
            Err(Problem::NotFound)
        })
        .await
    }
}

/// Everything that is answered.
pub(crate) fn router(app: Arc<App>) -> Router {
    let body_idle = Duration::from_secs(app.realm.config.limits.body_idle_seconds);
    let rate = Arc::new(RateLimit::new(&app.realm.config.limits));
    Router::new()
        .route("/", get(files::front_page))
        .route("/healthz", get(static_files::health))
        .route("/checkpoint", get(static_files::checkpoint))
        .route("/v1/unsigned-checkpoint", get(static_files::unsigned_checkpoint))
        .route("/tile/{*path}", get(static_files::tile))
        .route("/pack/{pack}", get(static_files::pack))
        .route("/page/{page}", get(static_files::page))
        .route("/bundle/{from}/{to}", get(bundles::bundle))
        .route("/v1/update/{channel}/{reference}", get(evidence::update))
        .route("/v1/events/{channel}/{reference}", get(events::events))
        .route("/v1/delta/{from}/{to}", get(read::delta))
        .route("/v1/locate", post(read::locate).layer(DefaultBodyLimit::max(LOCATE_BYTES_MAX)))
        .route("/v1/content/{content}/{size}", get(read::content))
        .route("/v1/history/{channel}/{reference}", get(read::history))
        .route("/v1/time/{channel}/{reference}/{seq}", get(read::time))
        .route("/v1/refs", get(refs::all))
        .route("/v1/refs/{channel}", get(refs::of_channel))
        .route("/v1/root/{version}", get(read::root))
        .route("/v1/signed/{channel}/{reference}/{file}", get(read::signed))
        .route(
            "/v1/missing/{channel}",
            post(write::missing).layer(DefaultBodyLimit::max(KEYS_MAX * KEY_BYTES)),
        )
        .route(
            "/v1/missing-contents/{channel}",
            post(write::missing_contents).layer(DefaultBodyLimit::max(LOCATE_BYTES_MAX)),
        )
        .route("/v1/has-manifest/{channel}/{manifest}", get(write::has_manifest))
        .route("/v1/pack/{channel}/{pack}", put(write::pack).layer(DefaultBodyLimit::max(PACK_LEN_MAX)))
        .route("/v1/publish", post(write::publish).layer(DefaultBodyLimit::max(SUBMISSION_BYTES_MAX)))
        .route("/v1/root", post(write::root).layer(DefaultBodyLimit::max(1 << 16)))
        .route("/v1/cosignature", post(write::cosignature).layer(DefaultBodyLimit::max(1 << 16)))
        .route("/v1/mirrors", get(upstream::list))
        .route("/v1/hosts", get(hosts::list))
        .route("/v1/hosts/{name}", post(hosts::report).layer(DefaultBodyLimit::max(hosts::BODY_BYTES_MAX)))
        .route(
            "/git/{*path}",
            get(git::refs).post(git::objects).layer(DefaultBodyLimit::max(git::BODY_BYTES_MAX)),
        )
        .route("/files", get(files::without_slash))
        .route("/files/", get(files::top))
        .route("/files/{*path}", get(files::file))
        .fallback(get(plain::file))
        // A body that stops coming must not hold the place of another.
        .layer(RequestBodyTimeoutLayer::new(body_idle))
        .layer(from_fn_with_state(rate, limit_rate))
        // Headers are not logged, so a token never is.
        .layer(
            TraceLayer::new_for_http().make_span_with(request_span).on_response(log_response).on_failure(()),
        )
        .with_state(app)
}

fn request_span(request: &axum::extract::Request) -> tracing::Span {
    let peer = request.extensions().get::<listen::Peer>().map(|peer| tracing::field::display(peer.0));
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), peer)
}

fn log_response(response: &axum::response::Response, latency: Duration, _span: &tracing::Span) {
    let status = response.status().as_u16();
    tracing::info!(status, milliseconds = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX), "answered");
}

/// Runs what reads or computes for long on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::Fault(error.into()))?
}
