//! What is watched: a target, or all targets of a profile.

use std::path::Path;

use crate::failure::{Exit, Failure};
use crate::profile;
use crate::profile::settings::PullSettings;
use crate::realm::remote::Remote;
use crate::settings::SyncSettings;
use crate::sync::{self, Surroundings};

/// What follows what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A target.
    Target(Box<SyncSettings>),
    /// All targets of a profile.
    Profile(Box<PullSettings>),
}

impl Followed {
    /// What it is called.
    pub fn name(&self) -> String {
        match self {
            Self::Target(settings) => settings.target.display().to_string(),
            Self::Profile(settings) => settings.which.channel.channel.to_string(),
        }
    }

    /// The target, if it is one.
    pub fn target(&self) -> Option<&Path> {
        match self {
            Self::Target(settings) => Some(&settings.target),
            Self::Profile(_) => None,
        }
    }

    /// Brings it up to date.
    pub(super) fn run(&self, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
        match self {
            Self::Target(settings) => sync::run(settings, surroundings),
            Self::Profile(settings) => profile::pull(settings, surroundings),
        }
    }

    /// Whether another attempt would end in the same way. What is wrong with a profile can be published anew.
    pub(super) const fn is_final(&self, exit: Exit) -> bool {
        match self {
            Self::Target(_) => matches!(exit, Exit::Interrupted | Exit::Arguments | Exit::Configuration),
            Self::Profile(_) => matches!(exit, Exit::Interrupted | Exit::Arguments),
        }
    }

    /// The streams that tell of the refs that it follows: one of each server for each of them.
    pub(super) fn streams(&self, surroundings: &Surroundings<'_>) -> Result<Vec<(Remote, String)>, Failure> {
        let (realm, refs) = match self {
            Self::Target(settings) => {
                let Some((realm, channel)) = sync::realm_of(settings, surroundings)? else {
                    return Ok(Vec::new());
                };
                (realm, vec![(channel.clone(), settings.tree.reference.clone())])
            }
            Self::Profile(settings) => (
                profile::resolve::open_realm(&settings.which, surroundings)?,
                profile::store::followed(&settings.which.channel, surroundings.state_dir)?,
            ),
        };
        let paths = refs.iter().map(|(channel, reference)| {
            format!("v1/events/{}/{}", channel.to_url_segment(), reference.to_url_segment())
        });
        Ok(paths
            .flat_map(|path| realm.remotes().iter().map(move |remote| (remote.clone(), path.clone())))
            .collect())
    }
}
