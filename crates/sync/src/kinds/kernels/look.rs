//! Looking at the kernels of a directory: which there are, and whether each is whole and what it should be.
//!
//! Everything that is wrong is said at once, so that a build host is repaired once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};

use rayon::prelude::*;
use smart_sync_store::manifest::{PathError, TreePath};

use super::archive::{self, ArchiveError, MODULES_BYTES_MAX, MODULES_MAX};
use super::inspect::{self, CONFIG_BYTES_MAX, Image};
use super::members::{MODULES, Members, Modules, Role, below_modules};
use super::shelf::State;
use super::version::Version;
use crate::kinds::{KindError, Refusal};
use crate::source::SourceError;
use crate::source::assembled::{AssembledSource, Part};
use crate::time::UnixTime;

/// A kernel of the directory.
#[derive(Debug)]
pub(super) struct Build {
    pub(super) version: Version,
    /// What it calls itself when it runs.
    pub(super) release: Version,
    /// The state that the directory says, where it is one of states.
    pub(super) state: Option<State>,
    /// When its image was written, in seconds.
    pub(super) built: u64,
    /// Its files, by their paths in the tree of this version alone.
    pub(super) parts: BTreeMap<TreePath, Part>,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) builds: Vec<Build>,
    pub(super) notes: Vec<String>,
}

/// Looks at all kernels of a directory: one, or those in directories of versions.
pub(super) fn look(directory: &AssembledSource, now: UnixTime) -> Result<Found, KindError> {
    let groups = group(directory.files().map(|(path, _)| path)).map_err(KindError::Refused)?;
    let mut looking = Looking { directory, now, refused: Vec::new(), notes: Vec::new() };
    let mut builds = Vec::new();
    for group in &groups {
        builds.extend(looking.build(group)?);
    }
    let mut places: BTreeMap<&Version, Option<State>> = BTreeMap::new();
    for build in &builds {
        if let Some(other) = places.insert(&build.version, build.state) {
            let other = directory_of(other, &build.version);
            let reason = format!("{} lies in {other} as well, and a version has one state", build.version);
            looking.refused.push(Refusal::new(&directory_of(build.state, &build.version), &reason));
        }
    }
    match looking.refused {
        refused if refused.is_empty() => Ok(Found { builds, notes: looking.notes }),
        refused => Err(KindError::Refused(refused)),
    }
}

/// The directory of a version, in that of its state where there is one.
fn directory_of(state: Option<State>, version: &Version) -> TreePath {
    let path = state.map_or_else(|| version.to_string(), |state| format!("{state}/{version}"));
    TreePath::new(path.as_bytes()).unwrap_or_else(|_| TreePath::root())
}

/// The files of one kernel.
#[derive(Debug, PartialEq, Eq)]
struct Group<'a> {
    /// The directory that they are in, where it is that of a version.
    place: Option<(Option<State>, Version)>,
    files: Vec<&'a TreePath>,
}

/// Which files are one kernel: all of them, or those in each directory `STATE/VERSION` or `VERSION`.
fn group<'a>(files: impl Iterator<Item = &'a TreePath>) -> Result<Vec<Group<'a>>, Vec<Refusal>> {
    let mut placed: BTreeMap<(Option<State>, Version), Vec<&TreePath>> = BTreeMap::new();
    let (mut alone, mut images, mut refused) = (Vec::new(), 0, Vec::new());
    for path in files {
        match place(path) {
            Place::Of(state, version) => placed.entry((state, version)).or_default().push(path),
            Place::Alone { is_image } => {
                images += usize::from(is_image);
                alone.push(path);
            }
            Place::Nowhere(reason) => refused.push(Refusal::new(path, &reason)),
        }
    }
    if images > 0 {
        // In one kernel, a directory that is called by a version is none of its own.
        let (deeper, of_states): (BTreeMap<_, Vec<_>>, _) =
            placed.into_iter().partition(|((state, _), _)| state.is_none());
        alone.extend(deeper.into_values().flatten());
        placed = of_states;
    }
    let is_layout = !placed.is_empty();
    if is_layout && images > 0 {
        let reason = "a kernel lies here, and others in directories of states: publish one or the other";
        refused.push(Refusal::new(&TreePath::root(), reason));
    }
    // In one kernel, what lies deeper is none of its own.
    if images > 0 && !is_layout {
        refused.clear();
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    if !is_layout {
        return Ok(vec![Group { place: None, files: alone }]);
    }
    Ok(placed.into_iter().map(|(place, files)| Group { place: Some(place), files }).collect())
}

enum Place {
    /// In the directory of a version.
    Of(Option<State>, Version),
    /// In none.
    Alone { is_image: bool },
    /// An image where there should be none.
    Nowhere(String),
}

