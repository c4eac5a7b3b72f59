//! The files of our units: which there are, which have to be written, which go.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::units::MARK;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// What the name of each begins with.
const PREFIX: &str = "smart-sync-";
/// A unit of ours is shorter.
const BYTES_MAX: u64 = 1 << 20;

/// The units of ours in a directory.
#[derive(Debug)]
pub(super) struct Installed {
    /// Where they are.
    pub(super) directory: PathBuf,
    /// Their texts, by their names.
    units: BTreeMap<String, String>,
}

/// What installing changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    directory: PathBuf,
    /// Files that are not there yet, and their texts.
    made: Vec<(String, String)>,
    /// Files that say something else.
    changed: Vec<(String, String)>,
    /// Files of ours that are not needed any more.
    pub(super) removed: Vec<String>,
}

impl Installed {
    /// Finds them.
    pub(super) fn find(directory: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::from(error).context(format!("reading {}", directory.display()));
        let mut units = BTreeMap::new();
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(failed)?.file_name();
                    let Some(name) = name.to_str().filter(|name| is_name(name)) else { continue };
                    if let Ours::Yes(text) = Ours::look(&directory.join(name)).map_err(failed)? {
                        units.insert(name.to_owned(), text);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(Self { directory: directory.to_owned(), units })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.units.keys().map(String::as_str)
    }

    /// What has to be changed for these files to be there, and no others of ours.
    pub(super) fn plan(&self, files: Vec<(String, String)>) -> Result<Plan, Failure> {
        let mut plan = Plan {
            directory: self.directory.clone(),
            made: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
        };
        let is_wanted = |name: &str| files.iter().any(|(wanted, _)| wanted == name);
        plan.removed.extend(self.names().filter(|name| !is_wanted(name)).map(str::to_owned));
        for (name, text) in files {
            let path = self.directory.join(&name);
            match self.units.get(&name) {
                Some(found) if *found == text => {}
                Some(_) => plan.changed.push((name, text)),
                None if path.symlink_metadata().is_ok() => {
                    return Err(Failure::message(
                        Exit::General,
                        format!("{} is there already, and smart-sync has not written it", path.display()),
                    )
                    .hint("remove it, or keep it and start smart-sync from it"));
                }
                None => plan.made.push((name, text)),
            }
        }
        Ok(plan)
    }

    /// Removes all of them, and the links by which they start.
    pub(super) fn remove(&self, output: &Output) -> Result<(), Failure> {
        let names: Vec<&str> = self.names().collect();
        remove(&self.directory, &names, output)
    }
}

impl Plan {
    /// Says what would be done.
    pub(super) fn show(&self, output: &Output) {
        let path = |name: &str| self.directory.join(name).display().to_string();
        self.removed.iter().for_each(|name| output.info(&format!("would remove {}", path(name))));
        self.made.iter().for_each(|(name, _)| output.info(&format!("would write {}", path(name))));
        self.changed.iter().for_each(|(name, _)| output.info(&format!("would replace {}", path(name))));
    }

    /// Services that run from a file that has changed.
    pub(super) fn restarted(&self) -> Vec<&str> {
        self.changed.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Does it.
    pub(super) fn act(&self, output: &Output) -> Result<(), Failure> {
        let removed: Vec<&str> = self.removed.iter().map(String::as_str).collect();
        remove(&self.directory, &removed, output)?;
        fs::create_dir_all(&self.directory).map_err(|error| failed("making", &self.directory, error))?;
        for (name, text) in self.made.iter().chain(&self.changed) {
            let path = self.directory.join(name);
            write(&path, text).map_err(|error| failed("writing", &path, error))?;
            output.info(&format!("wrote {}", path.display()));
        }
        if self.made.is_empty() && self.changed.is_empty() {
            output.detail(&format!("the files in {} are as they should be", self.directory.display()));
        }
        Ok(())
    }
}

/// Whether a file is one of ours.
enum Ours {
    Yes(String),
    No,
}

impl Ours {
    /// Looks at a file. What is not a regular one is none, and never waited for.
    fn look(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();
        let file = match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
            // A link, such as that of a unit that is masked; or it went just now.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::LOOP | Errno::NXIO)) => {
                return Ok(Self::No);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::No),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Ok(Self::No);
        }
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(if text.lines().next() == Some(MARK) { Self::Yes(text) } else { Self::No })
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(PREFIX) && [".service", ".timer"].iter().any(|kind| name.ends_with(kind))
}

/// Replaces a file as a whole: whoever reads it meanwhile reads the one before.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

fn remove(directory: &Path, names: &[&str], output: &Output) -> Result<(), Failure> {
    for name in names {
        let path = directory.join(name);
        for link in links_to(directory, name) {
            fs::remove_file(&link).map_err(|error| failed("removing", &link, error))?;
        }
        // It is looked at again: another file may have taken its place while units were stopped.
        if let Ours::Yes(_) = Ours::look(&path).map_err(|error| failed("reading", &path, error))? {
            fs::remove_file(&path).map_err(|error| failed("removing", &path, error))?;
            output.info(&format!("removed {}", path.display()));
        }
    }
    if !names.is_empty() {
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| failed("removing units from", directory, error))?;
    }
    Ok(())
}

/// The links by which a unit starts with others. Disabling a unit removes them, where the service manager runs.
fn links_to(directory: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let of_wants = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let of_wants = of_wants.filter(|path| path.extension().is_some_and(|kind| kind == "wants"));
    let links = of_wants.map(|wants| wants.join(name));
    links.filter(|link| link.symlink_metadata().is_ok_and(|found| found.is_symlink())).collect()
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Failure {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    let failure = Failure::from(error).context(format!("{doing} {}", path.display()));
    if is_denied { failure.hint("run it as root, or install it for yourself with --user") } else { failure }
}
