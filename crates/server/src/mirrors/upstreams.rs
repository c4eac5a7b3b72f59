//! The upstreams of a mirror, and what was found out about them since the server has started.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use smart_sync_sync::kinds::pull::Places;
use tokio::sync::{OnceCell, Semaphore};

use super::health::Health;
use super::transport::Scheme;
use crate::config::MirrorConfig;

/// The most upstreams of a mirror.
const SOURCES_MAX: usize = 64;
/// How long it is believed what an upstream says of its layout, in seconds.
const LAYOUT_SECONDS: u64 = 24 * 3600;

/// An upstream.
pub(super) struct Source {
    /// Its URL, without a slash at the end.
    pub(super) url: String,
    /// What it is spoken to with.
    pub(super) scheme: Scheme,
    /// Requests to its host take turns.
    pub(super) turns: Arc<Semaphore>,
    health: Mutex<Health>,
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

    /// Until when it is left alone.
    pub(super) fn left_alone_until(&self) -> u64 {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).until
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

/// Reads which upstreams are configured, and gives each new host so many turns.
pub(super) fn of(config: &MirrorConfig, per_host: usize, turns: &mut Turns) -> anyhow::Result<Vec<Source>> {
    let mut sources = config.sources.clone();
    for list in &config.source_lists {
        let text = fs::read_to_string(list).with_context(|| format!("reading {}", list.display()))?;
        sources.extend(listed(&text));
    }
    ensure!(!sources.is_empty(), "there is no source");
    ensure!(sources.len() <= SOURCES_MAX, "there are more than {SOURCES_MAX} sources");
    let source = |url: &String| {
        let (host, scheme) = spoken_to(url)?;
        let turns = turns.entry(host).or_insert_with(|| Arc::new(Semaphore::new(per_host.max(1))));
        Ok(Source {
            url: url.trim_end_matches('/').to_owned(),
            scheme,
            turns: Arc::clone(turns),
            health: Mutex::default(),
            layout: Mutex::default(),
        })
    };
    sources.iter().map(source).collect()
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
    use std::path::PathBuf;

    use super::*;

    fn sources(url: &str, turns: &mut Turns) -> anyhow::Result<Vec<Source>> {
        of(&MirrorConfig { sources: vec![url.to_owned()], ..MirrorConfig::default() }, 4, turns)
    }

    #[test]
    fn hosts_are_shared_and_mistakes_are_said() {
        let mut turns = Turns::new();
        for url in ["https://one.example.org/a/", "https://one.example.org:443/b", "http://one.example.org/a"]
        {
            sources(url, &mut turns).unwrap();
        }
        assert_eq!(turns.len(), 2);
        for (url, said) in [
            ("one.example.org", "is not a URL"),
            ("gopher://one.example.org", "begins with none of"),
            ("rsync://-oProxyCommand=a/b", "has no host"),
            ("rsync:///a", "has no host"),
            ("file://elsewhere/a", "is no directory"),
            ("https://me:secret@one.example.org", "a password in it"),
            ("https://one.example.org/?a", "is no directory"),
        ] {
            let error = sources(url, &mut turns).err().unwrap();
            assert!(format!("{error:#}").contains(said), "{error:#}");
            assert!(!format!("{error:#}").contains("secret"), "{error:#}");
        }
    }

    #[test]
    fn a_layout_is_asked_for_once_a_day() {
        let sources = sources("http://one.example.org", &mut Turns::new()).unwrap();
        let first = sources[0].layout(1_000_000);
        assert!(Arc::ptr_eq(&first, &sources[0].layout(1_000_000 + LAYOUT_SECONDS - 1)));
        assert!(!Arc::ptr_eq(&first, &sources[0].layout(1_000_000 + LAYOUT_SECONDS)));
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
}
