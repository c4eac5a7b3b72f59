//! Fetching one file of an upstream that is followed, from whichever upstream gives it as it has to be.
//!
//! What has come of a file stays until it is whole, also when this program is killed: the next run goes on there. A file
//! whose digests are known is judged by them, whoever gave which part; of one that has none, all comes from one upstream.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use smart_sync_store::id::ContentId;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::super::Outside;
use super::super::answer::{self, Fault, Open, OpenQuestion, Question, judge_open};
use super::super::health::{self, Standing};
use super::super::pace::Pace;
use super::super::record::Attempt;
use super::super::transport::{self, Body, Opened, Wanted};
use super::super::upstreams::Source;
use super::look::Offered;
use super::must::Must;
use crate::http::now;

/// What is said of a file that is not what it has to be.
const OTHER: &str = "it is not what it has to be";
/// How long is waited at most for an upstream that is left alone, in seconds.
const WAIT_SECONDS_MAX: u64 = 30;
/// How often that is done for one file.
const WAITS_MAX: usize = 3;

/// Why a file did not come.
#[derive(Debug)]
pub(super) enum Missing {
    /// No upstream has given it as it has to be.
    Upstream {
        /// What was wrong last.
        reason: String,
        /// Whether something came that is not it.
        is_wrong: bool,
    },
    /// It cannot be kept here, and neither can others.
    Local(anyhow::Error),
}

/// The bytes that may still come.
#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) const fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    pub(super) fn left(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Takes some of them; an error where there are not so many.
    pub(super) fn take(&self, bytes: u64) -> anyhow::Result<()> {
        let left = self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes));
        left.map(drop).map_err(|_| {
            anyhow::anyhow!("more would come than a look may bring\nhint: `max-gib` of the mirror in server.toml says how much")
        })
    }
}

/// Whoever fetches files.
pub(super) struct Fetching<'a> {
    pub(super) outside: &'a Outside,
    pub(super) sources: &'a [Source],
    /// The upstream that is asked first.
    pub(super) first: usize,
    pub(super) budget: &'a Budget,
    /// Where parts of files are kept.
    pub(super) parts: &'a Path,
    /// Where else there is room.
    pub(super) room: &'a Path,
}

/// What is known of the upstreams while one file is fetched.
struct Tried {
    tries: u32,
    has_given: bool,
    is_wrong: bool,
}

