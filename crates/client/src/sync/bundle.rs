//! An update by a bundle: one answer with everything that the old tree does not have.
//!
//! What comes is written to a spool beside the other state of the target while it is used, so that a download which
//! broke off goes on where it stood, in this run or in the next one. A bundle that is not there, or does not lead to
//! the manifest that was signed, is no failure: the same tree can be had chunk by chunk.

mod spool;

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use indicatif::HumanBytes;
use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::{Content, Manifest};
use smart_sync_sync::apply::error::ApplyError;
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::receive::Receiver;
use smart_sync_sync::apply::scan::{Drift, Scan};
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::apply::tree_dir::TreeDir;
use smart_sync_sync::bundle::apply::{Bundle, BundleError, Limits, OldFiles};
use smart_sync_sync::bundle::resolve::{Delivery, OldFile};
use smart_sync_sync::confined::Confined;
use smart_sync_sync::wire::delta::decoded_len_max;
use smart_sync_sync::wire::fetch_map::FetchMap;

pub(super) use self::spool::discard_received;
use self::spool::{Spool, SpoolReader};
use super::realm_tree::{Rebuilt, Run};
use super::session::Session;
use super::write_out::writing_out;
use crate::CONFINED;
use crate::failure::{Exit, Failure};
use crate::prefer::{prefers_chunks, rebuild_time_max};
use crate::realm::remote::Remote;

/// What a bundle may have beyond what its contents and its head could have at the most.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// A tree that a bundle led to, and the stage with the contents that it brought.
pub(super) struct Brought<'s> {
    pub(super) rebuilt: Rebuilt,
    pub(super) stage: Stage<'s>,
}

/// Why a bundle did not lead to the tree.
enum Failed {
    /// The tree can be had in another way.
    PassedOver(Failure),
    /// Nothing else would do better.
    Stopped(Failure),
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure.exit() {
            Exit::Interrupted => Self::Stopped(failure),
            _ => Self::PassedOver(failure),
        }
    }
}

impl From<ApplyError> for Failed {
    fn from(error: ApplyError) -> Self {
        Self::PassedOver(error.into())
    }
}

