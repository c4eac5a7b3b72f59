//! Contents that are stored taken apart: their plain streams are fetched as contents are, and they are rebuilt here.
//!
//! Nothing of this is believed. A plain stream is compared with the digest that its map gives it, and what is rebuilt
//! has to be the content that was signed.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};

use smart_sync_store::recipe::Plain;
use smart_sync_store::unpack::{program_of, rebuild_from};
use smart_sync_sync::apply::partial::ContentWriter;
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::bundle::apply::{Parts, Rebuilder as _};
use smart_sync_sync::bundle::unpack_limits;
use smart_sync_sync::confined::Confined;
use smart_sync_sync::wire::fetch_map::FetchMap;

use super::session::Needs;
use crate::CONFINED;
use crate::failure::{Exit, Failure};
use crate::interrupt::{Interrupt, interrupted};

const OTHER_MIRROR_HINT: &str = "nothing was changed; try another mirror with --server";

/// What has to be rebuilt.
pub(super) struct Rebuilding<'n> {
    contents: Vec<ToRebuild<'n>>,
}

struct ToRebuild<'n> {
    need: &'n Need,
    plain: Plain,
    /// The plain stream, as something that is fetched.
    stream: Need,
    /// Whether that is a content of the tree as well.
    is_needed_itself: bool,
}

impl<'n> Rebuilding<'n> {
    /// What these maps say is rebuilt, of what is needed and not staged yet.
    pub(super) fn new(needs: &[&'n Need], maps: &[FetchMap], stage: &Stage<'_>) -> Result<Self, Failure> {
        let mut contents = Vec::new();
        if maps.iter().all(|map| map.rebuilt.is_empty()) {
            return Ok(Self { contents });
        }
        let by_id = Needs::new(needs);
        let mut seen = HashSet::new();
        for rebuilt in maps.iter().flat_map(|map| &map.rebuilt) {
            let Some(need) = by_id.get(rebuilt.id) else { continue };
            if rebuilt.size != need.content.size {
                let (id, found, expected) = (rebuilt.id, rebuilt.size, need.content.size);
                return Err(refused(&format!("{found} bytes for content {id}, which has {expected}")));
            }
            if rebuilt.plain.size() > Plain::size_max(rebuilt.size) {
                let (id, size) = (rebuilt.id, rebuilt.plain.size());
                return Err(refused(&format!("{size} bytes that content {id} is rebuilt from")));
            }
            if !seen.insert(rebuilt.id) || stage.has(&need.content)? {
                continue;
            }
            let content = rebuilt.plain.content();
            let stream = Need {
                content,
                uses: 1,
                is_sparse: false,
                mode: None,
                modified: None,
                local: None,
                former: None,
            };
            let is_needed_itself = by_id.get(content.id).is_some();
            contents.push(ToRebuild { need, plain: rebuilt.plain, stream, is_needed_itself });
        }
        Ok(Self { contents })
    }

    /// These needs, and the plain streams.
    pub(super) fn with_plain_streams<'a>(&'a self, needs: &[&'a Need]) -> Needs<'a> {
        // Two contents may have one plain stream.
        let mut seen = HashSet::new();
        let streams = self.contents.iter().filter(|content| !content.is_needed_itself);
        let others = streams.map(|content| &content.stream).filter(|stream| seen.insert(stream.content.id));
        Needs::new(&needs.iter().copied().chain(others).collect::<Vec<_>>())
    }

    /// Rebuilds the contents whose plain streams came. What cannot be rebuilt here is asked for as it is.
    pub(super) fn finish(
        &self,
        stage: &Stage<'_>,
        interrupt: &Interrupt,
        original: impl Fn(&Need) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for content in &self.contents {
            if stage.has(&content.need.content)? {
                continue;
            }
            let Some(stream) = stage.open_content(&content.stream.content)? else { continue };
            let mut writer = Rebuilt { writer: stage.writer(content.need)?, interrupt, failure: None };
            let size = content.need.content.size;
            let rebuilt = rebuild(stream, &content.plain, size, &mut writer);
            let finished = match (rebuilt, writer.failure) {
                (Ok(()), _) => writer.writer.finish().map_err(Failure::from),
                (Err(_), Some(failure)) => Err(failure),
                (Err(error), None) => Err(cannot(content.need, error)),
            };
            match finished {
                Err(failure) if failure.exit() == Exit::Refused => {
                    tracing::debug!(id = %content.need.content.id, "a content is asked for as it is");
                    original(content.need).map_err(|_| failure)?;
                }
                finished => finished?,
            }
        }
        for content in self.contents.iter().filter(|content| !content.is_needed_itself) {
            stage.discard_content(content.stream.content.id)?;
        }
        Ok(())
    }
}

/// Rebuilds a content: in a process of its own where its program asks for what may not run here.
fn rebuild(file: File, plain: &Plain, size: u64, out: &mut dyn Write) -> anyhow::Result<()> {
    if !program_of(&file, plain)?.has_corrections() {
        return Ok(rebuild_from(&file, plain, size, &unpack_limits(), out)?);
    }
    let members = plain.program + plain.frames;
    let (program, frames) = (0..plain.program, plain.program..members);
    let parts = Parts { file, program, frames, members: members..plain.size(), size };
    Ok(Confined::this_program(CONFINED).rebuild(parts, out)?)
}

fn refused(what: &str) -> Failure {
    Failure::message(Exit::Refused, format!("a server names {what}")).hint(OTHER_MIRROR_HINT)
}

fn cannot(need: &Need, error: anyhow::Error) -> Failure {
    let text = format!("content {} cannot be rebuilt from what the server has of it", need.content.id);
    Failure::new(Exit::Refused, error).context(text).hint(OTHER_MIRROR_HINT)
}

/// What is rebuilt goes to the stage.
struct Rebuilt<'a> {
    writer: ContentWriter<'a>,
    interrupt: &'a Interrupt,
    failure: Option<Failure>,
}

impl Write for Rebuilt<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = if self.interrupt.is_requested() {
            Err(interrupted())
        } else {
            self.writer.write(bytes).map_err(Failure::from)
        };
        match written {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::Error::other("the content was not taken"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
