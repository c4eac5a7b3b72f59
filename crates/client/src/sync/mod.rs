//! The sync: `smart-sync` without a subcommand.

mod assembly;
mod bundle;
pub mod elsewhere;
pub mod fetch;
mod foresee;
mod former;
pub(crate) mod kept_contents;
mod kind;
pub mod landing;
pub mod look;
pub(crate) mod original;
pub mod pages;
pub mod place;
mod realm_tree;
mod rebuild;
mod repository_tree;
pub mod session;
mod write_out;

pub(crate) use self::realm_tree::{Part, Staged, realm_of};

use std::path::Path;

use tokio::runtime::Handle;

use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::hosts::report;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::profile;
use crate::settings::{NetworkSettings, SyncMode, SyncSettings, TreeSource};
use crate::versions::hold::Hold;

use self::place::Place;

/// What a run has at hand.
pub struct Surroundings<'a> {
    /// Where requests run.
    pub runtime: &'a Handle,
    /// Whether to go on.
    pub interrupt: &'a Interrupt,
    /// Where it speaks.
    pub output: &'a Output,
    /// The state directory.
    pub state_dir: &'a Path,
    /// The configuration that the command line names.
    pub config_path: Option<&'a Path>,
    /// How the network is used.
    pub network: NetworkSettings,
    /// The configuration of this host.
    pub config: &'a Config,
}

/// Brings a target to a ref, or says what that would change.
pub fn run(settings: &SyncSettings, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let ended = run_unreported(settings, surroundings);
    if settings.mode == SyncMode::Apply {
        report::after_sync(settings, &ended, surroundings);
    }
    ended
}

fn run_unreported(settings: &SyncSettings, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    if settings.mode == SyncMode::Apply
        && let Some(place) = Place::known(&settings.target, surroundings.state_dir)
        && let Some(held) = Hold::read(&place.state)?
    {
        let target = place.target.display();
        let number = held.generation;
        surroundings.output.warning(&format!(
            "{target} was taken back to generation {number} and stays there; `smart-sync resume` lets it follow its ref again"
        ));
        return Ok(Exit::Success);
    }
    if settings.mode == SyncMode::Apply
        && let Some(place) = Place::known(&settings.target, surroundings.state_dir)
        && let Some(exit) = profile::between::waits(&place, surroundings.output)?
    {
        return Ok(exit);
    }
    let was_there = settings.target.symlink_metadata().is_ok();
    let ended = match &settings.tree.source {
        TreeSource::Channel { .. } => realm_tree::run(settings, surroundings),
        TreeSource::Repository(address) => repository_tree::run(address, settings, surroundings),
    };
    if ended.is_err() && !was_there {
        // Only an empty directory can be removed: what was fetched stays for the next run.
        let _ = std::fs::remove_dir(&settings.target);
    }
    ended
}
