//! Fetching one file: upstream after upstream until it has come and is what it has to be.
//!
//! What one upstream has given is not asked of the next one again: it goes on where the other broke off, and all digests
//! are compared in the end. Where parts of several do not fit together, nobody knows whose was wrong, so the file is
//! taken from one alone the next time. [`health`] says whom to ask, [`answer`] what an answer promises.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use smart_sync_sync::kinds::pull::{Judge, Places};
use tokio::time::timeout;

use super::answer::{self, Fault, Question};
use super::flight::{Failure, Flight};
use super::health;
use super::marks::Mark;
use super::mirror::Mirror;
use super::pace::Pace;
use super::record::Attempt;
use super::transport::{self, Body, Opened, Wanted};
use super::upstreams::Source;
use crate::http::now;

/// What is said of an upstream whose file, or whose part of it, is another one.
const OTHER_DIGESTS: &str = "its digests are not those of the Manifest";

/// Why one attempt ended.
enum Trouble {
    /// The upstream is to blame.
    Upstream(Fault),
    /// This machine is.
    Local(anyhow::Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Upstream(fault)
    }
}

/// What has come of a file.
struct Coming<'a> {
    flight: &'a Arc<Flight>,
    judge: Judge,
    written: u64,
    /// The upstreams that have given a part.
    from: Vec<usize>,
}

impl<'a> Coming<'a> {
    fn new(flight: &'a Arc<Flight>) -> Self {
        Self { flight, judge: Judge::new(flight.expected), written: 0, from: Vec::new() }
    }

    fn is_whole(&self) -> bool {
        self.written == self.flight.expected.size
    }

    async fn take(&mut self, bytes: bytes::Bytes, from: usize) -> anyhow::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (flight, at, length) = (Arc::clone(self.flight), self.written, bytes.len() as u64);
        let mut judge = std::mem::replace(&mut self.judge, Judge::new(self.flight.expected));
        let writing = tokio::task::spawn_blocking(move || {
            judge.take(&bytes);
            flight.write(&bytes, at).map(|()| judge)
        });
        self.judge = writing.await??;
        self.written += length;
        self.flight.came(self.written);
        if self.from.last() != Some(&from) {
            self.from.push(from);
        }
        Ok(())
    }
}

/// One file that is fetched for a mirror.
pub(super) struct Fetch<'a> {
    pub(super) client: &'a Client,
    pub(super) mirror: &'a Mirror,
    pub(super) flight: &'a Arc<Flight>,
    /// How long an upstream may give nothing.
    pub(super) stall: Duration,
    /// Where what comes has room.
    pub(super) room: &'a Path,
}

