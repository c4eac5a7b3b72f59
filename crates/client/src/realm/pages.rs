//! Manifest pages from servers, each compared with its id.
//!
//! Reading a manifest asks for a page whenever it comes to one, and for some of them again; those that came last are
//! kept, up to a bound.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use reqwest::StatusCode;
use smart_sync_store::id::ObjectId;
use smart_sync_store::manifest::{PageError, PageSource, ReadError};
use smart_sync_store::object::{ObjectKey, ObjectKind, VerifiedObject};

use super::remote::Remote;
use crate::failure::{DAMAGED_HINT, Exit, Failure};
use crate::sync::Surroundings;

/// The number of bytes of pages that are kept.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Pages of manifests that servers have.
pub struct RemotePages<'a> {
    remotes: &'a [Remote],
    surroundings: &'a Surroundings<'a>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    pages: HashMap<ObjectId, Bytes>,
    bytes: usize,
    /// Why a page did not come, with its exit status and hints.
    failure: Option<Failure>,
}

impl<'a> RemotePages<'a> {
    /// Pages from these servers, the first one being asked first.
    pub fn new(remotes: &'a [Remote], surroundings: &'a Surroundings<'a>) -> Self {
        Self { remotes, surroundings, kept: Mutex::default() }
    }

    /// What an error in reading a manifest means for the run.
    pub fn failure(&self, error: ReadError) -> Failure {
        let kept = self.with(|kept| kept.failure.take());
        match (error, kept) {
            (ReadError::Source { .. }, Some(failure)) => failure,
            (error @ (ReadError::Source { .. } | ReadError::Absent(_)), _) => {
                Failure::new(Exit::General, error).hint("the content of old versions may have been collected")
            }
            (error, _) => Failure::new(Exit::Refused, error).hint(DAMAGED_HINT),
        }
    }

    async fn fetch(&self, id: ObjectId) -> Result<Option<Bytes>, Failure> {
        let mut last = None;
        for remote in self.remotes {
            match remote.get(&format!("page/{id}"), ObjectKind::Page.len_max() as u64).await {
                Ok(bytes) => {
                    let verified = VerifiedObject::verify(ObjectKey::page(id), bytes);
                    match verified {
                        Ok(page) => return Ok(Some(page.into_bytes())),
                        Err(error) => {
                            let context = format!("{} sent another page than {id}", remote.base());
                            let failure = Failure::new(Exit::Refused, error).context(context);
                            last = Some(failure.hint(DAMAGED_HINT));
                        }
                    }
                }
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {}
                Err(error) => last = Some(error.into()),
            }
        }
        last.map_or(Ok(None), Err)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> T {
        // Whatever a panic left behind is a set of verified pages.
        act(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PageSource for RemotePages<'_> {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        if let Some(page) = self.with(|kept| kept.pages.get(id).cloned()) {
            return Ok(page);
        }
        let guarded = self.surroundings.interrupt.guard(self.fetch(*id));
        match self.surroundings.runtime.block_on(guarded) {
            Ok(Some(page)) => {
                self.with(|kept| kept.keep(*id, page.clone()));
                Ok(page)
            }
            Ok(None) => Err(PageError::Absent),
            Err(failure) => {
                let message = failure.messages().next().unwrap_or_default();
                self.with(|kept| kept.failure = Some(failure));
                Err(PageError::Failed(message.into()))
            }
        }
    }

    fn is_verified(&self) -> bool {
        true
    }
}

impl Kept {
    fn keep(&mut self, id: ObjectId, page: Bytes) {
        if self.bytes + page.len() > KEPT_BYTES_MAX {
            self.pages.clear();
            self.bytes = 0;
        }
        self.bytes += page.len();
        self.pages.insert(id, page);
    }
}