impl Run<'_> {
    /// Brings the wanted tree by a bundle from what is here; nothing where that is not possible.
    pub(super) fn bring<'s>(
        &self,
        session: &'s Session<'_>,
        scan: &Scan,
    ) -> Result<Option<Brought<'s>>, Failure> {
        let base = session.known_manifest().map(|(base, _)| base);
        if base.is_none() && !self.installs_by_bundle() {
            return Ok(None);
        }
        let was_staged = session.has_stage()?;
        let failed = match self.try_bundle(base, session, scan) {
            Ok(brought @ Some(_)) => return Ok(brought),
            Ok(None) => return Ok(None),
            Err(failed) => failed,
        };
        // What came is kept as it came. The stage of an earlier run may have more than this one put there.
        if !was_staged {
            session.discard_staged()?;
        }
        match failed {
            Failed::Stopped(failure) => Err(failure),
            Failed::PassedOver(failure) => {
                let reason = failure.in_one_line();
                tracing::debug!(reason, "the bundle is passed over");
                Ok(None)
            }
        }
    }

    /// How many bytes the bundle has that the update would take; nothing where it would come in another way.
    pub(super) fn bundle_length(&self, session: &Session<'_>) -> Result<Option<u64>, Failure> {
        let base = session.known_manifest().map(|(base, _)| base);
        let wanted = self.verified().manifest.id;
        if base == Some(wanted) || base.is_none() && !self.installs_by_bundle() {
            return Ok(None);
        }
        let name = name_of(base, wanted);
        for remote in self.remotes() {
            if let Ok(Some(length)) = self.block_on(remote.length_of(&name))? {
                return Ok(Some(length));
            }
        }
        Ok(None)
    }

    /// Whether a first install is to come as a bundle.
    fn installs_by_bundle(&self) -> bool {
        let bytes = self.verified().publication.record().content.bytes;
        let is_near = self.remotes().iter().any(Remote::is_near);
        // With nothing to build on, what this host has elsewhere may be most of the tree.
        !self.has_bytes_elsewhere() && !prefers_chunks(self.prefer(), bytes, is_near)
    }

    /// Passes a bundle over whose archives take longer to rebuild than they are worth.
    fn check_work(&self, items: &[Delivery]) -> Result<(), Failed> {
        let archives = items.iter().filter(|item| item.view.is_some());
        let (work, bytes) = archives.fold((0u64, 0u64), |(work, bytes), item| {
            (work.saturating_add(item.work), bytes.saturating_add(item.size))
        });
        let time = Duration::from_millis(work / rayon::current_num_threads().max(1) as u64);
        let Some(limit) = rebuild_time_max(self.prefer(), bytes) else { return Ok(()) };
        if time <= limit {
            return Ok(());
        }
        let text = format!("rebuilding what is compressed would take about {:.1} s", time.as_secs_f64());
        self.output().info(&format!("{text}: it is fetched as it is; --prefer bytes rebuilds it"));
        Err(Failed::PassedOver(Failure::message(Exit::General, text)))
    }

    fn try_bundle<'s>(
        &self,
        base: Option<ManifestId>,
        session: &'s Session<'_>,
        scan: &Scan,
    ) -> Result<Option<Brought<'s>>, Failed> {
        let signed = self.verified().manifest;
        let content = self.verified().publication.record().content;
        let old_entries = session.known_manifest().map_or(0, |(_, entries)| entries);
        let head_bytes = decoded_len_max(old_entries, content.entries, 0);
        let limits = Limits { head_bytes, content_bytes: content.bytes };
        let name = name_of(base, signed.id);
        let limit = head_bytes.saturating_add(content.bytes).saturating_add(OVERHEAD_BYTES);
        let mut spool = Spool::open(&self.place().state, &name);
        let reader = if let Some(carried) = self.carried(base) {
            self.output().detail(&format!("a bundle of {} came along", HumanBytes(carried.len() as u64)));
            SpoolReader::of_bytes(carried)
        } else {
            let mut feed = self.feed(&name, spool.resume(), limit);
            let Some(begun) = feed.begin()? else { return Ok(None) };
            self.output().info(&match begun.to_come {
                Some(bytes) => format!("downloading {} as one bundle", HumanBytes(bytes)),
                None => "downloading a bundle".to_owned(),
            });
            spool.reader(&begun, feed)?
        };

        let manifest = base.map(|base| Manifest::open(&session.pages, base, None)).transpose();
        let manifest = manifest.map_err(|error| Failed::PassedOver(error.into()))?;
        let entries = manifest.iter().flat_map(Manifest::iter);
        let opened = Bundle::open::<_, _, ApplyError>(reader, entries, limits);
        let bundle = opened.map_err(|error| self.judge(error, &mut spool))?;

        self.check_work(bundle.items())?;
        let stage = session.stage()?;
        let bases = self.fetch_lost_bases(&bundle, session, scan, &stage)?;
        let total: u64 = bundle.items().iter().map(|item| item.size).sum();
        let receiver = Receiver::new(&stage, total)?;
        let mut progress = self.output().progress("receiving", bundle.delivered());
        let rebuilder = Confined::this_program(CONFINED);
        let carried = writing_out(&stage, |disk| {
            let carried = bundle.carry_out(&bases, &receiver, &rebuilder, |bytes| {
                progress.advance(bytes);
                disk.advance(bytes);
            });
            carried.map_err(|error| self.judge(error, &mut spool))
        });
        let (resolved, contents) = carried?;
        let fidelity = resolved.fidelity;
        let from = base.filter(|_| fidelity == session.fidelity());
        let edited = session.pages.edited(from, fidelity, resolved.into_edits(&contents));
        let wrong = |failure: Failure, spool: &mut Spool| {
            spool.forget();
            Failed::PassedOver(failure)
        };
        let (pages, summary) = edited.map_err(|error| wrong(error.into(), &mut spool))?;
        if summary.id != signed.id {
            let text = format!("the bundle leads to manifest {}, and {} was signed", summary.id, signed.id);
            return Err(wrong(Failure::message(Exit::Refused, text), &mut spool));
        }
        let rebuilt = Rebuilt { pages, summary, fidelity, map: FetchMap::default() };
        Ok(Some(Brought { rebuilt, stage }))
    }

    /// Whether something else than the bundle may lead to the tree after an error.
    fn judge(&self, error: BundleError<ApplyError>, spool: &mut Spool) -> Failed {
        if self.interrupt().is_requested() {
            return Failed::Stopped(crate::interrupt::interrupted());
        }
        match error {
            // Where there is no room or no permission, the plan of the other way says what is missing.
            BundleError::Sink(error) => Failed::PassedOver(error.into()),
            BundleError::Scratch(error) => Failed::PassedOver(error.into()),
            // A terminal told the other process to stop: this one has been told so too, or will be.
            BundleError::Process(error) if error.kind() == io::ErrorKind::Interrupted => {
                Failed::Stopped(crate::interrupt::interrupted())
            }
            // What came is whole as far as it goes: the next run goes on with it.
            BundleError::Stream(error) if spool::is_of_network(&error) => {
                Failed::PassedOver(Failure::new(Exit::Network, error))
            }
            error => {
                spool.forget();
                Failed::PassedOver(Failure::new(Exit::Refused, error))
            }
        }
    }

    /// Fetches the files of the old tree that the bundle takes bytes of and that are not here as they were, or not at
    /// all.
    fn fetch_lost_bases<'a>(
        &self,
        bundle: &Bundle<impl io::Read>,
        session: &'a Session<'_>,
        scan: &Scan,
        stage: &'a Stage<'a>,
    ) -> Result<Bases<'a>, Failed> {
        let tree = session.tree();
        let mut lost = HashSet::new();
        let mut needs = Vec::new();
        for base in bundle.bases() {
            if !is_here(base, tree, scan) && lost.insert(base.content.id) {
                needs.push(lost_need(base.content));
            }
        }
        if !needs.is_empty() {
            let mut wanted = Vec::new();
            for need in &needs {
                if !stage.has(&need.content)? {
                    wanted.push(need);
                }
            }
            self.stage(FetchMap::default(), &wanted, stage)?;
        }
        Ok(Bases { tree, lost, stage })
    }
}