impl Fetch<'_> {
    /// Fetches it, and says where it came from. What was tried for it is added to the attempts.
    pub(super) async fn run(&self, attempts: &mut Vec<Attempt>) -> Result<String, Failure> {
        let (mirror, flight) = (self.mirror, self.flight);
        let sha512 = &flight.expected.sha512;
        let mut coming = Coming::new(flight);
        let mut tries = vec![(0, false); mirror.sources.len()];
        let mut absent = 0;
        loop {
            let standings = mirror.standings(sha512, &tries, now());
            let Some(at) = health::next(&standings, now()) else {
                return Err(self.give_up(&standings, absent));
            };
            let is_mixed = mirror.is_marked(sha512, Mark::Mixed, now());
            if is_mixed && coming.from.iter().any(|from| *from != at) {
                self.begin_again(&mut coming)?;
            }
            let before = coming.written;
            let source = &mirror.sources[at];
            let asked = self.ask(source, at, &mut coming).await;
            let bytes = coming.written - before;
            tries[at] = (tries[at].0 + 1, bytes > 0);
            let fault = match &asked {
                Ok(()) if coming.judge.is_as_expected() => None,
                Ok(()) => Some(OTHER_DIGESTS.to_owned()),
                Err(Trouble::Upstream(Fault::Absent) | Trouble::Local(_)) => None,
                Err(Trouble::Upstream(fault)) => Some(fault.to_string()),
            };
            let is_whole = asked.is_ok() && fault.is_none();
            attempts.push(Attempt { source: source.url.clone(), bytes, is_whole, fault });
            match asked {
                Ok(()) if coming.judge.is_as_expected() => {
                    source.worked();
                    let urls: Vec<&str> =
                        coming.from.iter().map(|from| mirror.sources[*from].url.as_str()).collect();
                    return Ok(urls.join(" "));
                }
                Ok(()) => self.was_wrong(&mut coming)?,
                Err(Trouble::Upstream(fault)) => {
                    self.note(source, &fault);
                    match fault {
                        Fault::Absent => absent += 1,
                        Fault::Down { .. } => {}
                        Fault::Wrong(_) => {
                            mirror.mark(sha512, Mark::Wrong(at), now());
                            if coming.from.contains(&at) {
                                self.begin_again(&mut coming)?;
                            }
                        }
                    }
                }
                Err(Trouble::Local(error)) => return Err(Failure::local(&error)),
            }
        }
    }

    /// All has come, and is not what it has to be.
    fn was_wrong(&self, coming: &mut Coming<'_>) -> Result<(), Failure> {
        let (mirror, sha512) = (self.mirror, &self.flight.expected.sha512);
        let first = coming.from.first().copied();
        let alone = first.filter(|first| coming.from.iter().all(|from| from == first));
        if let Some(at) = alone {
            mirror.mark(sha512, Mark::Wrong(at), now());
            let fault = Fault::Wrong(OTHER_DIGESTS.to_owned());
            self.note(&mirror.sources[at], &fault);
        } else {
            mirror.mark(sha512, Mark::Mixed, now());
            let (mirror, file) = (&mirror.name, &self.flight.name);
            tracing::warn!(
                mirror,
                file,
                "parts from several upstreams do not make the file; nothing is kept"
            );
        }
        self.begin_again(coming)
    }

    /// Forgets what has come. What somebody was given cannot be taken back, so those are cut off.
    fn begin_again(&self, coming: &mut Coming<'_>) -> Result<(), Failure> {
        if self.flight.has_released() {
            return Err(Failure::Upstream);
        }
        *coming = Coming::new(coming.flight);
        Ok(())
    }

    fn note(&self, source: &Source, fault: &Fault) {
        match fault {
            Fault::Absent => source.worked(),
            Fault::Down { retry_after, .. } => source.failed(*retry_after, now()),
            // It answers, if not with this file.
            Fault::Wrong(_) => {}
        }
        let (mirror, file, upstream) = (&self.mirror.name, &self.flight.name, &source.url);
        if *fault == Fault::Absent {
            tracing::info!(mirror, file, upstream, "{fault}");
        } else {
            tracing::warn!(mirror, file, upstream, "{fault}");
        }
    }

    fn give_up(&self, standings: &[health::Standing], absent: usize) -> Failure {
        if absent == standings.len() {
            self.mirror.mark(&self.flight.expected.sha512, Mark::Absent, now());
            return Failure::Absent;
        }
        let nobody_was_asked = standings.iter().all(|standing| standing.tries == 0);
        match health::wait(standings, now()).filter(|_| nobody_was_asked) {
            Some(seconds) => Failure::Away(seconds),
            None => Failure::Upstream,
        }
    }

    /// Asks one upstream for what has not come yet.
    async fn ask(&self, source: &Source, at: usize, coming: &mut Coming<'_>) -> Result<(), Trouble> {
        let _turn = source.turns.acquire().await.map_err(|error| Trouble::Local(error.into()))?;
        let layout = source.layout(now());
        let places = layout.get_or_try_init(|| self.layout(source)).await?;
        let (name, expected) = (&self.flight.name, &self.flight.expected);
        let question = Question { name, size: expected.size, from: coming.written };
        let opened = self.open(source, &places.path(name, expected), question.from, expected.size).await?;
        let (mut body, mut skip) = match opened {
            Opened::Http(response) => {
                let skip = answer::judge(question, response.status(), response.headers(), now())?;
                (Body::Http(response), skip)
            }
            Opened::Other(_, Some(size)) if size != expected.size => {
                return Err(Fault::Wrong(format!("it has {size} bytes in place of {}", expected.size)).into());
            }
            Opened::Other(body, _) => (body, 0),
        };
        let (begun, mut pace) = (Instant::now(), Pace::new(self.stall));
        loop {
            let bytes = match timeout(self.stall, body.next()).await {
                Ok(Ok(Some(bytes))) => bytes,
                // What has to come is there: how the connection ends does not matter.
                _ if coming.is_whole() => return Ok(()),
                Ok(Ok(None)) => return Err(self.broke_off(coming, "it ended").into()),
                Ok(Err(Fault::Absent)) => return Err(Fault::Absent.into()),
                Ok(Err(fault)) => return Err(self.broke_off(coming, &fault.to_string()).into()),
                Err(_) => {
                    let text = format!("it gave nothing for {} seconds", self.stall.as_secs());
                    return Err(self.broke_off(coming, &text).into());
                }
            };
            if pace.is_too_slow(bytes.len() as u64, begun.elapsed()) {
                return Err(self.broke_off(coming, "it is too slow").into());
            }
            let known = skip.min(bytes.len() as u64);
            skip -= known;
            let new = bytes.slice(usize::try_from(known).unwrap_or(bytes.len())..);
            if coming.written + new.len() as u64 > expected.size {
                return Err(Fault::Wrong(format!(
                    "it gave more than the {} bytes of the file",
                    expected.size
                ))
                .into());
            }
            coming
                .take(new, at)
                .await
                .map_err(|error| Trouble::Local(error.context("keeping what comes")))?;
        }
    }

    fn broke_off(&self, coming: &Coming<'_>, reason: &str) -> Fault {
        Fault::down(format!("{reason}, after {} of {} bytes", coming.written, self.flight.expected.size))
    }

    async fn open(&self, source: &Source, path: &str, from: u64, bytes_max: u64) -> Result<Opened, Fault> {
        let wanted = Wanted { path, from, bytes_max, stall: self.stall, room: self.room, known: None };
        transport::open(self.client, &source.url, &source.scheme, wanted).await
    }

    /// Asks an upstream where it keeps its files.
    async fn layout(&self, source: &Source) -> Result<Box<dyn Places>, Fault> {
        let (file, bytes_max) = self.mirror.pull.layout_file();
        let read = |text: Option<&[u8]>| Ok(self.mirror.pull.read_layout(text));
        let mut body = match self.open(source, file, 0, bytes_max).await {
            Ok(Opened::Http(response)) => match response.status() {
                StatusCode::OK => Body::Http(response),
                StatusCode::NOT_FOUND | StatusCode::GONE => return read(None),
                status => return Err(Fault::down(format!("it answered {status} for its {file}"))),
            },
            Ok(Opened::Other(body, _)) => body,
            Err(Fault::Absent) => return read(None),
            Err(fault) => return Err(fault),
        };
        let mut text = Vec::new();
        loop {
            match timeout(self.stall, body.next()).await {
                Ok(Ok(Some(bytes))) if (text.len() + bytes.len()) as u64 <= bytes_max => {
                    text.extend_from_slice(&bytes);
                }
                Ok(Ok(Some(_))) => {
                    return Err(Fault::down(format!("its {file} is longer than {bytes_max} bytes")));
                }
                Ok(Ok(None)) => return read(Some(&text)),
                Ok(Err(Fault::Absent)) => return read(None),
                Ok(Err(fault)) => return Err(fault),
                Err(_) => return Err(Fault::down(format!("it broke off in its {file}"))),
            }
        }
    }
}
