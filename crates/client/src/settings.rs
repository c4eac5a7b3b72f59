//! What a run is to do: arguments, configuration and environment, brought together and checked.
//!
//! A function of its inputs: files are read before, by [`crate::config`] and [`crate::token`], and a file system is only
//! asked whether two paths are one target. The nearest word wins: the command line, then the target's own table, then
//! what holds for every target.

mod mistakes;
mod network;
mod same_target;
mod target;
mod tree;
mod watch;

pub use self::mistakes::check_targets;
pub use self::network::{NetworkSettings, TokenWay, network};
pub use self::same_target::is_same_target;
pub use self::target::{DEFAULT_EXCLUSIONS, TargetPolicy, policy, target, targets};
pub use self::tree::{ChannelSettings, TreeSettings, TreeSource, channel_of, realm_options, tree};
pub use self::watch::watch;

use std::path::PathBuf;

use self::target::{target_directory, target_section};
use crate::after::trigger::After;
use crate::after::trigger::nixos::Override;
use crate::args::sync::SyncArgs;
use crate::args::validate::UpdateArgs;
use crate::args::{Arguments, GlobalArgs};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Verbosity};
use crate::prefer::Prefer;
use crate::sync::elsewhere::Elsewhere;
use crate::token::Tokens;

/// A sync, completely said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncSettings {
    /// The directory.
    pub target: PathBuf,
    /// Where its tree comes from.
    pub tree: TreeSettings,
    /// What is done to it.
    pub mode: SyncMode,
    /// How far local files are believed.
    pub validation: Validation,
    /// What protects the target.
    pub policy: TargetPolicy,
    /// Whether a version is tried again that was not healthy.
    pub retries_failed: bool,
    /// What it should take as little of as possible.
    pub prefer: Option<Prefer>,
    /// Where contents are looked for before they are fetched.
    pub elsewhere: Elsewhere,
}

/// What a sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Bring the target to the ref.
    Apply,
    /// Say what that would change.
    DryRun,
    /// Say whether there is an update.
    CheckOnly,
}

/// How far local files are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Size and time decide.
    TrustStat,
    /// What changed is read again, and a sample of the rest.
    Sample,
    /// Everything is read again, and fetched again where it differs.
    Full,
}

/// Decides how the run speaks.
pub fn voice(global: &GlobalArgs) -> Result<(Format, Verbosity), Failure> {
    let verbosity = match (global.quiet, global.verbose) {
        (true, true) => {
            return Err(contradiction("--quiet and --verbose ask for the opposite of each other"));
        }
        (true, false) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    Ok((if global.json { Format::Json } else { Format::Text }, verbosity))
}

/// Refuses arguments of the sync in front of a subcommand, where they would mean nothing.
pub fn check_placement(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.command.is_none() || arguments.sync == SyncArgs::default() {
        return Ok(());
    }
    Err(Failure::message(Exit::Arguments, "arguments of the sync stand in front of a subcommand")
        .hint("write arguments of a subcommand behind its name: smart-sync SUBCOMMAND --ref v2.1"))
}

/// Decides what a sync is to do. `tokens` are those of the surroundings.
pub fn sync(args: &SyncArgs, config: &Config, tokens: &Tokens) -> Result<SyncSettings, Failure> {
    let target = target_directory(args.target.as_deref(), config)?;
    let section = target_section(&target, config);
    let mut policy = policy(section, config);
    policy.kind = args.kind.map(Into::into).or(policy.kind);
    if args.skip_rebuild {
        // Who confirms a version is not a matter of rebuilding.
        policy.after = After { confirm: policy.after.confirm, ..After::default() };
    }
    Ok(SyncSettings {
        tree: tree(&args.tree, section, config, tokens)?,
        mode: match (args.dry_run, args.check_only) {
            (true, true) => return Err(contradiction("--dry-run and --check-only ask different questions")),
            (true, false) => SyncMode::DryRun,
            (false, true) => SyncMode::CheckOnly,
            (false, false) => SyncMode::Apply,
        },
        validation: match (args.skip_validation, args.force_full) {
            (true, true) => {
                return Err(contradiction(
                    "--force-full reads every file again, which --skip-validation forbids",
                ));
            }
            (true, false) => Validation::TrustStat,
            (false, true) => Validation::Full,
            (false, false) => Validation::Sample,
        },
        policy,
        retries_failed: args.retry_failed,
        prefer: args.prefer.or(config.prefer),
        elsewhere: Elsewhere {
            targets: (config.targets.keys())
                .map(|path| path.0.clone())
                .filter(|other| !is_same_target(other, &target))
                .collect(),
            repositories: (args.bytes_from.iter().cloned())
                .chain(config.bytes_from.iter().map(|path| path.0.clone()))
                .collect(),
        },
        target,
    })
}

/// Decides what an update is to do.
pub fn update(args: &UpdateArgs, config: &Config, tokens: &Tokens) -> Result<SyncSettings, Failure> {
    let mut settings = sync(&args.sync(), config, tokens)?;
    let after = &settings.policy.after;
    if args.rebuild_action.is_some() && !after.run.iter().any(|trigger| trigger.nixos.is_some()) {
        return Err(Failure::message(
            Exit::Arguments,
            "this target rebuilds no NixOS system, which is what --rebuild-action is about",
        )
        .hint("`nixos = {…}` in a table [[targets.\"/DIR\".run]] rebuilds a system"));
    }
    settings.policy.after =
        after.with_nixos(&Override { action: args.rebuild_action, ..Override::default() });
    Ok(settings)
}

fn contradiction(message: &str) -> Failure {
    Failure::message(Exit::Arguments, message).hint("see smart-sync --help")
}

#[cfg(test)]
mod tests;