fn place(path: &TreePath) -> Place {
    let Ok(text) = str::from_utf8(path.as_bytes()) else { return Place::Alone { is_image: false } };
    let names: Vec<&str> = text.split('/').collect();
    if let [state, version, _, ..] = names[..]
        && let (Ok(state), Ok(version)) = (state.parse(), version.parse())
    {
        return Place::Of(Some(state), version);
    }
    if let [version, _, ..] = names[..]
        && let Ok(version) = version.parse()
    {
        return Place::Of(None, version);
    }
    let name = names.last().copied().unwrap_or_default();
    let is_image = matches!(Role::of_name(name), Some((Role::Image, _))) && below_modules(text).is_none();
    match names[..] {
        _ if !is_image => Place::Alone { is_image: false },
        [_] | ["boot", _] => Place::Alone { is_image: true },
        [state, ..] if state.parse::<State>().is_ok() => {
            Place::Nowhere("its directory is not called by a version, such as 6.9.1-gentoo".to_owned())
        }
        [other, ..] => Place::Nowhere(format!(
            "{other} is no state of kernels: they lie in VERSION, current/VERSION, deprecated/VERSION or compat/VERSION"
        )),
        [] => Place::Alone { is_image: false },
    }
}

struct Looking<'a> {
    directory: &'a AssembledSource,
    now: UnixTime,
    refused: Vec<Refusal>,
    notes: Vec<String>,
}

