//! Contents that are on this host already: in earlier versions of the target, in other targets, and in git
//! repositories.
//!
//! What is found is believed as little as what a server sends: every content is compared with its id before it gets a
//! name. So nothing here has to be right or even whole, and whatever cannot be read is passed over and fetched.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::{Content, Node, ReadError};
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::error::ApplyError;
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::apply::tree_dir::TreeDir;
use smart_sync_sync::source::git::GitRepository;

use super::pages::Pages;
use super::place::Place;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, interrupted};
use crate::output::Output;

/// Larger blobs are fetched: git gives them as a whole.
const BLOB_BYTES_MAX: u64 = 64 << 20;
/// The number of bytes that are copied at once.
const COPY_BYTES: usize = 256 << 10;

/// Where contents are looked for before they are fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// The other targets of this host.
    pub targets: Vec<PathBuf>,
    /// Git repositories, bare or with a worktree.
    pub repositories: Vec<PathBuf>,
}

/// Which versions of a target are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those that it does not hold now.
    Earlier,
}

/// What is looked for, and where it goes.
struct Search<'a> {
    missing: HashMap<ContentId, &'a Need>,
    stage: &'a Stage<'a>,
    interrupt: &'a Interrupt,
    found: u64,
    bytes: u64,
}

impl Elsewhere {
    /// Whether there is anything to look in.
    pub(super) fn is_any(&self, state_dir: &Path) -> bool {
        let is_synced = |target: &PathBuf| {
            let place = Place::find(target, state_dir);
            place
                .and_then(|place| place.open()?.applied().map_err(Failure::from))
                .is_ok_and(|it| it.is_some())
        };
        !self.repositories.is_empty() || self.targets.iter().any(is_synced)
    }

    /// Stages what is found, and returns what is still needed.
    pub(crate) fn bring<'n>(
        &self,
        needs: &[&'n Need],
        stage: &'n Stage<'n>,
        place: &Place,
        state_dir: &Path,
        interrupt: &'n Interrupt,
        output: &Output,
    ) -> Result<Vec<&'n Need>, Failure> {
        let missing = needs.iter().map(|need| (need.content.id, *need)).collect();
        let mut search = Search { missing, stage, interrupt, found: 0, bytes: 0 };
        search.look_in_versions(place, Which::Earlier)?;
        for place in self.targets.iter().filter_map(|target| Place::known(target, state_dir)) {
            search.look_in_versions(&place, Which::All)?;
        }
        for repository in self.repositories.iter().filter(|_| !needs.is_empty()) {
            match GitRepository::open(repository) {
                Ok(opened) => search.look_in_repository(&opened)?,
                Err(error) => {
                    let failure = Failure::new(crate::failure::Exit::General, error);
                    let reason = failure.in_one_line();
                    output.warning(&format!("{} is passed over: {reason}", repository.display()));
                }
            }
        }
        if search.found > 0 {
            let files = crate::output::count(search.found, "file", "files");
            let bytes = indicatif::HumanBytes(search.bytes);
            output.info(&format!("{files} ({bytes}) found elsewhere on this host"));
        }
        Ok(needs.iter().filter(|need| search.missing.contains_key(&need.content.id)).copied().collect())
    }
}

impl Search<'_> {
    /// Looks at the manifests of what a target holds, and of what it held before, for contents, and at the files for
    /// their bytes.
    fn look_in_versions(&mut self, place: &Place, which: Which) -> Result<(), Failure> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let Ok(target) = place.open() else { return Ok(()) };
        let applied = target.applied().ok().flatten();
        if which == Which::All
            && let Some(applied) = &applied
        {
            self.look_in_version(place, applied.manifest(), target.tree())?;
        }
        for kept in target.kept().unwrap_or_default().iter().rev() {
            if applied.as_ref().and_then(Version::name) == Some(kept.name()) {
                continue;
            }
            if let Ok(Some(tree)) = target.version_tree(kept.name()) {
                self.look_in_version(place, kept.version.manifest(), &tree)?;
            }
        }
        Ok(())
    }

    fn look_in_version(
        &mut self,
        place: &Place,
        manifest: ManifestId,
        tree: &TreeDir,
    ) -> Result<(), Failure> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let Ok(pages) = Pages::load(&place.state, manifest) else { return Ok(()) };
        let looked: Result<Result<(), Failure>, ReadError> = pages.with_entries(manifest, |entries| {
            for entry in entries {
                if let Node::File(content) = &entry.node
                    && let Err(failure) = self.take_file(tree, entry.path.as_bytes(), content)
                {
                    return Ok(Err(failure));
                }
            }
            Ok(Ok(()))
        });
        // Pages that are not there are those of a target that was never brought up to date by this version.
        looked.unwrap_or(Ok(()))
    }

    fn take_file(&mut self, tree: &TreeDir, path: &[u8], content: &Content) -> Result<(), Failure> {
        let Some(need) = self.missing.get(&content.id).copied() else { return Ok(()) };
        self.go_on()?;
        let Ok(file) = tree.open_file(path) else { return Ok(()) };
        if file.metadata().is_ok_and(|found| found.len() == content.size) && copy(file, need, self.stage)? {
            self.has_found(need);
        }
        Ok(())
    }

    fn look_in_repository(&mut self, repository: &GitRepository) -> Result<(), Failure> {
        let blobs = repository.blobs();
        let missing: Vec<&Need> = self.missing.values().copied().collect();
        for need in missing.into_iter().filter(|need| need.content.size <= BLOB_BYTES_MAX) {
            self.go_on()?;
            let Some(bytes) = blobs.find(need.content.blob, need.content.size) else { continue };
            if is_it(self.stage.put(need, &bytes))? {
                self.has_found(need);
            }
        }
        Ok(())
    }

    fn has_found(&mut self, need: &Need) {
        self.missing.remove(&need.content.id);
        self.found += 1;
        self.bytes += need.content.size;
    }

    fn go_on(&self) -> Result<(), Failure> {
        if self.interrupt.is_requested() { Err(interrupted()) } else { Ok(()) }
    }
}

fn copy(mut file: File, need: &Need, stage: &Stage<'_>) -> Result<bool, Failure> {
    let mut writer = stage.writer(need)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut left = need.content.size;
    // What was changed meanwhile is found out by its hash, and cannot make more of it than there should be.
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        match file.read(&mut buffer[..wanted]) {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                writer.write(&buffer[..length])?;
                left -= length as u64;
            }
        }
    }
    is_it(writer.finish())
}

/// Whether what was staged is what was needed.
fn is_it(staged: Result<(), ApplyError>) -> Result<bool, Failure> {
    match staged {
        Ok(()) => Ok(true),
        Err(ApplyError::WrongContent { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
