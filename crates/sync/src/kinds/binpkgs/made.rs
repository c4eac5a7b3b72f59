//! Packages that are made for an index: signed ones in the place of those that are not, and GPKG in the place of the
//! older form.
//!
//! What was made is kept beside what is remembered of the directory, under a name that says what it was made of and by
//! which key, so that a package that does not change is signed once: signing it again would make another file of it.
//! A name appears when the file is whole and on the disk. The directory itself is not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use smart_sync_store::manifest::{FileTime, TreePath};

use super::super::findings::Findings;
use super::super::{KindError, Making, Refusal, file_time};
use super::container::MakeError;
use super::convert::convert;
use super::index::Block;
use super::looked::Looked;
use super::package::{Container, Package};
use super::sign::sign;
use super::signature::Signature;
use super::stanza::stanza;
use super::{PackageError, gpkg, xpak};
use crate::source::assembled::AssembledSource;
use crate::source::{FileStat, SourceError};
use crate::time::UnixTime;

/// The number of bytes that are read and written at once.
const BUFFER_LEN: usize = 64 << 10;
/// Ends the name of a file that is not whole yet.
const UNFINISHED: &str = ".unfinished";

/// Which packages have others in their place: where those are published, and the names under which they are kept.
pub(super) type Replaced = BTreeMap<TreePath, TreePath>;

/// Makes what has to be made of the packages that were found, and says what was found in that instead.
pub(super) fn make(
    directory: &AssembledSource,
    found: &mut BTreeMap<TreePath, Looked>,
    findings: &mut Findings,
    making: &Making<'_>,
    now: UnixTime,
) -> Result<Replaced, KindError> {
    fs::create_dir_all(making.directory).map_err(|error| unwritten(making.directory, error))?;
    let is_made = |looked: &Looked| match looked.container {
        Container::Gpkg => making.key.is_some() && looked.signatures.is_none(),
        Container::Xpak => making.key.is_some() || making.converts,
    };
    let mut jobs = Vec::new();
    for (path, looked) in found.iter().filter(|(_, looked)| is_made(looked)) {
        let name = TreePath::new(name_of(&looked.block, making).into_bytes())
            .map_err(|error| KindError::Reference(format!("the name of what is made of {path}: {error}")))?;
        let place = making.directory.join(name.to_string());
        let stat = stat_of(&place).map_err(|error| unwritten(&place, error))?;
        let known = stat.and_then(|stat| findings.get(&name, &stat).and_then(Looked::decode));
        jobs.push(Wanted { path, looked, name, place, known });
    }
    let made: Vec<Result<(TreePath, TreePath, Looked), NotMade>> =
        jobs.into_par_iter().map(|wanted| wanted.make(directory, making, now)).collect();
    let (mut replaced, mut refused) = (Replaced::new(), Vec::new());
    for made in made {
        match made {
            Ok((path, name, looked)) => {
                let place = making.directory.join(name.to_string());
                if let Some(stat) = stat_of(&place).map_err(|error| unwritten(&place, error))? {
                    findings.remember(&name, &stat, file_time(now), &looked.encode());
                }
                let Some(published) = published_path(&path) else { continue };
                found.remove(&path);
                if found.insert(published.clone(), looked).is_some() {
                    let reason = "beside it lies one of the newer form of the same name";
                    refused.push(Refusal::new(&path, reason));
                }
                replaced.insert(published, name);
            }
            Err(NotMade::Failed(error)) => return Err(error),
            Err(NotMade::Refused(refusal)) => refused.push(refusal),
        }
    }
    if !refused.is_empty() {
        return Err(KindError::Refused(refused));
    }
    let kept: BTreeSet<String> = replaced.values().map(ToString::to_string).collect();
    tidy(making.directory, &kept).map_err(|error| unwritten(making.directory, error))?;
    Ok(replaced)
}

enum NotMade {
    /// Nothing can be made.
    Failed(KindError),
    /// This one cannot.
    Refused(Refusal),
}

/// A package that is to be there, signed.
struct Wanted<'a> {
    /// Where the package is that is not signed, and what was found in it.
    path: &'a TreePath,
    looked: &'a Looked,
    /// What the signed one is called, and where it is.
    name: TreePath,
    place: PathBuf,
    /// What was found in it, where it was made before and is remembered.
    known: Option<Looked>,
}

