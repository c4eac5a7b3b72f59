//! Which profile is meant, and what is done with it: the command line and the configuration, brought together.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use smart_sync_sync::name::{Channel, RefQuery};
use smart_sync_sync::time::UnixTime;

use super::config::ProfileName;
use super::permit::Permitted;
use crate::after::trigger::After;
use crate::args::profile::{ProfileArgs, PullArgs};
use crate::args::sync::{ChannelArgs, TreeArgs};
use crate::config::{Config, TargetConfig};
use crate::failure::{Exit, Failure};
use crate::realm::resolve::Realm;
use crate::reference;
use crate::settings::{self, ChannelSettings, SyncMode, SyncSettings, TreeSettings, TreeSource, Validation};
use crate::sync::elsewhere::Elsewhere;
use crate::token::Tokens;

/// A profile, and the moment that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSettings {
    /// Its channel and who is asked. The ref has no date.
    pub channel: ChannelSettings,
    /// The last second that counts, for the profile and for all that it names; none means what is current.
    pub at: Option<UnixTime>,
}

/// A pull, completely said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSettings {
    /// Which profile.
    pub which: ProfileSettings,
    /// What is done.
    pub mode: SyncMode,
    /// Directories beside those of the configuration that it may place targets in.
    pub under: Vec<PathBuf>,
    /// What runs afterwards.
    pub after: AfterPull,
    /// Whether versions are tried again that were not healthy.
    pub retries_failed: bool,
}

/// What runs after a pull, or for a set that is gone back to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterPull {
    /// Commands and checks.
    #[default]
    All,
    /// Nothing.
    Nothing,
}

/// Decides which profile is meant.
pub fn profile(args: &ProfileArgs, config: &Config, tokens: &Tokens) -> Result<ProfileSettings, Failure> {
    let own = config.profiles.get(&ProfileName(args.profile.clone()));
    let usual = own.and_then(|own| own.reference.clone());
    let mut reference = args.reference.clone().or(usual).unwrap_or_else(reference::main);
    let at = match (args.at, reference.at.take()) {
        (Some(_), Some(_)) => {
            let text = "both --at and the ref name a date";
            return Err(Failure::message(Exit::Arguments, text)
                .hint("name it once: a date of the ref counts for everything too"));
        }
        (typed, of_reference) => typed.or(of_reference),
    };
    let tree = TreeArgs {
        of_realm: ChannelArgs {
            reference: Some(reference),
            // Everything is looked up as of the same time, and the profile with it.
            at: None,
            channel: Some(args.profile.clone()),
            servers: args.servers.clone(),
            max_age: args.max_age,
        },
        source: None,
    };
    let section = TargetConfig { realm: own.and_then(|own| own.realm.clone()), ..TargetConfig::default() };
    let TreeSettings { reference, source } = settings::tree(&tree, Some(&section), config, tokens)?;
    let TreeSource::Channel { realm, servers, channel, token, max_age } = source else {
        return Err(Failure::message(Exit::Arguments, "a profile is a channel of a realm"));
    };
    Ok(ProfileSettings {
        channel: ChannelSettings { reference, channel, realm, servers, token, max_age },
        at,
    })
}

/// Decides what a pull is to do.
pub fn pull(args: &PullArgs, config: &Config, tokens: &Tokens) -> Result<PullSettings, Failure> {
    if let Some(relative) = args.under.iter().find(|path| !path.is_absolute()) {
        let text = format!("--under {} is not an absolute path", relative.display());
        return Err(Failure::message(Exit::Arguments, text));
    }
    Ok(PullSettings {
        which: profile(&args.which, config, tokens)?,
        mode: match (args.dry_run, args.check_only) {
            (true, _) => SyncMode::DryRun,
            (false, true) => SyncMode::CheckOnly,
            (false, false) => SyncMode::Apply,
        },
        under: args.under.clone(),
        after: if args.skip_rebuild { AfterPull::Nothing } else { AfterPull::All },
        retries_failed: args.retry_failed,
    })
}

/// The profiles that `watch` pulls.
pub fn followed_by(config: &Config, tokens: &Tokens) -> Result<Vec<PullSettings>, Failure> {
    let followed = config.profiles.iter().filter(|(_, own)| own.follow).map(|(name, _)| {
        let settings = pull(&PullArgs::of(name.0.clone()), config, tokens)?;
        match settings.which.at {
            None => Ok(settings),
            Some(at) => {
                let text =
                    format!("{} as of {at} does not change any more: there is nothing to watch", name.0);
                Err(Failure::message(Exit::Configuration, text).hint("leave the date out of its ref"))
            }
        }
    });
    followed.collect()
}

/// The tree that a target of a profile follows. A date holds for what is followed without one, or from later on.
pub fn followed(
    target: &Permitted,
    profile: &Channel,
    realm: &Realm,
    at: Option<UnixTime>,
) -> Result<(Channel, RefQuery), Failure> {
    let directory = target.directory.display();
    let wrong = |what: &str| {
        Failure::message(Exit::Configuration, format!("the target {directory} of {profile} {what}"))
    };
    if target.config.source.is_some()
        || target.config.realm.as_ref().is_some_and(|named| named.0 != *realm.origin())
    {
        return Err(wrong("follows something else than a channel of the profile's realm, as the configuration says")
            .hint("a profile is one state of one realm; let the target follow that by itself, and take it out of the profile"));
    }
    let channel = target.config.channel.clone().ok_or_else(|| wrong("names no channel"))?;
    let mut reference = target.config.reference.clone().unwrap_or_else(reference::main);
    reference.at = match (reference.at, at) {
        (Some(own), Some(at)) => Some(own.min(at)),
        (own, at) => own.or(at),
    };
    Ok((channel, reference))
}

/// What is done with one target of a profile.
pub fn target(
    target: &Permitted,
    (channel, reference): (Channel, RefQuery),
    all: &[Permitted],
    pull: &PullSettings,
    config: &Config,
) -> SyncSettings {
    let of_profile = &pull.which.channel;
    let mut policy = settings::policy(Some(&target.config), config);
    if pull.after == AfterPull::Nothing {
        // Who confirms a version is not a matter of what runs.
        policy.after = After { confirm: policy.after.confirm, ..After::default() };
    }
    let others = all.iter().filter(|other| other.directory != target.directory && !other.is_overlay());
    policy.others.extend(others.map(|other| other.directory.clone()));
    SyncSettings {
        target: target.directory.clone(),
        tree: TreeSettings {
            reference,
            source: TreeSource::Channel {
                realm: of_profile.realm.clone(),
                servers: of_profile.servers.clone(),
                channel,
                token: of_profile.token.clone(),
                max_age: of_profile.max_age,
            },
        },
        mode: pull.mode,
        validation: Validation::Sample,
        policy,
        retries_failed: pull.retries_failed,
        prefer: config.prefer,
        elsewhere: Elsewhere {
            targets: (config.targets.keys().map(|path| path.0.clone()))
                .chain(all.iter().map(|other| other.directory.clone()))
                .filter(|other| *other != target.directory)
                .collect(),
            repositories: config.bytes_from.iter().map(|path| path.0.clone()).collect(),
        },
    }
}
