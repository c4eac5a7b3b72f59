//! Snapshots of the root that packages are merged into, from before that.
//!
//! Nothing here goes back to one: a root is not exchanged under a machine that runs. What was taken is noted before it is
//! taken, and only what is noted is ever destroyed: other programs, and targets, may keep snapshots of the same root.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smart_sync_store::id::ManifestId;
use smart_sync_sync::apply::versions::VersionName;
use smart_sync_sync::apply::versions::of_root::{RootKind, RootSnapshots};

use super::shown;
use crate::config::{AbsolutePath, Keep};
use crate::output::Output;
use crate::programs;
use crate::realm::trust_store;
use crate::state_dir::make_private;
use crate::sync::session::stamp;

/// How many are kept where nothing else is said.
const KEPT: usize = 3;
const NOTE: &str = "snapshots";

/// Whether and where snapshots are taken, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "a snapshot is `true`, `false`, or the directory that snapshots go into, by its absolute path"
)]
pub enum Wanted {
    /// Whether.
    Whether(bool),
    /// Into this directory.
    Into(AbsolutePath),
}

/// A root and how snapshots of it are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    root: PathBuf,
    kind: RootKind,
    /// Where it is noted which were.
    notes: PathBuf,
}

/// Takes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    source: Source,
    /// The tree that it is taken for.
    manifest: Option<ManifestId>,
}

/// Begins an update that has none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    source: Source,
}

/// Says how to get back to the one that was taken for an update which is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tell {
    source: Source,
    /// What is said where none was taken for it.
    without: Without,
}

/// What it says of packages that no snapshot was taken for an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    /// None was changed: a snapshot comes before that.
    Unchanged,
    /// They are as an update that was confirmed has left them.
    AsConfirmed,
}

/// Destroys the older ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thin {
    source: Source,
    keep: usize,
}

/// The snapshots that were taken of a root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    /// All that were taken and not destroyed, the newest last.
    taken: Vec<Taken>,
    /// The name of the one that was taken for an update of which nobody knows yet whether it is healthy.
    pending: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Taken {
    root: PathBuf,
    /// The directory that it was taken into, where it is one of btrfs.
    into: Option<PathBuf>,
    name: String,
}

impl Source {
    /// How snapshots of a root are taken; else why they are not.
    pub(super) fn find(root: &Path, wanted: Option<&Wanted>, notes: &Path) -> Result<Self, String> {
        let into = match wanted {
            Some(Wanted::Whether(false)) => return Err("none is wanted".to_owned()),
            Some(Wanted::Into(into)) => Some(&*into.0),
            Some(Wanted::Whether(true)) | None => None,
        };
        // By all its names it is one root, and a link is no subvolume.
        let resolved = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let kind = RootKind::of(&resolved, into)
            .ok_or_else(|| format!("{} is neither a subvolume of btrfs nor a dataset of ZFS", shown(root)))?;
        if programs::find(kind.program()).is_none() {
            return Err(format!("the program `{}` is not installed", kind.program()));
        }
        Ok(Self { root: resolved, kind, notes: notes.to_owned() })
    }

    pub(super) fn take(self, manifest: Option<ManifestId>) -> Take {
        Take { source: self, manifest }
    }

    pub(super) fn begin(self) -> Begin {
        Begin { source: self }
    }

    pub(super) fn tell(self, without: Without) -> Tell {
        Tell { source: self, without }
    }

    pub(super) fn thin(self, keep: Option<Keep>) -> Thin {
        Thin { source: self, keep: keep.map_or(KEPT, |keep| keep.0) }
    }

    fn open(&self) -> Result<RootSnapshots, String> {
        self.kind.clone().open(&self.root).map_err(|error| error.to_string())
    }

    fn store(&self) -> Option<&Path> {
        match &self.kind {
            RootKind::Btrfs(store) => Some(store),
            RootKind::Zfs => None,
        }
    }

    fn is_of(&self, taken: &Taken) -> bool {
        taken.root == self.root && taken.into.as_deref() == self.store()
    }
}

impl Take {
    pub(super) fn perform(&self, output: &Output) -> Result<(), String> {
        let Self { source, manifest } = self;
        let snapshots = source.open()?;
        let manifest = manifest.unwrap_or_else(|| ManifestId::from_bytes([0; 32]));
        let name = snapshots.free_name(&stamp(), manifest).map_err(|error| error.to_string())?;
        let mut record = Record::read(&source.notes)?;
        let into = source.store().map(Path::to_owned);
        record.taken.push(Taken { root: source.root.clone(), into, name: name.to_string() });
        record.pending = Some(name.to_string());
        // The note comes first, so that none is there that nobody knows of.
        record.write(&source.notes)?;
        if let Err(error) = snapshots.take(&name) {
            // What is not there is nothing to go back to, and none of the newest.
            record.pending = None;
            if matches!(snapshots.is_there(&name), Ok(false)) {
                record.taken.pop();
            }
            let noted = record.write(&source.notes);
            return Err(noted.err().map_or_else(|| error.to_string(), |noted| format!("{error}; {noted}")));
        }
        output.info(&format!("{} holds what {} is now", snapshots.shown(&name), shown(&source.root)));
        Ok(())
    }

