//! Bringing what is not here yet into a directory, from which it is published.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, stream};
use smart_sync_store::manifest::TreePath;

use super::super::Outside;
use super::super::answer::Fault;
use super::super::record::Attempt;
use super::super::transport::{self, Scheme};
use super::super::upstreams::Source;
use super::fetch::{Budget, Fetching, Missing, attempt, is_here, settle};
use super::look::Offered;
use super::must::Must;
use crate::http::now;

/// After so many files that did not come, no others are asked for.
const FAILURES_MAX: usize = 20;
/// Files that are seen to together; several of them come at once.
const TOGETHER: usize = 1024;

/// Where a mirror works, below the directory of caches.
#[derive(Debug, Clone)]
pub(super) struct Work {
    root: PathBuf,
}

impl Work {
    /// Makes the directories that are not there.
    pub(super) fn open(root: PathBuf) -> anyhow::Result<Self> {
        let work = Self { root };
        for directory in [work.files(), work.parts(), work.together()] {
            fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(work)
    }

    /// Files that are whole, by their paths in the tree.
    pub(super) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Parts of files.
    pub(super) fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// Where rsync puts many files at once.
    pub(super) fn together(&self) -> PathBuf {
        self.root.join("rsync")
    }

    /// What upstreams have answered.
    pub(super) fn documents(&self) -> PathBuf {
        self.root.join("documents")
    }

    /// Where there is room for anything else.
    pub(super) fn room(&self) -> &Path {
        &self.root
    }

    /// Where a file is put.
    pub(super) fn file(&self, path: &TreePath) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        self.files().join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// Removes what was brought: it is published, or must not be.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        [self.files(), self.parts(), self.together()].iter().try_for_each(|directory| remove_all(directory))
    }

    /// Removes what upstreams have answered as well: some of it was refused.
    pub(super) fn distrust(&self) -> anyhow::Result<()> {
        self.clear()?;
        remove_all(&self.documents())
    }

    /// Removes files of an earlier run that are not wanted any more.
    pub(super) fn keep_only(&self, is_wanted: &dyn Fn(&Path) -> bool) -> anyhow::Result<()> {
        remove_others(&self.files(), &self.files(), is_wanted)
    }
}