impl Fetching<'_> {
    /// Fetches a file to a path. What was tried for it is added to the attempts.
    pub(super) async fn fetch(
        &self,
        offered: &Offered,
        to: &Path,
        attempts: &mut Vec<Attempt>,
    ) -> Result<(), Missing> {
        let part = self.part_of(offered);
        // The upstream that said that the file is there is the first to be asked for it.
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by_key(|at| *at != self.first);
        let mut tried: Vec<Tried> =
            order.iter().map(|_| Tried { tries: 0, has_given: false, is_wrong: false }).collect();
        let (mut waits, mut reason, mut is_wrong) = (0, "no upstream could be asked".to_owned(), false);
        if offered.must.is_proven() && is_here(&part, &offered.must).await.map_err(Missing::Local)? {
            return settle(&part, to).map_err(Missing::Local);
        }
        loop {
            let standing = |(at, tried): (&usize, &Tried)| Standing {
                until: self.sources[*at].left_alone_until(),
                is_wrong: tried.is_wrong,
                tries: tried.tries,
                has_given: tried.has_given,
            };
            let standings: Vec<Standing> = order.iter().zip(&tried).map(standing).collect();
            let Some(next) = health::next(&standings, now()) else {
                let fresh: Vec<Standing> =
                    standings.into_iter().filter(|standing| standing.tries == 0).collect();
                let wait = health::wait(&fresh, now()).filter(|seconds| *seconds <= WAIT_SECONDS_MAX);
                let Some(seconds) = wait.filter(|_| waits < WAITS_MAX) else {
                    return Err(Missing::Upstream { reason, is_wrong });
                };
                waits += 1;
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                continue;
            };
            let source = &self.sources[order[next]];
            let from = begin(&part, &offered.must);
            let asked = self.ask(source, offered, &part, from).await;
            let length = fs::metadata(&part).map_or(0, |metadata| metadata.len());
            let bytes = length.saturating_sub(from);
            (tried[next].tries, tried[next].has_given) = (tried[next].tries + 1, bytes > 0);
            let judged = match asked {
                Ok(Ok(())) => {
                    let is_it = is_here(&part, &offered.must).await.map_err(Missing::Local)?;
                    if is_it { Ok(()) } else { Err(Fault::Wrong(OTHER.to_owned())) }
                }
                Ok(Err(fault)) => Err(fault),
                Err(error) => return Err(Missing::Local(error)),
            };
            attempts.push(attempt(source, bytes, judged.as_ref().err()));
            let Err(fault) = judged else {
                source.worked();
                return settle(&part, to).map_err(Missing::Local);
            };
            reason = format!("{}: {fault}", source.url);
            is_wrong |= matches!(fault, Fault::Wrong(_));
            match fault {
                Fault::Absent => source.worked(),
                Fault::Down { retry_after, .. } => source.failed(retry_after, now()),
                Fault::Wrong(_) => {
                    remove(&part).map_err(Missing::Local)?;
                    // Where others have given a part, nobody knows whose was wrong.
                    tried[next].is_wrong = from == 0;
                    tried[next].has_given = from > 0;
                }
            }
        }
    }

    /// Where the part of a file is. Of another version of it the part is another one.
    fn part_of(&self, offered: &Offered) -> PathBuf {
        let name = [offered.place.as_bytes(), &offered.must.key()].concat();
        self.parts.join(ContentId::of(&name).to_string())
    }

    /// Asks one upstream for what is not here yet.
    async fn ask(
        &self,
        source: &Source,
        offered: &Offered,
        part: &Path,
        from: u64,
    ) -> anyhow::Result<Result<(), Fault>> {
        let (size, bytes_max) = match &offered.must {
            Must::Come { size, bytes_max, .. } => {
                (*size, (*bytes_max).min(self.budget.left().saturating_add(from)))
            }
            Must::Read(bytes) => (Some(bytes.len() as u64), bytes.len() as u64),
        };
        let _turn = source.turns.acquire().await?;
        let wanted = Wanted {
            path: &offered.place,
            from,
            bytes_max,
            stall: self.outside.stall,
            room: self.room,
            known: None,
        };
        let opened = transport::open(&self.outside.client, &source.url, &source.scheme, wanted).await;
        let name = offered.place.rsplit('/').next().unwrap_or_default();
        let opened = opened.and_then(|opened| begun(opened, name, size, bytes_max, from));
        let (mut body, mut skip) = match opened {
            Ok(opened) => opened,
            Err(fault) => return Ok(Err(fault)),
        };
        let making = || format!("keeping what comes in {}", part.display());
        let mut options = tokio::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(from == 0).open(part).await.with_context(making)?;
        file.seek(std::io::SeekFrom::Start(from)).await.with_context(making)?;
        let (mut written, begun, mut pace) = (from, Instant::now(), Pace::new(self.outside.stall));
        let end = loop {
            let bytes = match timeout(self.outside.stall, body.next()).await {
                _ if size == Some(written) => break Ok(()),
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) if size.is_none() => break Ok(()),
                Ok(Ok(None)) => break Err("it ended".to_owned()),
                Ok(Err(Fault::Absent)) => return Ok(Err(Fault::Absent)),
                Ok(Err(fault)) => break Err(fault.to_string()),
                Err(_) => break Err(format!("it gave nothing for {} seconds", self.outside.stall.as_secs())),
            };
            if pace.is_too_slow(bytes.len() as u64, begun.elapsed()) {
                break Err("it is too slow".to_owned());
            }
            let known = skip.min(bytes.len() as u64);
            skip -= known;
            let new = bytes.slice(usize::try_from(known).unwrap_or(bytes.len())..);
            written += new.len() as u64;
            if written > bytes_max {
                file.flush().await.with_context(making)?;
                return Ok(Err(Fault::Wrong(format!("it gave more than the {bytes_max} bytes that it may"))));
            }
            self.budget.take(new.len() as u64)?;
            file.write_all(&new).await.with_context(making)?;
        };
        file.flush().await.with_context(making)?;
        Ok(end.map_err(|reason| Fault::down(format!("{reason}, after {written} bytes"))))
    }
}