    pub(super) fn shown(&self) -> String {
        let of = shown(&self.source.root);
        match self.source.store() {
            Some(store) => format!("take a snapshot of {of} into {}", shown(store)),
            None => format!("take a snapshot of {of}"),
        }
    }
}

impl Begin {
    /// Forgets which one was taken for an earlier update: what fails now is not gone back from by that one.
    pub(super) fn perform(&self) -> Result<(), String> {
        let notes = &self.source.notes;
        let mut record = Record::read(notes)?;
        if record.pending.take().is_some() { record.write(notes) } else { Ok(()) }
    }
}

impl Tell {
    /// Says it. It fails nothing: the target goes back all the same.
    pub(super) fn perform(&self, output: &Output) {
        if let Err(reason) = self.tell(output) {
            output.warning(&format!("which snapshot was taken is not known: {reason}"));
        }
    }

    fn tell(&self, output: &Output) -> Result<(), String> {
        let source = &self.source;
        let mut record = Record::read(&source.notes)?;
        let root = shown(&source.root);
        let noted = record.pending.take();
        if let Some(snapshot) = noted.as_deref().map_or(Ok(None), |name| self.there(name))? {
            output.warning(&format!("packages below {root} stay as emerge left them"));
            for line in advice(&source.kind, &root, &snapshot) {
                output.warning(&line);
            }
        } else {
            match self.without {
                Without::Unchanged => output.detail(&format!("no package below {root} was changed")),
                Without::AsConfirmed => output.warning(&stays(&root)),
            }
        }
        if noted.is_some() { record.write(&source.notes) } else { Ok(()) }
    }

    /// How the one of a name is shown. A run that was killed may have noted one that was never taken.
    fn there(&self, name: &str) -> Result<Option<String>, String> {
        let Some(name) = VersionName::parse(name.as_bytes()) else { return Ok(None) };
        let snapshots = self.source.open()?;
        let is_there = snapshots.is_there(&name).map_err(|error| error.to_string())?;
        Ok(is_there.then(|| snapshots.shown(&name)))
    }
}

/// What is said of packages below a root where it is not known here what takes them back.
pub(super) fn stays(root: &str) -> String {
    format!(
        "packages below {root} stay as emerge left them; a snapshot or another boot entry takes them back"
    )
}

/// How to get back to a snapshot.
fn advice(kind: &RootKind, root: &str, snapshot: &str) -> [String; 3] {
    match kind {
        RootKind::Btrfs(_) => [
            format!("{snapshot} is what was there before: `btrfs subvolume snapshot {snapshot} NEW` makes a copy of it"),
            format!("that copy is mounted in the place of {root}, or moved there while nothing uses it"),
            "where it is what the machine boots, the kernel option rootflags=subvolid=NUMBER boots the copy; \
             `btrfs inspect-internal rootid NEW` says the number"
                .to_owned(),
        ],
        RootKind::Zfs => [
            format!("{snapshot} is what was there before: `zfs clone {snapshot} NEW` makes a copy of it"),
            format!("that copy is mounted in the place of {root}; where it is what the machine boots, root=zfs:NEW boots it"),
            format!("`zfs rollback {snapshot}` takes {root} itself back, and all that was written since is lost"),
        ],
    }
}

impl Thin {
    /// Keeps the newest ones. What cannot be destroyed is said, and tried again the next time.
    pub(super) fn perform(&self, output: &Output) -> Result<(), String> {
        let Self { source, keep } = self;
        let mut record = Record::read(&source.notes)?;
        record.pending = None;
        if !record.older(source, *keep).is_empty() {
            let snapshots = source.open()?;
            // What was noted and never taken, or is gone, is none of the newest.
            let is_gone = |taken: &Taken| {
                let name = VersionName::parse(taken.name.as_bytes());
                name.is_some_and(|name| matches!(snapshots.is_there(&name), Ok(false)))
            };
            record.taken.retain(|taken| !source.is_of(taken) || !is_gone(taken));
            for name in record.older(source, *keep) {
                match snapshots.remove(&name) {
                    Ok(()) => {
                        record.taken.retain(|taken| !source.is_of(taken) || taken.name != name.as_str());
                    }
                    Err(error) => output.warning(&format!("{} stays: {error}", snapshots.shown(&name))),
                }
            }
        }
        record.write(&source.notes)
    }

