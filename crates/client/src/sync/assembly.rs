//! From chunks to contents in the stage.
//!
//! A content is written from its beginning to its end and hashed on the way. Its chunks come from servers, mostly in
//! the order in which it needs them, and from the file that it replaces; what comes too early waits in a file
//! without a name.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use rayon::prelude::*;
use smart_sync_store::id::ContentId;
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::{ContentWriter, Stage};
use smart_sync_sync::fetch_plan::{Destination, FetchPlan};
use smart_sync_sync::source::tar::spool_file;
use smart_sync_sync::wire::fetch_map::ContentParts;

use super::fetch::Placed;
use super::former::FormerVersions;
use super::session::Needs;
use crate::failure::{Exit, Failure};

/// Whether the chunks of a content come in the order in which it needs them.
pub(super) fn is_in_order(content: &ContentParts) -> bool {
    content.chunks.is_sorted()
}

/// Contents on their way into the stage.
pub(super) struct Assembly<'a> {
    plan: &'a FetchPlan,
    former: &'a FormerVersions,
    resumed: &'a HashMap<ContentId, u64>,
    needs: &'a Needs<'a>,
    stage: &'a Stage<'a>,
    writing: HashMap<u32, Writing<'a>>,
    spool: Spool<'a>,
}

/// A content that is being written.
struct Writing<'a> {
    writer: ContentWriter<'a>,
    /// Which of its chunks is next.
    next: usize,
    former: Option<File>,
}

/// Chunks of contents that need them in another order than that in which they come.
struct Spool<'a> {
    directory: &'a Path,
    file: Option<File>,
    length: u64,
    /// Where the bytes of a place are.
    places: HashMap<(u32, u64), (u64, usize)>,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(
        plan: &'a FetchPlan,
        former: &'a FormerVersions,
        resumed: &'a HashMap<ContentId, u64>,
        needs: &'a Needs<'a>,
        stage: &'a Stage<'a>,
        directory: &'a Path,
    ) -> Self {
        let spool = Spool { directory, file: None, length: 0, places: HashMap::new() };
        Self { plan, former, resumed, needs, stage, writing: HashMap::new(), spool }
    }

    /// Takes the next chunks that came.
    pub(super) fn take(&mut self, chunks: Vec<Placed>) -> Result<(), Failure> {
        // Contents of one chunk are many, and each is a file to be made: all processors make them.
        let (whole, parts): (Vec<_>, Vec<_>) =
            chunks.into_iter().partition(|(bytes, places)| self.is_whole(bytes, places));
        let (plan, needs, stage) = (self.plan, self.needs, self.stage);
        whole.into_par_iter().try_for_each(|(bytes, places)| {
            let content = &plan.map().contents[places[0].content as usize];
            Ok::<_, Failure>(stage.put(need(needs, content.id)?, &bytes)?)
        })?;
        for (bytes, places) in parts {
            let mut spooled = None;
            for place in places {
                self.write(&bytes, place, &mut spooled)?;
            }
        }
        Ok(())
    }

    /// Completes the contents that nothing more comes for.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        for index in 0..self.plan.map().contents.len() {
            let content = &self.plan.map().contents[index];
            let is_left = !is_in_order(content) || self.former.has_any(index);
            if !self.plan.is_wanted(index)
                || !is_left
                || self.stage.has(&need(self.needs, content.id)?.content)?
            {
                continue;
            }
            let index = u32::try_from(index).expect("contents are counted in 32 bits");
            let mut writing = self.begin_or_go_on(index)?;
            while writing.writer.position() < content.size {
                self.fill(index, &mut writing, content.size)?;
                let position = writing.writer.position();
                if position < content.size {
                    let bytes = self.spool.read((index, position))?;
                    writing.writer.write(&bytes)?;
                    writing.next += 1;
                }
            }
            writing.writer.finish()?;
        }
        Ok(())
    }

    fn is_whole(&self, bytes: &Bytes, places: &[Destination]) -> bool {
        matches!(places, [place] if self.content(place.content).size == bytes.len() as u64)
    }

    fn content(&self, index: u32) -> &'a ContentParts {
        &self.plan.map().contents[index as usize]
    }

    fn write(&mut self, bytes: &Bytes, place: Destination, spooled: &mut Option<u64>) -> Result<(), Failure> {
        let content = self.content(place.content);
        if !is_in_order(content) {
            return self.spool.keep(bytes, place, spooled);
        }
        let mut writing = self.begin_or_go_on(place.content)?;
        self.fill(place.content, &mut writing, place.offset)?;
        writing.writer.write(bytes)?;
        writing.next += 1;
        self.fill(place.content, &mut writing, content.size)?;
        if writing.writer.position() == content.size {
            writing.writer.finish()?;
        } else {
            self.writing.insert(place.content, writing);
        }
        Ok(())
    }

    fn begin_or_go_on(&mut self, index: u32) -> Result<Writing<'a>, Failure> {
        if let Some(writing) = self.writing.remove(&index) {
            return Ok(writing);
        }
        let content = self.content(index);
        let need = need(self.needs, content.id)?;
        let writer = self.stage.writer(need, self.resumed.get(&content.id).copied().unwrap_or(0))?;
        let mut offset = 0;
        let is_before = |ordinal: &&u32| {
            let begins_before = offset < writer.position();
            offset += u64::from(self.plan.chunk(**ordinal).length);
            begins_before
        };
        let next = content.chunks.iter().take_while(is_before).count();
        let former = if self.former.has_any(index as usize) { self.stage.former(need) } else { None };
        Ok(Writing { writer, next, former })
    }

    /// Writes what comes next from the file that the content replaces, as long as it is there.
    fn fill(&self, index: u32, writing: &mut Writing<'_>, until: u64) -> Result<(), Failure> {
        let content = self.content(index);
        while writing.writer.position() < until {
            let Some(ordinal) = content.chunks.get(writing.next) else { return Ok(()) };
            let id = self.plan.chunk(*ordinal).id;
            if !self.former.has(index as usize, id) {
                return Ok(());
            }
            let bytes = self.former.read(index as usize, id, writing.former.as_ref())?;
            writing.writer.write(&bytes)?;
            writing.next += 1;
        }
        Ok(())
    }
}

impl Spool<'_> {
    fn keep(&mut self, bytes: &Bytes, place: Destination, spooled: &mut Option<u64>) -> Result<(), Failure> {
        let at = if let Some(at) = *spooled {
            at
        } else {
            if self.file.is_none() {
                self.file = Some(spool_file(self.directory)?);
            }
            let file = self.file.as_ref().expect("the file was made just now");
            let at = self.length;
            file.write_all_at(bytes, at)?;
            self.length += bytes.len() as u64;
            *spooled = Some(at);
            at
        };
        self.places.insert((place.content, place.offset), (at, bytes.len()));
        Ok(())
    }

    fn read(&self, place: (u32, u64)) -> Result<Vec<u8>, Failure> {
        let found = self.places.get(&place).zip(self.file.as_ref());
        let Some(((at, length), file)) = found else {
            return Err(Failure::message(Exit::General, "a chunk that was to be fetched did not come"));
        };
        let mut bytes = vec![0; *length];
        file.read_exact_at(&mut bytes, *at)?;
        Ok(bytes)
    }
}

fn need<'a>(needs: &Needs<'a>, content: ContentId) -> Result<&'a Need, Failure> {
    needs.get(content).ok_or_else(|| {
        Failure::message(Exit::General, format!("content {content} was fetched and is not needed"))
    })
}
