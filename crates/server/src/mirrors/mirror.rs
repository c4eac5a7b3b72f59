//! A mirror as it is configured, and what was found out about its upstreams since the server has started.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use smart_sync_sync::kinds::pull::{Places, PullThrough};
use smart_sync_sync::kinds::{self, ArtifactKind};
use smart_sync_sync::name::{Channel, Kind};
use tokio::sync::{OnceCell, Semaphore};

use super::health::{Health, Standing};
use super::marks::{Mark, Marks};
use super::transport::Scheme;
use crate::config::MirrorConfig;

/// The most upstreams of a mirror.
const SOURCES_MAX: usize = 64;
/// How long it is believed what an upstream says of its layout, in seconds.
const LAYOUT_SECONDS: u64 = 24 * 3600;

/// A channel whose files come from upstream when they are asked for.
pub(crate) struct Mirror {
    /// What the operator calls it.
    pub(crate) name: String,
    /// Where it is served.
    pub(crate) channel: Channel,
    pub(super) kind: &'static dyn ArtifactKind,
    pub(super) pull: &'static dyn PullThrough,
    pub(super) names: NamesFrom,
    pub(super) sources: Vec<Source>,
    pub(super) marks: Mutex<Marks>,
    given: Given,
}

/// What clients were given and was not written down yet.
#[derive(Debug, Default)]
struct Given {
    files: AtomicU64,
    bytes: AtomicU64,
}

/// Where it is written which files there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum NamesFrom {
    /// In the newest tree of the branch `main` of a channel of this server.
    Channel(Channel),
    /// In a directory of this machine.
    Directory(PathBuf),
}

impl NamesFrom {
    /// What it is called where the names are kept.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Channel(channel) => channel.to_string(),
            Self::Directory(path) => path.display().to_string(),
        }
    }
}

/// An upstream.
pub(super) struct Source {
    /// Its URL, without a slash at the end.
    pub(super) url: String,
    /// What it is spoken to with.
    pub(super) scheme: Scheme,
    /// Requests to its host take turns.
    pub(super) turns: Arc<Semaphore>,
    pub(super) health: Mutex<Health>,
    layout: Mutex<(u64, Layout)>,
}

pub(super) type Layout = Arc<OnceCell<Box<dyn Places>>>;

impl Source {
    /// Where it keeps its files, as far as that was found out lately.
    pub(super) fn layout(&self, now: u64) -> Layout {
        let mut layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(layout.0) >= LAYOUT_SECONDS {
            *layout = (now, Layout::default());
        }
        Arc::clone(&layout.1)
    }

    /// It did what it was asked for.
    pub(super) fn worked(&self) {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).worked();
    }

    /// It failed.
    pub(super) fn failed(&self, retry_after: Option<u64>, now: u64) {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).failed(retry_after, now);
    }
}

/// The turns of each host, which all mirrors share.
pub(super) type Turns = HashMap<String, Arc<Semaphore>>;

impl Mirror {
    /// Reads what is configured, and gives each new host so many turns.
    pub(super) fn new(config: &MirrorConfig, per_host: usize, turns: &mut Turns) -> anyhow::Result<Self> {
        let MirrorConfig { name, channel, kind, sources, source_lists, names_from, .. } = config;
        let kind: Kind = kind.parse().with_context(|| format!("kind = {kind:?}"))?;
        let found = kinds::find(&kind).and_then(|kind| Some((kind, kind.pull_through()?)));
        let Some((kind, pull)) = found else {
            bail!("kind = \"{kind}\": files of this kind cannot be fetched one by one");
        };
        let names = if names_from.starts_with('/') {
            NamesFrom::Directory(PathBuf::from(names_from))
        } else {
            let hint = "it is a channel, or a directory that begins with a slash";
            NamesFrom::Channel(
                names_from.parse().with_context(|| format!("names-from = {names_from:?}: {hint}"))?,
            )
        };
        let mut sources = sources.clone();
        for list in source_lists {
            let text = fs::read_to_string(list).with_context(|| format!("reading {}", list.display()))?;
            sources.extend(listed(&text));
        }
        ensure!(!sources.is_empty(), "there is no source");
        ensure!(sources.len() <= SOURCES_MAX, "there are more than {SOURCES_MAX} sources");
        let sources = sources.iter().map(|url| {
            let (host, scheme) = spoken_to(url)?;
            let turns = turns.entry(host).or_insert_with(|| Arc::new(Semaphore::new(per_host.max(1))));
            Ok(Source {
                url: url.trim_end_matches('/').to_owned(),
                scheme,
                turns: Arc::clone(turns),
                health: Mutex::default(),
                layout: Mutex::default(),
            })
        });
        Ok(Self {
            name: name.clone(),
            channel: channel.parse().with_context(|| format!("channel = {channel:?}"))?,
            kind,
            pull,
            names,
            sources: sources.collect::<anyhow::Result<_>>()?,
            marks: Mutex::default(),
            given: Given::default(),
        })
    }

    /// Notes that a client is given a part of a file.
    pub(crate) fn gives(&self, range: &Range<u64>) {
        self.given.files.fetch_add(u64::from(range.start == 0), Relaxed);
        self.given.bytes.fetch_add(range.end - range.start, Relaxed);
    }

    /// The files and bytes that were given since this was last asked.
    pub(super) fn take_given(&self) -> Option<(u64, u64)> {
        let given = (self.given.files.swap(0, Relaxed), self.given.bytes.swap(0, Relaxed));
        (given != (0, 0)).then_some(given)
    }

