//! `kernel`: the kernels that a channel holds.

mod list;
mod publish;
mod pull;

use smart_sync_sync::kinds::ArtifactKind as _;
use smart_sync_sync::kinds::kernels::Kernels;
use smart_sync_sync::kinds::kernels::shelf::State;
use smart_sync_sync::name::{Kind, RefName, RefQuery, TypedRef};
use smart_sync_sync::time::UnixTime;

use crate::args::kernel::KernelCommand;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::sync::Surroundings;

/// Does what the arguments name.
pub fn run(
    command: &KernelCommand,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    match command {
        KernelCommand::List(args) => list::list(args, config, surroundings),
        KernelCommand::Publish(args) => publish::publish(args, config, surroundings),
        KernelCommand::Deprecate(args) => publish::put(args, State::Deprecated, config, surroundings),
        KernelCommand::Current(args) => publish::put(args, State::Current, config, surroundings),
        KernelCommand::Compat(args) => publish::put(args, State::Compat, config, surroundings),
        KernelCommand::Pull(args) => pull::pull(args, config, surroundings),
    }
}

/// What channels of kernels are called to be.
fn kind() -> Result<Kind, Failure> {
    Kernels.name().parse().map_err(|error| Failure::new(Exit::General, error))
}

/// A branch, now or at a time.
fn branch(name: &str, at: Option<UnixTime>) -> Result<RefQuery, Failure> {
    let reference = RefName::branch(name).map_err(|error| Failure::new(Exit::General, error))?;
    Ok(RefQuery { reference: TypedRef::Exact(reference), at })
}