    pub(super) fn shown(&self) -> String {
        let newest = crate::output::count(self.keep as u64, "snapshot", "snapshots");
        format!("keep the newest {newest} of {} that were taken here", shown(&self.source.root))
    }
}

impl Record {
    fn read(notes: &Path) -> Result<Self, String> {
        let file = notes.join(NOTE);
        match fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            read => read
                .map_err(|error| error.to_string())
                .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
                .map_err(|reason| format!("{} cannot be read: {reason}", shown(&file))),
        }
    }

    fn write(&self, notes: &Path) -> Result<(), String> {
        let bytes = serde_json::to_vec(self).expect("names and paths that are texts");
        make_private(notes).map_err(|error| error.to_string())?;
        let written = trust_store::write(&notes.join(NOTE), &bytes);
        written.map_err(|failure| failure.in_one_line())
    }

    /// Those of a root that go where so many of the newest stay. What is not called as ours are never goes.
    fn older(&self, source: &Source, keep: usize) -> Vec<VersionName> {
        let of_root = self.taken.iter().rev().filter(|taken| source.is_of(taken));
        of_root.skip(keep).filter_map(|taken| VersionName::parse(taken.name.as_bytes())).collect()
    }
}

#[cfg(test)]
impl Source {
    /// One of a root that is said to be a subvolume.
    pub(super) fn of_subvolume(root: &str, into: &str) -> Self {
        Self { root: root.into(), kind: RootKind::Btrfs(into.into()), notes: "/notes".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, Verbosity};

    #[test]
    fn only_what_was_taken_of_this_root_and_is_called_ours_goes() {
        let taken = |root: &str, into: Option<&str>, name: &str| Taken {
            root: root.into(),
            into: into.map(Into::into),
            name: name.to_owned(),
        };
        let record = Record {
            taken: vec![
                taken("/mnt", Some("/mnt/s"), "smart-sync-1"),
                taken("/", Some("/s"), "smart-sync-2"),
                taken("/mnt", Some("/mnt/s"), "../../etc"),
                taken("/mnt", Some("/mnt/s"), "smart-sync-3"),
                taken("/mnt", None, "smart-sync-4"),
                taken("/mnt", Some("/mnt/s"), "smart-sync-5"),
            ],
            pending: None,
        };
        let older = |keep| -> Vec<String> {
            record
                .older(&Source::of_subvolume("/mnt", "/mnt/s"), keep)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(older(1), ["smart-sync-3", "smart-sync-1"]);
        assert_eq!(older(4), [""; 0]);
    }

    /// A directory is no subvolume, whatever it is taken for.
    #[test]
    fn what_was_not_taken_is_nothing_to_go_back_to() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let notes = directory.join("notes");
        let kind = RootKind::Btrfs(directory.join("store"));
        let source = Source { root: directory.to_owned(), kind, notes: notes.clone() };
        let output =
            Output::to(Format::Text, Verbosity::Normal, Box::new(std::io::sink()), Box::new(std::io::sink()));
        source.clone().take(None).perform(&output).unwrap_err();
        assert_eq!(Record::read(&notes).unwrap(), Record::default());

        let name = "smart-sync-20261130T021657Z-8a3bfa83".to_owned();
        let into = source.store().map(Path::to_owned);
        let taken = Taken { root: source.root.clone(), into, name: name.clone() };
        let killed = Record { taken: vec![taken], pending: Some(name) };
        let told = Record { pending: None, ..killed.clone() };
        // What a run that was killed has noted, and what an earlier update has left.
        killed.write(&notes).unwrap();
        assert_eq!(
            source.clone().tell(Without::Unchanged).there(killed.pending.as_deref().unwrap()),
            Ok(None)
        );
        source.clone().tell(Without::Unchanged).perform(&output);
        assert_eq!(Record::read(&notes).unwrap(), told);
        killed.write(&notes).unwrap();
        source.clone().begin().perform().unwrap();
        assert_eq!(Record::read(&notes).unwrap(), told);
    }

    #[test]
    fn a_root_of_another_kind_has_none_and_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let find = |wanted: Option<&Wanted>| Source::find(directory.path(), wanted, directory.path());
        let reason = find(None).unwrap_err();
        assert!(reason.ends_with("is neither a subvolume of btrfs nor a dataset of ZFS"), "{reason}");
        assert_eq!(find(Some(&Wanted::Whether(false))).unwrap_err(), "none is wanted");
    }

    #[test]
    fn it_is_said_how_to_get_back() {
        let btrfs = advice(&RootKind::Btrfs("/s".into()), "/", "/s/smart-sync-1");
        let zfs = advice(&RootKind::Zfs, "/", "rpool/root@smart-sync-1");
        insta::assert_snapshot!(format!("{}\n\n{}", btrfs.join("\n"), zfs.join("\n")));
    }
}