impl Wanted<'_> {
    fn make(
        self,
        directory: &AssembledSource,
        making: &Making<'_>,
        now: UnixTime,
    ) -> Result<(TreePath, TreePath, Looked), NotMade> {
        if let Some(known) = self.known {
            return Ok((self.path.clone(), self.name, known));
        }
        let failed = |error| NotMade::Failed(unwritten(&self.place, error));
        if !self.place.exists() {
            self.write(directory, making, now)?;
        }
        let package = File::open(&self.place).map_err(failed)?;
        let package = gpkg::read(BufReader::with_capacity(BUFFER_LEN, package))
            .map_err(|error| failed(io::Error::other(error)))?;
        let looked = looked_into(&package, self.path, self.looked, making)
            .ok_or_else(|| failed(io::Error::other("what was made is not what it was made of; delete it")))?;
        Ok((self.path.clone(), self.name, looked))
    }

    /// Signs the package into a file that gets its name when it is whole.
    fn write(&self, directory: &AssembledSource, making: &Making<'_>, now: UnixTime) -> Result<(), NotMade> {
        let refused = |error: &PackageError| NotMade::Refused(Refusal::of(self.path, error));
        let failed = |error| NotMade::Failed(unwritten(&self.place, error));
        let source = || directory.open(self.path).map_err(|error| NotMade::Failed(error.into()));
        let input = BufReader::with_capacity(BUFFER_LEN, source()?);
        let package = match self.looked.container {
            Container::Gpkg => gpkg::read(input),
            Container::Xpak => xpak::read(input),
        };
        let package = package.map_err(|error| refused(&error))?;
        let unfinished = making.directory.join(format!("{}{UNFINISHED}", self.name));
        let out = File::create(&unfinished).map_err(failed)?;
        let mut out = BufWriter::with_capacity(BUFFER_LEN, out);
        let source = BufReader::with_capacity(BUFFER_LEN, source()?);
        let made = match (self.looked.container, making.key) {
            (Container::Gpkg, Some(key)) => sign(source, &package, key, now, &mut out),
            (Container::Gpkg, None) => Err(MakeError::Changed),
            (Container::Xpak, key) => {
                let scratch = tempfile_in(making.directory, &self.name).map_err(failed)?;
                convert(source, &package, scratch, key, now, &mut out)
            }
        };
        made.map_err(|error| match error {
            MakeError::Write(error) => failed(error),
            MakeError::Key(error) => NotMade::Failed(KindError::Reference(error.to_string())),
            MakeError::Changed => NotMade::Failed(SourceError::Changed(self.path.clone()).into()),
            MakeError::Package(error) => refused(&error),
        })?;
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(failed)?;
        fs::rename(&unfinished, &self.place).map_err(failed)
    }
}

/// What tells a file from another one of its name; none where it is not there.
fn stat_of(path: &Path) -> io::Result<Option<FileStat>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let time = |seconds, nanoseconds: i64| FileTime {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
    };
    Ok(Some(FileStat {
        size: metadata.len(),
        modified: time(metadata.mtime(), metadata.mtime_nsec()),
        changed: time(metadata.ctime(), metadata.ctime_nsec()),
        inode: metadata.ino(),
        device: (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev())),
    }))
}

/// What is found in a package that was made of another one: its own digests and signatures, and else what that one says.
fn looked_into(package: &Package, path: &TreePath, source: &Looked, making: &Making<'_>) -> Option<Looked> {
    let signatures = match (&package.signature, making.key) {
        (Signature::Unsigned, None) => None,
        // The image was hashed with the function that we sign with.
        (Signature::Signed(parts), Some(_)) => {
            Some(parts.digest(|| -> io::Result<File> { Err(io::ErrorKind::Unsupported.into()) }).ok()?)
        }
        _ => return None,
    };
    let path = &published_path(path)?;
    let modified = source.block.get("MTIME").and_then(|text| text.parse().ok()).unwrap_or_default();
    let block = stanza(package, path, modified).ok()?;
    let is_same = ["CPV", "BUILD_ID", "BUILD_TIME"].iter().all(|key| block.get(key) == source.block.get(key));
    is_same.then(|| Looked { block, is_plain: source.is_plain, container: Container::Gpkg, signatures })
}

/// The path of what is made of the package at a path: the same, and for one of the older form with the end of the newer.
pub(super) fn published_path(path: &TreePath) -> Option<TreePath> {
    let text = str::from_utf8(path.as_bytes()).ok()?;
    let stem = Container::EXTENSIONS.iter().find_map(|(extension, _)| text.strip_suffix(extension))?;
    TreePath::new(format!("{stem}.gpkg.tar").into_bytes()).ok()
}

/// A file without a name of its own to stay: it goes when it is closed.
fn tempfile_in(directory: &Path, name: &TreePath) -> io::Result<File> {
    let path = directory.join(format!("{name}.image{UNFINISHED}"));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Says what a file was made of, and by which key.
fn name_of(block: &Block, making: &Making<'_>) -> String {
    let value = |key: &str| block.get(key).unwrap_or_default();
    let key = making.key.map_or_else(|| "unsigned".to_owned(), |key| key.fingerprint().to_string());
    format!("{}-{}-{}-{key}.gpkg.tar", value("SHA1"), value("MD5"), value("SIZE"))
}

/// Removes what was made of packages that are not there any more, and what a run has not finished.
fn tidy(directory: &Path, kept: &BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_kept = entry.file_name().to_str().is_some_and(|name| kept.contains(name));
        if !is_kept {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn unwritten(path: &Path, error: io::Error) -> KindError {
    KindError::Unwritten { path: PathBuf::from(path), error }
}
