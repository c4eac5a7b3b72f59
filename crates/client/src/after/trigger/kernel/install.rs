//! Placing and removing the files of kernels.
//!
//! ```text
//! it is looked what differs, whether it may be replaced, and whether there is room
//! what is about to be placed is remembered
//! modules, then images and what belongs to them: each written beside its place, synced, renamed
//! the entry of the boot loader, which names them
//! ```
//!
//! Removing goes the other way round. So an entry names an image that is whole, whenever the power fails.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use smart_sync_sync::apply::step::Steps;
use smart_sync_sync::apply::tree_dir::{RootLink, TreeDir};

use super::super::place::{place, remove};
use super::super::shown;
use super::loader::{entry, entry_name};
use super::modules::{Modules, remove_all, remove_left};
use super::record::Record;
use super::release::{Release, names};
use crate::output::Output;

/// What stays free where something is placed.
const ROOM_BYTES: u64 = 4 << 20;
/// The first file system may hold keys, so that none of it is for everybody.
const MODE: u32 = 0o600;
/// Where systemd-boot looks for entries, from where kernels are.
const ENTRIES: &str = "loader/entries";

/// Kernels that are placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    pub(super) releases: Vec<Release>,
    /// The directory that they are in.
    pub(super) from: PathBuf,
    pub(super) boot: PathBuf,
    pub(super) modules: PathBuf,
    /// What the entry of each says, where entries are written.
    pub(super) entry_options: Option<String>,
    pub(super) notes: PathBuf,
}

/// Kernels that are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remove {
    pub(super) versions: Vec<String>,
    pub(super) boot: PathBuf,
    pub(super) modules: PathBuf,
    pub(super) notes: PathBuf,
}

/// What was placed is there to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    pub(super) notes: PathBuf,
}

/// What has to be done for a kernel.
struct Work<'i> {
    release: &'i Release,
    /// Whether somebody has put the same image there before.
    was_there: bool,
    modules: Option<Modules>,
    /// Paths in the tree, the names they get, and their sizes.
    files: Vec<(&'i str, String, u64)>,
}

impl Install {
    /// Places what is not there yet.
    pub fn perform(&self, output: &Output) -> Result<(), String> {
        let tree = TreeDir::open(&self.from, RootLink::Follow, Steps::default())
            .map_err(|error| error.to_string())?;
        let mut record = Record::read(&self.notes, &super::running());
        let works = self.releases.iter().map(|release| self.look(release, &tree, &record));
        let works = works.collect::<Result<Vec<_>, _>>()?;
        self.check_room(&works)?;
        for work in &works {
            record.add(&work.release.version, work.was_there);
        }
        record.write(&self.notes)?;
        remove_left(&self.modules)?;
        for work in &works {
            let version = &work.release.version;
            if let Some(modules) = &work.modules {
                modules.put(&self.modules, version)?;
            }
            for (path, name, _) in &work.files {
                let file = tree.open_file(path.as_bytes()).map_err(|error| error.to_string())?;
                place(&self.boot, name, MODE, file)?;
            }
            let written = self.write_entry(work.release)?;
            if work.modules.is_some() || !work.files.is_empty() || written {
                output.info(&format!("the kernel {version} is in {}", shown(&self.boot)));
            }
        }
        Ok(())
    }