impl Looking<'_> {
    fn refuse(&mut self, path: &TreePath, reason: &str) {
        self.refused.push(Refusal::new(path, reason));
    }

    /// Looks at one kernel; nothing if something is wrong with it.
    fn build(&mut self, group: &Group<'_>) -> Result<Option<Build>, KindError> {
        let home = group.place.as_ref().map(|(state, version)| directory_of(*state, version));
        let home = home.unwrap_or_else(TreePath::root);
        let below = |path: &TreePath| {
            if home.is_root() { 0 } else { home.as_bytes().len() + 1 }.min(path.as_bytes().len())
        };
        let files = group.files.iter().map(|path| (&path.as_bytes()[below(path)..], *path));
        let members = match Members::find(files) {
            Ok(members) => members,
            Err(twice) => {
                let reason = format!(
                    "{} is there already, by the name {}; a directory holds one version",
                    twice.what, twice.other
                );
                self.refuse(&twice.path, &reason);
                return Ok(None);
            }
        };
        let before = self.refused.len();
        let mut said: BTreeMap<String, String> =
            members.said.iter().map(|(release, path)| (release.clone(), path.to_string())).collect();
        let mut parts = BTreeMap::new();
        let config = self.files_of(&home, &members, &mut said)?;
        match &members.modules {
            Some(Modules::Files(files)) => {
                self.check_modules(files)?;
                parts.extend(files.iter().map(|(to, from)| (to.clone(), Part::File(from.clone()))));
            }
            Some(Modules::Archive(path, codec)) => {
                match archive::unpack(self.directory.open(path)?, *codec, self.directory) {
                    Ok(unpacked) => {
                        for release in unpacked.releases {
                            said.entry(release).or_insert_with(|| path.to_string());
                        }
                        parts.extend(unpacked.files);
                    }
                    Err(ArchiveError::Refused(reason)) => self.refuse(path, &reason),
                    Err(ArchiveError::Aside(error)) => return Err(SourceError::Tar(error).into()),
                }
            }
            None if config.as_ref().is_none_or(|config| config.has_modules) => {
                self.refuse(&home, "it has no modules: modules.tar.gz, or a directory lib/modules/RELEASE");
            }
            None => {}
        }
        let release = self.release(&home, &said);
        let (Some(release), Some(config)) = (release, config) else { return Ok(None) };
        if config.version.series() != release.series() {
            let path = &members.files[&Role::Config];
            let reason =
                format!("it is the configuration of {}, and the kernel is {release}", config.version);
            self.refuse(path, &reason);
        }
        let version = group.place.as_ref().map_or_else(|| release.clone(), |(_, version)| version.clone());
        if !version.may_be_called(&release) {
            self.refuse(&home, &format!("the kernel in it is {release}"));
        }
        if self.refused.len() > before {
            return Ok(None);
        }
        self.note_others(&members, &version);
        let built = self.built(&members.files[&Role::Image]);
        let parts = tree(&members, parts, &release).map_err(|error| KindError::Before(error.to_string()))?;
        Ok(Some(Build {
            version,
            release,
            state: group.place.as_ref().and_then(|(state, _)| *state),
            built,
            parts,
        }))
    }

    /// Looks at the parts that are one file each.
    fn files_of(
        &mut self,
        home: &TreePath,
        members: &Members,
        said: &mut BTreeMap<String, String>,
    ) -> Result<Option<inspect::Config>, KindError> {
        let mut config = None;
        for role in [Role::Image, Role::Config, Role::Map] {
            let Some(path) = members.files.get(&role) else {
                self.refuse(home, &format!("it has no {role}"));
                continue;
            };
            let checked = match role {
                Role::Image => {
                    inspect::image(&self.head(path, inspect::IMAGE_BYTES)?).map(|image| match image {
                        Image::Release(release) => {
                            said.entry(release.to_string()).or_insert_with(|| path.to_string());
                        }
                        Image::Silent(what) => self.notes.push(format!(
                            "{path} is {what}: which version it is was taken from the names beside it"
                        )),
                    })
                }
                Role::Config => {
                    let bytes = self.head(path, CONFIG_BYTES_MAX + 1)?;
                    if bytes.len() as u64 > CONFIG_BYTES_MAX {
                        Err(format!("it is larger than {CONFIG_BYTES_MAX} bytes"))
                    } else {
                        inspect::config(&bytes).map(|found| config = Some(found))
                    }
                }
                Role::Map | Role::Initramfs => inspect::map(&self.head(path, inspect::MAP_BYTES)?),
            };
            if let Err(reason) = checked {
                self.refuse(path, &reason);
            }
        }
        Ok(config)
    }

    /// What the kernel is, where everything says the same.
    fn release(&mut self, home: &TreePath, said: &BTreeMap<String, String>) -> Option<Version> {
        let mut all = said.iter();
        let Some((release, path)) = all.next() else {
            self.refuse(
                home,
                "nothing in it says which version it is: name its configuration config-RELEASE",
            );
            return None;
        };
        if let Some((other, other_path)) = all.next() {
            let reason = format!("{path} says that it is {release}, and {other_path} that it is {other}");
            self.refuse(home, &reason);
            return None;
        }
        let parsed = release.parse();
        if parsed.is_err() {
            self.refuse(home, &format!("{release:?}, as {path} says, is no version of a kernel"));
        }
        parsed.ok()
    }

    fn check_modules(&mut self, files: &BTreeMap<TreePath, TreePath>) -> Result<(), KindError> {
        let wanted: BTreeSet<&TreePath> = files.values().collect();
        let sizes =
            self.directory.files().filter(|(path, _)| wanted.contains(path)).map(|(_, stat)| stat.size);
        let bytes = sizes.fold(0, u64::saturating_add);
        if bytes > MODULES_BYTES_MAX || files.len() > MODULES_MAX {
            let path = files.values().next().cloned().unwrap_or_else(TreePath::root);
            let reason = format!(
                "with it lie more than {} GiB or {MODULES_MAX} files of modules",
                MODULES_BYTES_MAX >> 30
            );
            self.refuse(&path, &reason);
            return Ok(());
        }
        let modules: Vec<&TreePath> =
            files.values().filter(|path| inspect::is_module(path.file_name())).collect();
        let checked: Vec<Result<Option<Refusal>, KindError>> = modules
            .into_par_iter()
            .map(|path| {
                let head = self.head(path, inspect::MODULE_BYTES)?;
                let refused = inspect::module(path.file_name(), &head).err();
                Ok(refused.map(|reason| Refusal::new(path, reason)))
            })
            .collect();
        for refused in checked {
            self.refused.extend(refused?);
        }
        Ok(())
    }

    fn head(&self, path: &TreePath, bytes_max: u64) -> Result<Vec<u8>, KindError> {
        let mut bytes = Vec::new();
        let read = self.directory.open(path)?.take(bytes_max).read_to_end(&mut bytes);
        read.map_err(|source: io::Error| {
            KindError::Source(SourceError::Io {
                operation: "reading",
                path: path.as_bytes().to_vec(),
                source,
            })
        })?;
        Ok(bytes)
    }

    fn built(&self, image: &TreePath) -> u64 {
        let stat = self.directory.files().find(|(path, _)| *path == image).map(|(_, stat)| stat);
        let seconds = stat.and_then(|stat| u64::try_from(stat.modified.seconds).ok()).unwrap_or_default();
        seconds.min(self.now.seconds())
    }

    fn note_others(&mut self, members: &Members, version: &Version) {
        let Some(first) = members.others.first() else { return };
        let note = match members.others.len() - 1 {
            0 => format!("{first} is no part of the kernel {version}, and is left out"),
            more => format!(
                "{first} and {more} more files are no parts of the kernel {version}, and are left out"
            ),
        };
        self.notes.push(note);
    }
}

/// The tree of one kernel, under the names that its files have there.
fn tree(
    members: &Members,
    modules: BTreeMap<TreePath, Part>,
    release: &Version,
) -> Result<BTreeMap<TreePath, Part>, PathError> {
    let mut parts = BTreeMap::new();
    for (role, path) in &members.files {
        let stored = role.stored();
        let name = if stored.ends_with('-') { format!("{stored}{release}") } else { stored.to_owned() };
        parts.insert(TreePath::new(name.as_bytes())?, Part::File(path.clone()));
    }
    for (inside, part) in modules {
        let mut path = format!("{MODULES}{release}/").into_bytes();
        path.extend_from_slice(inside.as_bytes());
        parts.insert(TreePath::new(path)?, part);
    }
    Ok(parts)
}
