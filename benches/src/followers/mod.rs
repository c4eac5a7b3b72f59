//! Programs that bring a host from one version to the next: each has the old version on both sides, learns of the new
//! one, and fetches it through a proxy that counts.
//!
//! Each is used as its manual says for what it is to do, and where it has a choice that matters, with the one that
//! sends less. The result is compared with the new version, file by file.

mod ours;
mod peers;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use smart_sync_tests::Totals;

use crate::bench::Bench;
use crate::data::Pair;
use crate::measure::Usage;

pub(crate) use ours::{OurUpdate, Variant, first_install, update, wait_for_best};

/// What one update cost the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) usage: Usage,
    pub(crate) wire: Totals,
}

/// A program that ours is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Rsync,
    Casync,
    Zsync,
    Ostree,
    Bita,
    Git,
}

/// A file beyond this is not for ostree, which keeps it in memory.
const OSTREE_FILE_MAX: u64 = 1 << 30;

impl Peer {
    pub(crate) const ALL: [Self; 6] =
        [Self::Rsync, Self::Casync, Self::Zsync, Self::Ostree, Self::Bita, Self::Git];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rsync => "rsync -z",
            Self::Casync => "casync",
            Self::Zsync => "zsync",
            Self::Ostree => "ostree delta",
            Self::Bita => "bita",
            Self::Git => "git fetch",
        }
    }

    /// Whether people would use it for this.
    fn applies(self, pair: &Pair) -> Result<bool> {
        match self {
            Self::Git => Ok(pair.in_git),
            Self::Ostree => match &pair.artifact {
                Some((_, new)) => {
                    let data = std::fs::metadata(new).context("reading the new version")?;
                    Ok(data.len() <= OSTREE_FILE_MAX)
                }
                None => Ok(true),
            },
            _ => Ok(true),
        }
    }

    /// Brings a host from the old version of a pair to the new one; none where it does not apply.
    pub(crate) fn update(self, bench: &Bench, pair: &Pair) -> Result<Option<Measured>> {
        if !self.applies(pair)? {
            return Ok(None);
        }
        let measured = match self {
            Self::Rsync => peers::rsync(bench, pair).map(Some),
            Self::Casync => peers::casync(bench, pair).map(Some),
            Self::Zsync => peers::zsync(bench, pair).map(Some),
            Self::Ostree => peers::ostree(bench, pair).map(Some),
            Self::Git => peers::git(bench, pair).map(Some),
            Self::Bita => match crate::peers::bita::program(bench)? {
                Some(program) => peers::bita(bench, &program, pair),
                None => Ok(None),
            },
        };
        measured.with_context(|| format!("{} of {}", self.name(), pair.name))
    }
}

/// A directory for one follower, without what the one before left.
fn place(bench: &Bench) -> Result<PathBuf> {
    let path = bench.scratch("follower")?;
    std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}
