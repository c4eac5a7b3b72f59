//! A content as it is, in one request: what servers can do and exports cannot.

use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::Stage;

use super::Surroundings;
use crate::failure::{Exit, Failure};
use crate::realm::remote::Remote;

/// Asks servers for a content, one after the other, until one has it.
pub(crate) fn bring_original(
    remotes: &[Remote],
    need: &Need,
    stage: &Stage<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let (id, size) = (need.content.id, need.content.size);
    let mut last = Failure::message(Exit::Network, format!("no server could be asked for content {id}"));
    for remote in remotes {
        match bring_from(remote, need, stage, surroundings) {
            Ok(()) => return Ok(()),
            Err(failure) if failure.exit() == Exit::Interrupted => return Err(failure),
            Err(failure) => last = failure.context(format!("asking for content {id} of {size} bytes")),
        }
    }
    Err(last)
}

fn bring_from(
    remote: &Remote,
    need: &Need,
    stage: &Stage<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let Surroundings { runtime, interrupt, .. } = surroundings;
    let (id, size) = (need.content.id, need.content.size);
    let path = format!("v1/content/{id}/{size}");
    let asked = async { Ok(remote.download(&path, None, size).await) };
    let mut download = runtime.block_on(interrupt.guard(asked))??;
    let mut writer = stage.writer(need)?;
    while let Some(bytes) = runtime.block_on(interrupt.guard(async { Ok(download.next().await) }))?? {
        writer.write(&bytes)?;
    }
    Ok(writer.finish()?)
}
