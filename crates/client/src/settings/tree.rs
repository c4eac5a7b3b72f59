//! Which tree is meant: a ref, and the channel of a realm or the repository that it is read from.

use std::time::Duration;

use smart_sync_sync::name::{Channel, Origin, RefQuery};

use super::contradiction;
use super::network::NetworkSettings;
use super::target::{target_directory, target_section};
use crate::args::sync::{ChannelArgs, TreeArgs};
use crate::config::{Config, RealmConfig, RealmName, TargetConfig};
use crate::failure::{Exit, Failure};
use crate::github::Address;
use crate::realm::resolve::RealmOptions;
use crate::reference;
use crate::server_url::ServerUrl;
use crate::token::{Token, Tokens};

/// A ref and where it is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSettings {
    /// The ref.
    pub reference: RefQuery,
    /// Where from.
    pub source: TreeSource,
}

/// Where a tree comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeSource {
    /// A channel of a realm.
    Channel {
        /// The realm's origin, where the configuration says it; else trust knows it by its servers.
        realm: Option<Origin>,
        /// Those after the first are mirrors; where there are none, those that the realm was added with.
        servers: Vec<ServerUrl>,
        /// The channel.
        channel: Channel,
        /// The token for the servers.
        token: Option<Token>,
        /// How old the proof of freshness may be, where the root document is not to decide.
        max_age: Option<Duration>,
    },
    /// A repository behind GitHub's REST API.
    Repository(Address),
}

/// A channel of a realm, a ref of it, and who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// The ref.
    pub reference: RefQuery,
    /// The channel.
    pub channel: Channel,
    /// The realm, where the configuration says it.
    pub realm: Option<Origin>,
    /// The servers; where there are none, those that the realm was added with.
    pub servers: Vec<ServerUrl>,
    /// The token for the servers.
    pub token: Option<Token>,
    /// How old the proof of freshness may be.
    pub max_age: Option<Duration>,
}

/// Decides which tree is meant, for a target with this section or for none.
pub fn tree(
    args: &TreeArgs,
    section: Option<&TargetConfig>,
    config: &Config,
    tokens: &Tokens,
) -> Result<TreeSettings, Failure> {
    let TreeArgs { of_realm, source } = args;
    if of_realm.at.is_some() && of_realm.reference.as_ref().is_some_and(|reference| reference.at.is_some()) {
        return Err(contradiction("both --at and --ref name a date"));
    }
    let mut reference = of_realm
        .reference
        .clone()
        .or_else(|| section.and_then(|section| section.reference.clone()))
        .unwrap_or_else(reference::main);
    reference.at = of_realm.at.or(reference.at);
    let asks_for_channel = of_realm.channel.is_some() || !of_realm.servers.is_empty();
    if source.is_some() && asks_for_channel {
        return Err(contradiction(
            "--source names a repository, --channel and --server a realm: use one of them",
        ));
    }
    let repository = source
        .as_ref()
        .or_else(|| section.filter(|_| !asks_for_channel).and_then(|section| section.source.as_ref()));
    let source = match repository {
        Some(address) if reference.at.is_some() => {
            return Err(Failure::message(
                Exit::Arguments,
                format!("{address} cannot say what `{reference}` was: git does not record where a branch stood when"),
            )
            .hint("name a tag or a commit, or follow a smart-sync server, which can go back in time"));
        }
        Some(address) => TreeSource::Repository(address.clone()),
        None => channel(of_realm, section, config, tokens)?,
    };
    Ok(TreeSettings { reference, source })
}

