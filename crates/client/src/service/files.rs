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
pub(super) const PREFIX: &str = "smart-sync-";
/// A file of ours is shorter.
const BYTES_MAX: u64 = 1 << 20;

/// Where files of one sort are.
#[derive(Debug, Clone)]
pub(super) struct Home {
    /// The directory.
    pub(super) directory: PathBuf,
    /// Whether it may be a file of ours that has this name.
    pub(super) is_name: fn(&str) -> bool,
    /// The permission bits of a file.
    pub(super) mode: u32,
    /// Where the directories are whose links start it.
    pub(super) links: PathBuf,
    /// Whether it is one of these directories that has this name.
    pub(super) is_of_links: fn(&str) -> bool,
}

impl Home {
    /// The units of systemd in a directory.
    pub(super) fn of_units(directory: PathBuf) -> Self {
        Self {
            links: directory.clone(),
            directory,
            is_name: |name| {
                name.starts_with(PREFIX) && [".service", ".timer"].iter().any(|kind| name.ends_with(kind))
            },
            mode: 0o644,
            is_of_links: |name| Path::new(name).extension().is_some_and(|kind| kind == "wants"),
        }
    }

    /// The links by which a file starts programs, with the names of the directories that they are in.
    pub(super) fn links_to(&self, name: &str) -> Vec<(String, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.links) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let of_links = names.filter(|directory| (self.is_of_links)(directory));
        let links = of_links.map(|directory| (self.links.join(&directory).join(name), directory));
        let is_link = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_symlink());
        let mut links: Vec<_> =
            links.filter(|(path, _)| is_link(path)).map(|(path, directory)| (directory, path)).collect();
        links.sort_unstable();
        links
    }
}

/// The files of ours in a directory.
#[derive(Debug)]
pub(super) struct Installed {
    /// Where they are.
    pub(super) home: Home,
    /// Their texts, by their names.
    units: BTreeMap<String, String>,
}

/// What installing changes.
#[derive(Debug)]
pub(super) struct Plan {
    home: Home,
    /// Files that are not there yet, and their texts.
    made: Vec<(String, String)>,
    /// Files that say something else.
    changed: Vec<(String, String)>,
    /// Files of ours that are not needed any more.
    pub(super) removed: Vec<String>,
}

impl Installed {
    /// Finds them.
    pub(super) fn find(home: Home) -> Result<Self, Failure> {
        let directory = &home.directory;
        let failed = |error| Failure::from(error).context(format!("reading {}", directory.display()));
        let mut units = BTreeMap::new();
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(failed)?.file_name();
                    let Some(name) = name.to_str().filter(|name| (home.is_name)(name)) else { continue };
                    if let Ours::Yes(text) = Ours::look(&directory.join(name)).map_err(failed)? {
                        units.insert(name.to_owned(), text);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(Self { home, units })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.units.keys().map(String::as_str)
    }

    /// Their texts, by their names.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.units.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// What has to be changed for these files to be there, and no others of ours.
    pub(super) fn plan(&self, files: Vec<(String, String)>) -> Result<Plan, Failure> {
        let mut plan =
            Plan { home: self.home.clone(), made: Vec::new(), changed: Vec::new(), removed: Vec::new() };
        let is_wanted = |name: &str| files.iter().any(|(wanted, _)| wanted == name);
        plan.removed.extend(self.names().filter(|name| !is_wanted(name)).map(str::to_owned));
        for (name, text) in files {
            let path = self.home.directory.join(&name);
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
        remove(&self.home, &names, output)
    }
}

impl Plan {
    /// Says what would be done.
    pub(super) fn show(&self, output: &Output) {
        let path = |name: &str| self.home.directory.join(name).display().to_string();
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
        remove(&self.home, &removed, output)?;
        let directory = &self.home.directory;
        fs::create_dir_all(directory).map_err(|error| failed("making", directory, error))?;
        for (name, text) in self.made.iter().chain(&self.changed) {
            let path = directory.join(name);
            write(&path, text, self.home.mode).map_err(|error| failed("writing", &path, error))?;
            output.info(&format!("wrote {}", path.display()));
        }
        if self.made.is_empty() && self.changed.is_empty() {
            output.detail(&format!("the files in {} are as they should be", directory.display()));
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
        // What runs a script stands before it.
        let mut lines = text.lines().skip_while(|line| line.starts_with("#!"));
        Ok(if lines.next() == Some(MARK) { Self::Yes(text) } else { Self::No })
    }
}

/// Replaces a file as a whole: whoever reads it meanwhile reads the one before.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

fn remove(home: &Home, names: &[&str], output: &Output) -> Result<(), Failure> {
    let directory = &home.directory;
    for name in names {
        let path = directory.join(name);
        for (_, link) in home.links_to(name) {
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
            .map_err(|error| failed("removing files from", directory, error))?;
    }
    Ok(())
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Failure {
    let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
    let failure = Failure::from(error).context(format!("{doing} {}", path.display()));
    if is_denied { failure.hint("run it as root, or install it for yourself with --user") } else { failure }
}