    /// Decides what has to be done for a kernel, and whether it may be.
    fn look<'i>(&self, release: &'i Release, tree: &TreeDir, record: &Record) -> Result<Work<'i>, String> {
        let version = &release.version;
        let place = self.modules.join(version);
        let is_ours = record.placed.contains(version);
        let must_stay = record.must_stay(version);
        let image = (release.image.as_str(), release.image_name());
        let is_there = self.boot.join(&image.1).symlink_metadata().is_ok();
        let is_same = is_there && is_same(tree, image.0, &self.boot.join(&image.1))?;
        if is_there && !is_same && must_stay {
            return Err(format!(
                "the tree has another kernel of the version {version}, which runs or ran last and is what is gone back to; build it as another version"
            ));
        }
        if !is_ours && !is_same && (is_there || place.symlink_metadata().is_ok()) {
            return Err(format!(
                "{version} is in {} or {} already, and somebody else has put it there",
                shown(&self.boot),
                shown(&self.modules)
            ));
        }
        let mut files = Vec::new();
        let beside = release.beside.iter().map(|(path, name)| (path.as_str(), name.clone()));
        // The image last, so that whoever looks for images finds one with all that belongs to it.
        for (path, name) in beside.chain([image]) {
            let to = self.boot.join(&name);
            let may_replace = !must_stay || to.symlink_metadata().is_err();
            if may_replace && !is_at(tree, path, &to)? {
                let size = tree.open_file(path.as_bytes()).map_err(|error| error.to_string())?;
                let size = size.metadata().map_err(|error| error.to_string())?.len();
                files.push((path, name, size));
            }
        }
        let may_replace = !must_stay || place.symlink_metadata().is_err();
        let modules = if may_replace {
            Modules::read(release, &self.from, tree, &self.notes_directory()?)?
        } else {
            None
        };
        let modules = modules.filter(|modules| !modules.are_at(&place));
        Ok(Work { release, was_there: is_same, modules, files })
    }

    fn notes_directory(&self) -> Result<PathBuf, String> {
        crate::state_dir::make_private(&self.notes).map_err(|error| error.to_string())?;
        Ok(self.notes.clone())
    }

    fn check_room(&self, works: &[Work<'_>]) -> Result<(), String> {
        let sizes = works.iter().flat_map(|work| &work.files).map(|(_, _, size)| *size);
        let images: u64 = sizes.sum();
        let modules: u64 =
            works.iter().filter_map(|work| work.modules.as_ref()).map(|modules| modules.bytes).sum();
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        if device(&self.boot) == device(&self.modules) {
            return room(&self.boot, images + modules);
        }
        room(&self.boot, images)?;
        room(&self.modules, modules)
    }

    /// Writes the entry of a kernel, if it differs; false if there is nothing to write.
    fn write_entry(&self, release: &Release) -> Result<bool, String> {
        let Some(options) = &self.entry_options else { return Ok(false) };
        let directory = self.boot.join(ENTRIES);
        let text = entry(release, options);
        let name = entry_name(&release.version);
        if fs::read(directory.join(&name)).is_ok_and(|found| found == text.as_bytes()) {
            return Ok(false);
        }
        fs::create_dir_all(&directory)
            .map_err(|error| format!("{} cannot be made: {error}", shown(&directory)))?;
        place(&directory, &name, MODE, text.as_bytes())?;
        Ok(true)
    }

    pub(crate) fn shown(&self) -> String {
        let versions: Vec<&str> = self.releases.iter().map(|release| release.version.as_str()).collect();
        format!("place {} in {} and {}", versions.join(" and "), shown(&self.boot), shown(&self.modules))
    }
}

impl Remove {
    /// Removes what was placed of these versions: entry, files, modules.
    pub fn perform(&self, output: &Output) -> Result<(), String> {
        let mut record = Record::read(&self.notes, &super::running());
        for version in &self.versions {
            if record.must_stay(version) {
                output.warning(&format!("the kernel {version} stays: it runs, or ran before"));
                continue;
            }
            if !record.placed.contains(version) {
                continue;
            }
            let entries = self.boot.join(ENTRIES);
            remove(&entries, &[entry_name(version)])?;
            remove(&self.boot, &names(version))?;
            let modules = self.modules.join(version);
            remove_all(&modules)
                .map_err(|error| format!("{} cannot be removed: {error}", shown(&modules)))?;
            record.placed.retain(|placed| placed != version);
            record.added.retain(|added| added != version);
            output.info(&format!("the kernel {version} was removed"));
        }
        record.write(&self.notes)
    }

    pub(crate) fn shown(&self) -> String {
        format!("remove {}, but for what runs or ran before", self.versions.join(" and "))
    }
}

impl Settle {
    /// Notes that what was added stays.
    pub fn perform(&self) -> Result<(), String> {
        let mut record = Record::read(&self.notes, &super::running());
        record.added.clear();
        record.write(&self.notes)
    }
}

fn room(place: &Path, bytes: u64) -> Result<(), String> {
    let found = rustix::fs::statvfs(place).map_err(|error| format!("{}: {error}", shown(place)))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if bytes == 0 || bytes.saturating_add(ROOM_BYTES) <= free {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!("{} has {} MiB of room, and {} are needed", shown(place), mib(free), mib(bytes + ROOM_BYTES)))
}

/// Whether a file of the tree is at a place already.
fn is_at(tree: &TreeDir, path: &str, to: &Path) -> Result<bool, String> {
    if to.symlink_metadata().is_err() { Ok(false) } else { is_same(tree, path, to) }
}

/// Whether a file of the tree is what is at a place.
fn is_same(tree: &TreeDir, path: &str, to: &Path) -> Result<bool, String> {
    let one = tree.open_file(path.as_bytes()).map_err(|error| error.to_string())?;
    let same = || -> io::Result<bool> {
        let other = File::open(to)?;
        if one.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        let (mut one, mut other) = (io::BufReader::new(&one), io::BufReader::new(other));
        let (mut here, mut there) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        loop {
            let read = one.read(&mut here)?;
            if read == 0 {
                return Ok(true);
            }
            other.read_exact(&mut there[..read])?;
            if here[..read] != there[..read] {
                return Ok(false);
            }
        }
    };
    same().map_err(|error| format!("{} cannot be compared: {error}", shown(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_how_much_room_is_missing() {
        let place = tempfile::tempdir().unwrap();
        room(place.path(), 0).unwrap();
        let message = room(place.path(), 1 << 60).unwrap_err();
        assert!(message.ends_with("MiB of room, and 1099511627780 are needed"), "{message}");
    }
}
