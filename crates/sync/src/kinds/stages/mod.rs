//! Release media: what machines are installed from, as the release directories of mirrors hold them.
//!
//! The tree is such a directory: builds by their times, texts that say which is the newest, and the newest once more
//! under a name that does not change (`name`). What upstream has written is published byte by byte, because it is signed,
//! and nothing is made that clients would take for it. Whatever somebody asks for is proven to belong together before it
//! is published: a text names files that are there, these are what their digests say, and all of that is signed by keys
//! that count, where keys are given.

mod admit;
pub mod digests;
pub mod latest;
mod look;
pub mod name;
mod signed;
mod stock;
mod texts;
mod upstream;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use smart_sync_store::count::counted;

use super::detached::said_of;
use super::follow::Following;
use super::{Absent, ArtifactKind, Before, Job, KindError, Prepared};
use crate::time::UnixTime;
use admit::Admission;
use look::Here;
use stock::Stock;
use texts::Texts;

/// How many builds of each series stay published.
const BUILDS_KEPT: usize = 5;

/// The kind.
#[derive(Debug)]
pub struct Stages;

impl ArtifactKind for Stages {
    fn name(&self) -> &'static str {
        "stages"
    }

    fn judges_signatures(&self) -> bool {
        true
    }

    fn is_dated_by_content(&self) -> bool {
        true
    }

    fn keeps_newest(&self) -> bool {
        true
    }

    fn following(&self) -> Following {
        Following::Known(&upstream::FollowStages)
    }

    fn prepare(&self, job: Job<'_>) -> Result<Prepared, KindError> {
        let Job { directory, before, absent, findings, signatures, newest, now, .. } = job;
        let published = before.map_or_else(|| Ok(BTreeMap::new()), Before::files)?;
        let published_texts = texts::published(before, &published)?;
        let ring = signatures.key_ring;
        let here = Here::sort(directory)?;
        let looked = look::look(directory, &here, findings, now)?;
        let admission = Admission { directory, before, published: &published, ring, now };
        let mut admitted = admission.admit(&here, &looked, findings)?;
        let reader = texts::Reader { directory, ring, now };
        let mut texts = reader.read(&here.texts, &published_texts, &mut admitted.refused)?;
        if !admitted.refused.is_empty() {
            return Err(KindError::Refused(admitted.refused));
        }
        let mut stock = admitted.stock;
        if absent == Absent::Stays {
            for (medium, files) in stock::published(&published) {
                stock.entry(medium).or_insert(files);
            }
            for (place, text) in published_texts {
                texts.entry(place).or_insert(text);
            }
        }
        let named = texts::named(&texts);
        let builds_kept = newest.unwrap_or(BUILDS_KEPT);
        let gone = stock::drop_old(&mut stock, &named, builds_kept);
        let newest = stock::newest(&stock, &named);
        let mut parts = stock::parts(&stock, &newest)?;
        let left_out = texts::place(&texts, &stock, &newest, &mut parts)?;

        let mut signers = admitted.signers;
        for (place, text) in &texts {
            if let Some(signer) = &text.signer {
                signers.insert(place.path()?, signer.clone());
            }
        }
        signers.retain(|path, _| parts.contains_key(path));
        let mut notes = said_of_files(&stock, gone, builds_kept, here.others);
        notes.extend(left_out);
        notes.extend(said_of("release media", signers.values()));
        let content_time = content_time(&stock, &texts, now);
        let signers = signers.into_iter().map(|(path, signer)| (path, signer.primary.to_string())).collect();
        Ok(Prepared { parts, content_time, notes, signers })
    }
}

/// What there is, and what is left out: so many builds that are too old, so many files that are none.
fn said_of_files(stock: &Stock, gone: u64, builds_kept: usize, others: u64) -> Vec<String> {
    let builds = stock::builds(stock);
    let count: u64 = builds.values().map(|stamps| stamps.len() as u64).sum();
    let count = counted(count, "build", "builds");
    let mut notes =
        vec![format!("the tree has {count} of {}", counted(builds.len() as u64, "medium", "media"))];
    if gone > 0 {
        let count = counted(gone, "build is", "builds are");
        let kept = counted(builds_kept.max(1) as u64, "is", "are");
        notes.push(format!("{count} left out: {kept} kept of each"));
    }
    if others > 0 {
        let count = counted(others, "file is", "files are");
        notes
            .push(format!("{count} left out: not release media, or without the medium that they lie beside"));
    }
    notes
}

/// When the newest thing of a tree was made, as far as that is not yet to come.
fn content_time(stock: &Stock, texts: &Texts<'_>, now: UnixTime) -> UnixTime {
    let builds = stock.keys().map(|medium| medium.name.stamp.seconds());
    let newest = texts.values().map(|text| text.latest.time).chain(builds).max();
    newest.and_then(UnixTime::new).filter(|newest| *newest <= now).unwrap_or(now)
}