    /// Whether something was noted of a file and still holds.
    pub(super) fn is_marked(&self, sha512: &[u8; 64], mark: Mark, now: u64) -> bool {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).holds(sha512, mark, now)
    }

    /// Notes something of a file.
    pub(super) fn mark(&self, sha512: &[u8; 64], mark: Mark, now: u64) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).note(sha512, mark, now);
    }

    /// Where each upstream stands for a file, of which each was asked so often and gave something the last time.
    pub(super) fn standings(&self, sha512: &[u8; 64], tries: &[(u32, bool)], now: u64) -> Vec<Standing> {
        let standing = |(at, (source, (tries, has_given))): (usize, (&Source, &(u32, bool)))| Standing {
            until: source.health.lock().unwrap_or_else(PoisonError::into_inner).until,
            is_wrong: self.is_marked(sha512, Mark::Wrong(at), now),
            tries: *tries,
            has_given: *has_given,
        };
        self.sources.iter().zip(tries).enumerate().map(standing).collect()
    }
}

/// The upstreams in a list of mirrors: a URL on each line, and comments.
fn listed(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned)
}

/// The host of an upstream, with its port, and what it is spoken to with.
fn spoken_to(text: &str) -> anyhow::Result<(String, Scheme)> {
    let url = Url::parse(text).with_context(|| format!("sources: {text:?} is not a URL"))?;
    // It would stand in logs.
    ensure!(url.username().is_empty() && url.password().is_none(), "sources: a URL with a password in it");
    ensure!(url.query().is_none() && url.fragment().is_none(), "sources: {text:?} is no directory");
    let port = match url.scheme() {
        "file" => {
            let path =
                url.to_file_path().ok().with_context(|| format!("sources: {text:?} is no directory"))?;
            return Ok(("file".to_owned(), Scheme::File(path)));
        }
        "http" | "https" | "ftp" => url.port_or_known_default(),
        "rsync" => url.port().or(Some(873)),
        _ => bail!("sources: {text:?} begins with none of http, https, ftp, rsync and file"),
    };
    let scheme = match url.scheme() {
        "ftp" => Scheme::Ftp,
        "rsync" => Scheme::Rsync,
        _ => Scheme::Http,
    };
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.with_context(|| format!("sources: {text:?} has no host"))?;
    // What a program is given must not look like an option to it, or to what it starts.
    ensure!(!host.starts_with('-'), "sources: {text:?} has no host");
    Ok((format!("{host}:{}", port.unwrap_or_default()), scheme))
}

/// The name or address of the host in an upstream's URL.
pub(super) fn host_name_of(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: &str, source: &str) -> MirrorConfig {
        MirrorConfig {
            name: "gentoo".to_owned(),
            channel: "distfiles".to_owned(),
            kind: kind.to_owned(),
            sources: vec![source.to_owned()],
            source_lists: Vec::new(),
            names_from: "repos/gentoo".to_owned(),
            key: None,
        }
    }

    #[test]
    fn hosts_are_shared_and_mistakes_are_said() {
        let mut turns = Turns::new();
        for url in ["https://one.example.org/a/", "https://one.example.org:443/b", "http://one.example.org/a"]
        {
            Mirror::new(&config("distfiles", url), 4, &mut turns).unwrap();
        }
        assert_eq!(turns.len(), 2);
        for (kind, url, said) in [
            ("repo", "https://one.example.org", "cannot be fetched one by one"),
            ("distfiles", "one.example.org", "is not a URL"),
            ("distfiles", "gopher://one.example.org", "begins with none of"),
            ("distfiles", "rsync://-oProxyCommand=a/b", "has no host"),
            ("distfiles", "rsync:///a", "has no host"),
            ("distfiles", "file://elsewhere/a", "is no directory"),
            ("distfiles", "https://me:secret@one.example.org", "a password in it"),
            ("distfiles", "https://one.example.org/?a", "is no directory"),
        ] {
            let error = Mirror::new(&config(kind, url), 4, &mut turns).err().unwrap();
            assert!(format!("{error:#}").contains(said), "{error:#}");
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
    }

    #[test]
    fn a_list_of_mirrors_has_a_url_on_each_line() {
        let text =
            "# ours\nhttp://one.example.org/gentoo/distfiles/\n\n  ftp://two.example.org/distfiles # slow\n";
        let urls: Vec<String> = listed(text).collect();
        assert_eq!(urls, ["http://one.example.org/gentoo/distfiles/", "ftp://two.example.org/distfiles"]);
        let scheme = |url: &str| spoken_to(url).unwrap();
        assert_eq!(scheme("ftp://a.example.org/b"), ("a.example.org:21".to_owned(), Scheme::Ftp));
        assert_eq!(scheme("rsync://a.example.org/b"), ("a.example.org:873".to_owned(), Scheme::Rsync));
        assert_eq!(scheme("file:///srv/a%20b/").1, Scheme::File(PathBuf::from("/srv/a b/")));
    }

    #[test]
    fn a_layout_is_asked_for_once_a_day() {
        let mirror =
            Mirror::new(&config("distfiles", "http://one.example.org"), 4, &mut Turns::new()).unwrap();
        let source = &mirror.sources[0];
        let first = source.layout(1_000_000);
        assert!(Arc::ptr_eq(&first, &source.layout(1_000_000 + LAYOUT_SECONDS - 1)));
        assert!(!Arc::ptr_eq(&first, &source.layout(1_000_000 + LAYOUT_SECONDS)));
    }
}
