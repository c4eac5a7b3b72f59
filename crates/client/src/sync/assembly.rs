//! From chunks in files to contents that are known to be whole.
//!
//! A content whose chunks come in the order in which it has them is hashed while they come. One that shares chunks
//! with others, which came before or come after, is read back when everything is there. So is one that is made of
//! the file that it replaces alone.

use std::collections::HashMap;
use std::fs::File;

use rayon::prelude::*;
use smart_sync_store::id::{ContentId, ContentIdHasher};
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::fetch_plan::FetchPlan;
use smart_sync_sync::wire::fetch_map::ContentParts;

use super::former::FormerVersions;
use super::landing::{Landed, Landing, need};
use super::session::Needs;
use crate::failure::{Exit, Failure};
use crate::interrupt::{Interrupt, interrupted};

/// Contents on their way into the stage.
pub(super) struct Assembly<'a> {
    pub(super) plan: &'a FetchPlan,
    pub(super) former: &'a FormerVersions,
    pub(super) needs: &'a Needs<'a>,
    pub(super) stage: &'a Stage<'a>,
    pub(super) landing: &'a Landing<'a>,
    pub(super) hashing: Hashing,
}

/// Contents that are hashed while they come.
pub(super) struct Hashing {
    /// What earlier runs received of contents that have not gone on yet.
    received: HashMap<ContentId, ContentIdHasher>,
    begun: HashMap<u32, Begun>,
}

struct Begun {
    hasher: ContentIdHasher,
    /// Which of its chunks is next, and where that begins.
    next: usize,
    offset: u64,
    former: Option<File>,
}

impl Hashing {
    pub(super) fn new(received: HashMap<ContentId, ContentIdHasher>) -> Self {
        Self { received, begun: HashMap::new() }
    }
}

impl<'a> Assembly<'a> {
    /// Takes the next chunks that were written.
    pub(super) fn take(&mut self, landed: Vec<Landed>) -> Result<(), Failure> {
        for Landed { bytes, place } in landed {
            let content = self.content(place.content);
            let mut begun = self.begin_or_go_on(place.content)?;
            self.fill(place.content, &mut begun, place.offset)?;
            if begun.hasher.count() != place.offset {
                return Err(Failure::message(Exit::General, "a chunk that was to be fetched did not come"));
            }
            begun.hasher.update(&bytes);
            self.skip(place.content, &mut begun);
            self.fill(place.content, &mut begun, content.size)?;
            if begun.hasher.count() == content.size {
                let found = begun.hasher.finish();
                self.landing.close(place.content);
                self.stage.accept(need(self.needs, content.id)?, found)?;
            } else {
                self.hashing.begun.insert(place.content, begun);
            }
        }
        Ok(())
    }

    /// Completes the contents that nothing more comes for.
    pub(super) fn finish(&self, interrupt: &Interrupt) -> Result<(), Failure> {
        let count = u32::try_from(self.plan.map().contents.len()).expect("contents are counted in 32 bits");
        (0..count).into_par_iter().try_for_each(|index| {
            let is_left = !self.landing.is_in_order(index) || self.former.has_any(index as usize);
            if !is_left || !self.plan.is_wanted(index as usize) {
                return Ok(());
            }
            if interrupt.is_requested() {
                return Err(interrupted());
            }
            let need = need(self.needs, self.content(index).id)?;
            if self.stage.has(&need.content)? {
                return Ok(());
            }
            self.copy_former(index)?;
            let found = self.landing.partial(index)?.hash()?;
            self.landing.close(index);
            Ok(self.stage.accept(need, found)?)
        })
    }

    fn content(&self, index: u32) -> &'a ContentParts {
        &self.plan.map().contents[index as usize]
    }

    fn begin_or_go_on(&mut self, index: u32) -> Result<Begun, Failure> {
        if let Some(begun) = self.hashing.begun.remove(&index) {
            return Ok(begun);
        }
        let content = self.content(index);
        let hasher = self.hashing.received.remove(&content.id).unwrap_or_default();
        let mut begun = Begun { hasher, next: 0, offset: 0, former: self.former_file(index)? };
        self.skip(index, &mut begun);
        Ok(begun)
    }

    /// Goes on to the chunk that is next after the bytes that were hashed.
    fn skip(&self, index: u32, begun: &mut Begun) {
        let chunks = &self.content(index).chunks;
        while begun.offset < begun.hasher.count()
            && let Some(ordinal) = chunks.get(begun.next)
        {
            begun.offset += u64::from(self.plan.chunk(*ordinal).length);
            begun.next += 1;
        }
    }

    fn former_file(&self, index: u32) -> Result<Option<File>, Failure> {
        if !self.former.has_any(index as usize) {
            return Ok(None);
        }
        Ok(self.stage.former(need(self.needs, self.content(index).id)?))
    }

    /// Takes what comes next from the file that the content replaces, as long as it is there.
    fn fill(&self, index: u32, begun: &mut Begun, until: u64) -> Result<(), Failure> {
        let content = self.content(index);
        while begun.hasher.count() < until {
            let Some(ordinal) = content.chunks.get(begun.next) else { return Ok(()) };
            let id = self.plan.chunk(*ordinal).id;
            if !self.former.has(index as usize, id) {
                return Ok(());
            }
            let bytes = self.former.read(index as usize, id, begun.former.as_ref())?;
            self.landing.partial(index)?.write_at(begun.hasher.count(), &bytes)?;
            begun.hasher.update(&bytes);
            self.skip(index, begun);
        }
        Ok(())
    }

    /// Takes all that there is from the file that the content replaces.
    fn copy_former(&self, index: u32) -> Result<(), Failure> {
        let Some(former) = self.former_file(index)? else { return Ok(()) };
        let mut offset = 0;
        for ordinal in &self.content(index).chunks {
            let chunk = self.plan.chunk(*ordinal);
            if self.former.has(index as usize, chunk.id) {
                let bytes = self.former.read(index as usize, chunk.id, Some(&former))?;
                self.landing.partial(index)?.write_at(offset, &bytes)?;
            }
            offset += u64::from(chunk.length);
        }
        Ok(())
    }
}