/// What comes, and how much at its beginning is here already.
fn begun(
    opened: Opened,
    name: &str,
    size: Option<u64>,
    bytes_max: u64,
    from: u64,
) -> Result<(Body, u64), Fault> {
    let response = match opened {
        Opened::Http(response) => response,
        Opened::Other(_, Some(found)) if size.map_or(found > bytes_max, |size| size != found) => {
            return Err(Fault::Wrong(format!("it has {found} bytes, which is another file")));
        }
        Opened::Other(body, _) => return Ok((body, 0)),
    };
    let (status, headers) = (response.status(), response.headers());
    let skip = if let Some(size) = size {
        answer::judge(Question { name, size, from }, status, headers, now())?
    } else {
        let question = OpenQuestion { name: Some(name), bytes_max, from, is_conditional: false };
        match judge_open(question, status, headers, now())? {
            Open::Coming(skip) => skip,
            Open::Same => from,
        }
    };
    Ok((Body::Http(response), skip))
}

/// Where what is here of a file ends. What cannot be gone on with goes.
fn begin(part: &Path, must: &Must) -> u64 {
    let length = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let Must::Come { size, bytes_max, .. } = must else { return 0 };
    let goes_on = (must.is_proven() || size.is_some()) && length < *bytes_max;
    if goes_on { length } else { 0 }
}

/// Whether a file is there and is what it has to be.
pub(super) async fn is_here(path: &Path, must: &Must) -> anyhow::Result<bool> {
    let (path, must) = (path.to_owned(), must.clone());
    tokio::task::spawn_blocking(move || is_file(&path, &must)).await?
}

/// What was tried at one upstream.
pub(super) fn attempt(source: &Source, bytes: u64, fault: Option<&Fault>) -> Attempt {
    Attempt {
        source: source.url.clone(),
        bytes,
        is_whole: fault.is_none(),
        fault: fault.filter(|fault| **fault != Fault::Absent).map(ToString::to_string),
    }
}

/// Whether there is a file, no link, that is what it has to be. On a thread that may block.
fn is_file(path: &Path, must: &Must) -> anyhow::Result<bool> {
    let reading = || format!("reading {}", path.display());
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && must.has_size(metadata.len()) => {}
        _ => return Ok(false),
    }
    must.is(File::open(path).with_context(reading)?).with_context(reading)
}

/// Puts a file that is whole to its place.
pub(super) fn settle(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    fs::rename(from, to).with_context(|| format!("moving what came to {}", to.display()))
}

fn remove(part: &Path) -> anyhow::Result<()> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", part.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_comes_than_may() {
        let budget = Budget::new(10);
        budget.take(7).unwrap();
        assert!(budget.take(4).unwrap_err().to_string().contains("max-gib"));
        budget.take(3).unwrap();
        assert_eq!(budget.left(), 0);
    }

    #[test]
    fn only_files_that_are_right_are_here() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("a"), "1234").unwrap();
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let must = Must::Come { size: Some(4), bytes_max: 4, sums: Vec::new() };
        let is = |name: &str| is_file(&at(name), &must).unwrap();
        assert!(is("a") && !is("link") && !is("none") && !is("."));
        settle(&at("a"), &at("deep/er/b")).unwrap();
        assert!(is("deep/er/b") && !is("a"));
    }
}