/// What a bundle is asked for as.
fn name_of(base: Option<ManifestId>, wanted: ManifestId) -> String {
    let from = base.map_or_else(|| "none".to_owned(), |base| base.to_string());
    format!("bundle/{from}/{wanted}")
}

/// Whether a file is here with the content that it had.
fn is_here(base: &OldFile, tree: &TreeDir, scan: &Scan) -> bool {
    let path = base.path.as_bytes();
    let is_unchanged = scan
        .finding(path)
        .is_none_or(|finding| matches!(finding.drift, Drift::ExecutableBit | Drift::Metadata));
    is_unchanged && tree.stat(path).is_ok_and(|stat| stat.is_some_and(|stat| stat.size == base.content.size))
}

fn lost_need(content: Content) -> Need {
    Need { content, uses: 1, is_sparse: false, mode: None, modified: None, local: None, former: None }
}

/// The files of the old tree: those of the target, and those that were fetched because they are lost there.
struct Bases<'a> {
    tree: &'a TreeDir,
    lost: HashSet<ContentId>,
    stage: &'a Stage<'a>,
}

impl OldFiles for Bases<'_> {
    fn read(&self, file: &OldFile, range: Range<u64>) -> io::Result<Vec<u8>> {
        let opened = if self.lost.contains(&file.content.id) {
            let staged = self.stage.open_content(&file.content).map_err(io::Error::other)?;
            staged.ok_or(io::ErrorKind::NotFound)?
        } else {
            self.tree.open_file(file.path.as_bytes()).map_err(io::Error::other)?
        };
        let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        opened.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }
}
