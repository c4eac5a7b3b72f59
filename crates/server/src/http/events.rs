//! Telling hosts that a ref has moved, so that they need not ask again and again.
//!
//! A stream of server-sent events for one ref: its number at once, and its new number when it moves, also when another
//! process has published. What is sent proves nothing; whoever is told asks, and verifies the answer as always. Of a
//! ref that a caller may not know of, the number is that of one that does not exist.
//!
//! One task looks whether the log has grown, and only while somebody listens: that is one look at a file, however many
//! listen.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;
use super::read::{Asked, asked_channel, choose_ref};
use super::{App, blocking};
use crate::config::Limits;

/// How often it is looked whether the log has grown.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a stream says nothing before it shows that it is still there.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a stream lasts. Whoever asks again shows its token again, which may have ended.
const LASTS: Duration = Duration::from_secs(3600);
/// Of all connections, the part that may be streams: the others are for who asks.
const SHARE: usize = 2;

/// Who listens, and what they are woken by.
pub(crate) struct Events {
    /// The size of the log, or nothing when the server stops.
    size: watch::Sender<Option<u64>>,
    places: Arc<Semaphore>,
}

impl Events {
    /// For a server with these limits.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            size: watch::Sender::new(Some(0)),
            places: Arc::new(Semaphore::new((limits.connections / SHARE).max(1))),
        }
    }

    /// Ends all streams, and those that begin from now on.
    fn close(&self) {
        self.size.send_replace(None);
    }
}

impl App {
    /// Wakes those who listen when the log has grown.
    pub(crate) async fn announce(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if self.events.size.receiver_count() == 0 {
                continue;
            }
            // A view that cannot be read is told of where somebody asks for something.
            let Ok(view) = self.view().await else { continue };
            self.events.size.send_if_modified(|size| {
                let has_grown = size.is_some_and(|size| size != view.size);
                if has_grown {
                    *size = Some(view.size);
                }
                has_grown
            });
        }
    }

    /// Ends what would last longer than the requests that are in progress.
    pub(crate) fn stop(&self) {
        self.events.close();
    }

    /// The number of a ref; 0 where there is none.
    async fn number(self: &Arc<Self>, asked: &Arc<Asked>, typed: &Arc<str>) -> Result<u64, Problem> {
        let (app, asked, typed) = (Arc::clone(self), Arc::clone(asked), Arc::clone(typed));
        blocking(move || {
            let view = app.realm.view();
            let reference = choose_ref(&app, &view, &asked, &typed)?;
            let head = asked.head_key(&app, &reference)?.and_then(|key| view.table.get(&key));
            Ok(head.map_or(0, |head| head.seq))
        })
        .await
    }
}

/// A stream that somebody listens to.
struct Listening {
    app: Arc<App>,
    asked: Arc<Asked>,
    typed: Arc<str>,
    size: watch::Receiver<Option<u64>>,
    told: Option<u64>,
    end: Instant,
    _place: OwnedSemaphorePermit,
}

/// `GET /v1/events/<channel>/<ref>`
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Path((channel, reference)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = Arc::new(asked_channel(&app, &headers, &channel).await?);
    let place = Arc::clone(&app.events.places).try_acquire_owned();
    let place = place.map_err(|_| Problem::Busy("too many hosts listen; ask from time to time instead"))?;
    let size = app.events.size.subscribe();
    let typed = Arc::from(reference);
    // A name that cannot be one is refused at once.
    app.number(&asked, &typed).await?;
    let end = Instant::now() + LASTS;
    let listening = Listening { app, asked, typed, size, told: None, end, _place: place };
    let body = Body::from_stream(stream::unfold(listening, next));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // What stands in front of the server is not to keep it back.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

/// The next that a stream says; nothing at its end.
async fn next(mut listening: Listening) -> Option<(Result<Bytes, Infallible>, Listening)> {
    loop {
        listening.size.borrow_and_update().as_ref()?;
        let number = listening.app.number(&listening.asked, &listening.typed).await.ok()?;
        if listening.told != Some(number) {
            listening.told = Some(number);
            return Some((Ok(Bytes::from(format!("data: {number}\n\n"))), listening));
        }
        let now = Instant::now();
        if now >= listening.end {
            return None;
        }
        match timeout_at(listening.end.min(now + SILENCE), listening.size.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some((Ok(Bytes::from_static(b":\n\n")), listening)),
        }
    }
}
