//! Publishing kernels, and giving them states: publications like any other, of a channel of the kind.

use smart_sync_sync::kinds::kernels::shelf::State;
use smart_sync_sync::kinds::kernels::{Kernels, PutError, put as put_states};

use super::kind;
use crate::args::kernel::{KernelPublishArgs, KernelPublishingArgs, KernelStateArgs};
use crate::args::publish::{PublishArgs, TreeInput};
use crate::commands::publish as publishing;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::realm::resolve::now;
use crate::sync::Surroundings;

/// Publishes a kernel, or those of each state.
pub(super) fn publish(
    args: &KernelPublishArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let tree = TreeInput::Directory(args.directory.clone());
    publishing::run(&publish_args(&args.publishing, Some(tree))?, config, surroundings)
}

/// Gives kernels a state.
pub(super) fn put(
    args: &KernelStateArgs,
    state: State,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let how = publish_args(&args.publishing, None)?;
    let rearranged: publishing::Rearranged<'_> = &|before| {
        let moved = put_states(before, &args.versions, state, now()).map_err(failed)?;
        if moved.moves.is_empty() {
            surroundings.output.info(&format!("nothing changes: already {state}"));
        }
        Ok(moved.prepared)
    };
    publishing::rearrange(&how, &Kernels, rearranged, config, surroundings)
}

fn failed(error: PutError) -> Failure {
    match error {
        PutError::Kind(error) => Failure::new(Exit::General, error),
        PutError::Move(error) => Failure::new(Exit::Arguments, error).hint(
            "`smart-sync kernel list` shows what there is; publish another kernel, or make one current, before the last one goes",
        ),
    }
}

/// The same as it is said to `publish`. Nothing is left out of a directory: a kernel has no files that belong to a host.
fn publish_args(args: &KernelPublishingArgs, tree: Option<TreeInput>) -> Result<PublishArgs, Failure> {
    let KernelPublishingArgs { channel, keys, server, minisign_key, ssh_key, dry_run } = args.clone();
    Ok(PublishArgs {
        server,
        exclude: vec![String::new()],
        minisign_key,
        ssh_key,
        dry_run,
        ..PublishArgs::of(tree, channel, kind()?, keys)
    })
}