/// Decides which channel of a realm is meant by a command that has no target; the default target's, if nothing is said.
pub fn channel_of(args: &ChannelArgs, config: &Config, tokens: &Tokens) -> Result<ChannelSettings, Failure> {
    let target = target_directory(None, config).ok();
    let section = target.as_deref().and_then(|target| target_section(target, config));
    let args = TreeArgs { of_realm: args.clone(), source: None };
    let TreeSettings { reference, source } = tree(&args, section, config, tokens)?;
    match source {
        TreeSource::Channel { realm, servers, channel, token, max_age } => {
            Ok(ChannelSettings { reference, channel, realm, servers, token, max_age })
        }
        TreeSource::Repository(address) => Err(Failure::message(
            Exit::Arguments,
            format!("{address} is a repository, and this command looks at channels of a realm"),
        )
        .hint("name a channel with --channel; git shows repositories")),
    }
}

/// Decides how a realm that a target followed is asked: as configured, else as trust knows it.
pub fn realm_options(
    origin: &Origin,
    config: &Config,
    tokens: &Tokens,
    network: NetworkSettings,
) -> RealmOptions {
    let configured = config.realms.get(&RealmName(origin.clone()));
    RealmOptions {
        origin: Some(origin.clone()),
        servers: configured.map_or_else(Vec::new, |realm| realm.servers.clone()),
        token: tokens.choose(configured.and_then(|realm| realm.token.as_ref())).cloned(),
        max_age: configured.and_then(|realm| realm.max_age).map(|span| span.0),
        network,
    }
}

fn channel(
    args: &ChannelArgs,
    section: Option<&TargetConfig>,
    config: &Config,
    tokens: &Tokens,
) -> Result<TreeSource, Failure> {
    let channel = args
        .channel
        .clone()
        .or_else(|| section.and_then(|section| section.channel.clone()))
        .ok_or_else(|| {
            Failure::message(Exit::Arguments, "no channel: nothing says which tree to follow")
                .hint("name one with --channel repos/NAME, or a repository with --source github:OWNER/REPO")
        })?;
    let max_age = args.max_age;
    let named = section.and_then(|section| section.realm.as_ref());
    // Servers on the command line replace the realm of the configuration, and with it its token: a token is only ever
    // sent where its owner put it.
    if !args.servers.is_empty() {
        let same = config
            .realms
            .iter()
            .find(|(_, realm)| args.servers.iter().all(|url| realm.servers.contains(url)));
        return Ok(TreeSource::Channel {
            realm: same.map(|(name, _)| name.0.clone()),
            servers: args.servers.clone(),
            channel,
            token: tokens.choose(same.and_then(|(_, realm)| realm.token.as_ref())).cloned(),
            max_age: max_age.or_else(|| same.and_then(|(_, realm)| realm.max_age)).map(|span| span.0),
        });
    }
    let Some((name, realm)) = realm(named, config)? else {
        // What `trust add` noted decides which realm and which servers.
        let token = tokens.choose(None).cloned();
        let max_age = max_age.map(|span| span.0);
        return Ok(TreeSource::Channel { realm: None, servers: Vec::new(), channel, token, max_age });
    };
    Ok(TreeSource::Channel {
        realm: Some(name.clone()),
        servers: realm.servers.clone(),
        channel,
        token: tokens.choose(realm.token.as_ref()).cloned(),
        max_age: max_age.or(realm.max_age).map(|span| span.0),
    })
}

fn realm<'a>(
    named: Option<&RealmName>,
    config: &'a Config,
) -> Result<Option<(&'a Origin, &'a RealmConfig)>, Failure> {
    let found = match (named, config.realms.len()) {
        (Some(name), _) => config.realms.get_key_value(name).ok_or_else(|| {
            Failure::message(
                Exit::Configuration,
                format!("the target follows the realm `{}`, which is not configured", name.0),
            )
            .hint(format!("add [realms.\"{}\"] with servers = [\"https://…\"] to the configuration", name.0))
        })?,
        (None, 1) => config.realms.first_key_value().expect("there is one realm"),
        (None, 0) => return Ok(None),
        (None, _) => {
            return Err(Failure::message(
                Exit::Configuration,
                "there are several realms, and the target names none",
            )
            .hint("set `realm = \"…\"` in the target's table, or name a server with --server URL"));
        }
    };
    Ok(Some((&found.0.0, found.1)))
}