fn remove_all(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn remove_others(root: &Path, directory: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> anyhow::Result<()> {
    let reading = || format!("reading {}", directory.display());
    for entry in fs::read_dir(directory).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        let path = entry.path();
        if entry.file_type().with_context(reading)?.is_dir() {
            remove_others(root, &path, is_wanted)?;
        } else if !is_wanted(path.strip_prefix(root).unwrap_or(&path)) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// What was done for one file.
pub(super) struct Done {
    pub(super) file: String,
    pub(super) attempts: Vec<Attempt>,
    pub(super) failure: Option<String>,
}

/// What came of bringing files.
#[derive(Default)]
pub(super) struct Brought {
    /// What was done for each file that was asked for.
    pub(super) done: Vec<Done>,
    /// Whether something came in place of a file that is not it.
    pub(super) is_wrong: bool,
}

impl Brought {
    /// The bytes that came.
    pub(super) fn bytes(&self) -> u64 {
        self.done.iter().flat_map(|done| &done.attempts).map(|attempt| attempt.bytes).sum()
    }

    /// Which upstream each of these files came from.
    pub(super) fn sources(&self, files: &[(&TreePath, &Offered)]) -> BTreeMap<TreePath, String> {
        let gave = |done: &'_ Done| done.attempts.iter().rfind(|attempt| attempt.is_whole).cloned();
        let gave: HashMap<&str, Attempt> =
            self.done.iter().filter_map(|done| Some((done.file.as_str(), gave(done)?))).collect();
        let source = |(path, offered): &(&TreePath, &Offered)| {
            Some(((*path).clone(), gave.get(offered.place.as_str())?.source.clone()))
        };
        files.iter().filter_map(source).collect()
    }

    /// Why not everything came.
    pub(super) fn failures(&self) -> Vec<String> {
        let failed =
            self.done.iter().filter_map(|done| Some(format!("{}: {}", done.file, done.failure.as_ref()?)));
        failed.collect()
    }
}

/// Whoever brings files.
pub(super) struct Bringing<'a> {
    pub(super) outside: &'a Outside,
    pub(super) sources: &'a [Source],
    pub(super) first: usize,
    pub(super) work: &'a Work,
    pub(super) bytes_max: u64,
}

impl Bringing<'_> {
    /// Brings files, and says what was done for each. An error is one of this machine.
    pub(super) async fn bring(
        &self,
        files: &[(&TreePath, &Offered)],
        brought: &mut Brought,
    ) -> anyhow::Result<()> {
        let known = files.iter().map(|(_, offered)| match &offered.must {
            Must::Come { size, .. } => size.unwrap_or(0),
            Must::Read(_) => 0,
        });
        let known: u64 = known.fold(0, u64::saturating_add);
        ensure!(
            known <= self.bytes_max,
            "{known} bytes would come, which is more than a look may bring\n\
             hint: `max-gib` of the mirror in server.toml says how much"
        );
        let budget = Budget::new(self.bytes_max);
        let mut missing = Vec::new();
        for (path, offered) in files {
            let to = self.work.file(path);
            if let Must::Read(bytes) = &offered.must {
                write(&to, bytes)?;
            } else if !is_here(&to, &offered.must).await? {
                missing.push((*path, *offered));
            }
        }
        if matches!(self.sources[self.first].scheme, Scheme::Rsync) && !missing.is_empty() {
            missing = self.bring_together(missing, &budget, brought).await?;
        }
        self.bring_each(&missing, &budget, brought).await
    }

    /// Brings files one by one, several at once.
    async fn bring_each(
        &self,
        missing: &[(&TreePath, &Offered)],
        budget: &Budget,
        brought: &mut Brought,
    ) -> anyhow::Result<()> {
        let (parts, room) = (self.work.parts(), self.work.room());
        let fetching = Fetching {
            outside: self.outside,
            sources: self.sources,
            first: self.first,
            budget,
            parts: &parts,
            room,
        };
        let at_once = self.outside.connections;
        let mut failed = 0;
        for some in missing.chunks(TOGETHER) {
            let fetches: Vec<_> =
                some.iter().map(|(path, offered)| self.bring_one(&fetching, path, offered)).collect();
            let mut coming = stream::iter(fetches).buffer_unordered(at_once);
            while let Some((done, fetched)) = coming.next().await {
                brought.done.push(done);
                match fetched {
                    Ok(()) => {}
                    Err(Missing::Upstream { is_wrong, .. }) => {
                        failed += 1;
                        brought.is_wrong |= is_wrong;
                    }
                    Err(Missing::Local(error)) => return Err(error),
                }
                if failed >= FAILURES_MAX {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn bring_one(
        &self,
        fetching: &Fetching<'_>,
        path: &TreePath,
        offered: &Offered,
    ) -> (Done, Result<(), Missing>) {
        let mut attempts = Vec::new();
        // The turns are never taken away.
        let _turn = self.outside.turns.acquire().await;
        let fetched = fetching.fetch(offered, &self.work.file(path), &mut attempts).await;
        let failure = match &fetched {
            Ok(()) => None,
            Err(Missing::Upstream { reason, .. }) => Some(reason.clone()),
            Err(Missing::Local(error)) => Some(format!("{error:#}")),
        };
        (Done { file: offered.place.clone(), attempts, failure }, fetched)
    }

    /// Has rsync bring all files at once. Those that did not come as they have to be are left for others.
    async fn bring_together<'b>(
        &self,
        missing: Vec<(&'b TreePath, &'b Offered)>,
        budget: &Budget,
        brought: &mut Brought,
    ) -> anyhow::Result<Vec<(&'b TreePath, &'b Offered)>> {
        let source = &self.sources[self.first];
        let (together, list) = (self.work.together(), self.work.room().join("rsync-files"));
        let mut names: Vec<u8> = Vec::new();
        for (_, offered) in &missing {
            names.extend_from_slice(offered.place.as_bytes());
            names.push(0);
        }
        write(&list, &names)?;
        let places: Vec<PathBuf> = missing.iter().map(|(_, offered)| together.join(&offered.place)).collect();
        let before = measured(&together, &places);
        let outcome = {
            let _turn = source.turns.acquire().await?;
            let measure = || measured(&together, &places).saturating_sub(before);
            transport::bring(&source.url, &list, &together, budget.left(), self.outside.stall, measure).await
        };
        budget.take(measured(&together, &places).saturating_sub(before).min(budget.left()))?;
        match &outcome {
            Ok(()) => source.worked(),
            Err(Fault::Down { retry_after, .. }) => source.failed(*retry_after, now()),
            Err(_) => {}
        }
        if let Err(fault) = &outcome {
            let attempts = vec![attempt(source, 0, Some(fault))];
            brought.done.push(Done { file: "all files".to_owned(), attempts, failure: None });
        }
        let mut left = Vec::new();
        for ((path, offered), place) in missing.into_iter().zip(places) {
            let is_there = fs::symlink_metadata(&place).is_ok();
            if !is_there {
                left.push((path, offered));
                continue;
            }
            let is_right = is_here(&place, &offered.must).await?;
            let bytes = fs::symlink_metadata(&place).map_or(0, |metadata| metadata.len());
            let wrong = Fault::Wrong("it is not what it has to be".to_owned());
            let attempts = vec![attempt(source, bytes, (!is_right).then_some(&wrong))];
            brought.done.push(Done { file: offered.place.clone(), attempts, failure: None });
            if is_right {
                settle(&place, &self.work.file(path))?;
            } else {
                fs::remove_file(&place).with_context(|| format!("removing {}", place.display()))?;
                left.push((path, offered));
            }
        }
        Ok(left)
    }
}

/// How many bytes of some files are there, with what is on its way beside them.
fn measured(root: &Path, places: &[PathBuf]) -> u64 {
    let directories: std::collections::BTreeSet<&Path> =
        places.iter().filter_map(|place| place.parent()).chain([root]).collect();
    let entries = directories.into_iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let files = entries.filter_map(|entry| entry.ok()?.metadata().ok()).filter(fs::Metadata::is_file);
    files.map(|metadata| metadata.len()).sum()
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_brought_and_nobody_wants_any_more_goes() {
        let directory = tempfile::tempdir().unwrap();
        let work = Work::open(directory.path().join("work")).unwrap();
        let path = |name: &str| TreePath::new(name.as_bytes()).unwrap();
        for name in ["a", "deep/b", "deep/c"] {
            write(&work.file(&path(name)), b"1234").unwrap();
        }
        work.keep_only(&|path| path == Path::new("deep/b")).unwrap();
        assert!(work.file(&path("deep/b")).exists());
        assert!(!work.file(&path("a")).exists() && !work.file(&path("deep/c")).exists());
        let deep = work.files().join("deep");
        assert_eq!(measured(&work.files(), &[deep.join("b"), deep.join("none")]), 4);
        work.clear().unwrap();
        assert!(!work.files().exists());
    }
}
