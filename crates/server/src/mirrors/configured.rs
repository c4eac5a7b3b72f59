//! The mirrors of a configuration, of whichever way they are.

use std::sync::Arc;

use anyhow::Context as _;
use rusqlite::Connection;
use smart_sync_sync::kinds;
use smart_sync_sync::name::{Channel, Kind};

use super::follow::Followed;
use super::mirror::Mirror;
use super::record::{self, About, Status};
use super::upstreams::{Source, Turns};
use crate::config::{Config, MirrorConfig};

/// A mirror that is configured.
pub(super) enum Configured {
    /// Its files come when they are asked for.
    Pulled(Arc<Mirror>),
    /// It follows its upstream.
    Followed(Box<Followed>),
}

impl Configured {
    fn new(config: &MirrorConfig, per_host: usize, turns: &mut Turns) -> anyhow::Result<Self> {
        config.every_seconds()?;
        let kind: Kind = config.kind.parse().with_context(|| format!("kind = {:?}", config.kind))?;
        let is_pulled = kinds::find(&kind).is_some_and(|kind| kind.pull_through().is_some());
        if is_pulled {
            return Ok(Self::Pulled(Arc::new(Mirror::new(config, per_host, turns)?)));
        }
        Ok(Self::Followed(Box::new(Followed::new(config, per_host, turns)?)))
    }

    fn about(&self) -> (&str, &Channel) {
        match self {
            Self::Pulled(mirror) => (&mirror.name, &mirror.channel),
            Self::Followed(followed) => (&followed.name, &followed.channel),
        }
    }

    /// Where it is served.
    pub(super) fn channel(&self) -> &Channel {
        self.about().1
    }

    /// Its upstreams.
    pub(super) fn sources(&self) -> &[Source] {
        match self {
            Self::Pulled(mirror) => &mirror.sources,
            Self::Followed(followed) => &followed.sources,
        }
    }

    /// What is known of it.
    pub(super) fn status(&self, db: &Connection) -> anyhow::Result<Status> {
        let sources: Vec<&str> = self.sources().iter().map(|source| source.url.as_str()).collect();
        let (name, channel) = self.about();
        let names = match self {
            Self::Pulled(mirror) => Some(mirror.names.key()),
            Self::Followed(_) => None,
        };
        let kind = match self {
            Self::Pulled(mirror) => mirror.kind.name(),
            Self::Followed(followed) => followed.kind.as_str(),
        };
        let about = About { name, channel: channel.as_str(), kind, names_from: names.as_deref() };
        record::status(db, &about, &sources)
    }
}

/// The mirrors of a configuration.
pub(super) fn configured(config: &Config, turns: &mut Turns) -> anyhow::Result<Vec<Configured>> {
    let mut mirrors: Vec<Configured> = Vec::new();
    for one in &config.mirrors {
        let said = || format!("[[mirror]] {:?} in server.toml", one.name);
        let mirror = Configured::new(one, config.upstream.connections_per_host, turns).with_context(said)?;
        let (name, channel) = mirror.about();
        let is_other = |other: &Configured| other.about().0 != name && other.channel() != channel;
        anyhow::ensure!(mirrors.iter().all(is_other), "{}: another one has its name or channel", said());
        mirrors.push(mirror);
    }
    Ok(mirrors)
}
