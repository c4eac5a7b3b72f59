//! Bringing a target to a kernel: the sync of a target to the branch of the newest one, or to the tag of a version.

use std::path::PathBuf;

use smart_sync_sync::kinds::kernels::NEWEST;
use smart_sync_sync::name::{RefName, RefQuery, TypedRef};

use super::branch;
use crate::args::kernel::KernelPullArgs;
use crate::args::sync::{ChannelArgs, SyncArgs, TreeArgs};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::settings;
use crate::sync::Surroundings;
use crate::token::Tokens;

/// Brings it there.
pub(super) fn pull(
    args: &KernelPullArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let reference = match &args.version {
        None => branch(NEWEST, args.channel.at)?,
        Some(version) => {
            let tag = RefName::tag(version.as_str()).map_err(|error| Failure::new(Exit::Arguments, error))?;
            RefQuery { reference: TypedRef::Exact(tag), at: args.channel.at }
        }
    };
    let of_realm = ChannelArgs {
        reference: Some(reference),
        channel: args.channel.channel.clone(),
        servers: args.channel.servers.clone(),
        max_age: args.channel.max_age,
        at: None,
    };
    let sync = SyncArgs {
        tree: TreeArgs { of_realm, source: None },
        target: target(args, config),
        kind: args.kind,
        skip_rebuild: args.skip_rebuild,
        retry_failed: args.retry_failed,
        dry_run: args.dry_run,
        check_only: args.check_only,
        ..SyncArgs::default()
    };
    let settings = settings::sync(&sync, config, &Tokens::of_servers()?)?;
    crate::sync::run(&settings, surroundings)
}

/// The target that is meant where none is named: the only one that installs kernels, and else whatever a sync would take.
fn target(args: &KernelPullArgs, config: &Config) -> Option<PathBuf> {
    if args.target.is_some() {
        return args.target.clone();
    }
    let installs =
        config.targets.iter().filter(|(_, target)| target.run.iter().any(|trigger| trigger.kernel.is_some()));
    let mut paths = installs.map(|(path, _)| path.0.clone());
    paths.next().filter(|_| paths.next().is_none())
}
