//! A directory of packages as a tree: the packages, and the index that is made of them.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};

use rayon::prelude::*;
use smart_sync_store::count::counted;
use smart_sync_store::manifest::TreePath;

use super::super::findings::Findings;
use super::super::follow::Following;
use super::super::published::tree_path;
use super::super::{Absent, ArtifactKind, Job, KindError, Prepared, Refusal, file_time};
use super::admit::{admit, said_of};
use super::codec::Codec;
use super::generation::{self, Build, Generation};
use super::index::{Block, INDEX_BYTES_MAX, Index};
use super::looked::Looked;
use super::made::make;
use super::package::Container;
use super::signature::Signature;
use super::stanza::{StanzaError, stanza};
use super::tree::{INDEX, Made, Published, build_of};
use super::upstream::FollowBinpkgs;
use super::{PackageError, gpkg, xpak};
use crate::source::assembled::AssembledSource;
use crate::source::{FileStat, SourceError};
use crate::time::UnixTime;

/// The number of bytes of a package that are read at once.
const READ_LEN: usize = 64 << 10;

/// The kind.
#[derive(Debug)]
pub struct Binpkgs;

impl ArtifactKind for Binpkgs {
    fn name(&self) -> &'static str {
        "binpkgs"
    }

    fn prepare(&self, job: Job<'_>) -> Result<Prepared, KindError> {
        let Job { directory, before, absent, findings, signatures, making, built_on, now, .. } = job;
        let mut found = look_at_all(directory, findings, now)?;
        let replaced = making
            .map(|making| make(directory, &mut found, findings, &making, now))
            .transpose()?
            .unwrap_or_default();
        let signers = admit(&found, &signatures, now)?;
        let published = Published::read(before, absent)?;
        let mut builds: BTreeMap<TreePath, Build> =
            found.iter().map(|(path, looked)| (path.clone(), build_of(&looked.block))).collect();
        let mut taken_out = published.taken_out.clone();
        let left_out = taken_out.leave_out(&mut builds, absent);
        let generation = generation::plan(&builds, &published.current(), absent, now);
        if !generation.nameless.is_empty() {
            let refusal = |path: &TreePath| {
                let reason =
                    "another build is published under this name, and one beside it would be too long";
                Refusal::new(path, reason)
            };
            return Err(KindError::Refused(generation.nameless.iter().map(refusal).collect()));
        }
        let new = generation.live.keys().filter(|path| !published.live.contains_key(*path)).count() as u64;
        // Settings differ between build hosts: they come with a package, not for themselves.
        let here = if new > 0 || absent == Absent::Goes { settings_of(directory)? } else { None };
        let settings = here.or_else(|| published.index.as_ref().map(Index::settings)).unwrap_or_default();
        let made =
            Made::new(&generation, (&found, &replaced), (built_on, &taken_out), &published, settings, now)?;
        let mut notes = notes(&generation, &found, new);
        if left_out > 0 {
            let count = counted(left_out, "package", "packages");
            notes
                .push(format!("{count} left out: taken out of the index before; what is built again is new"));
        }
        notes.extend(said_of(signers.values()));
        if !replaced.is_empty() {
            let count = counted(replaced.len() as u64, "package is", "packages are");
            notes.push(match making.and_then(|making| making.key) {
                Some(key) => format!("{count} signed here, by {}", key.primary()),
                None => format!("{count} converted here"),
            });
        }
        let signers = (generation.live.iter())
            .filter_map(|(path, source)| {
                Some((path.clone(), signers.get(source.as_ref()?)?.primary.to_string()))
            })
            .collect();
        Ok(Prepared { parts: made.parts, content_time: made.time, notes, signers })
    }

    fn judges_signatures(&self) -> bool {
        true
    }

    fn makes_files(&self) -> bool {
        true
    }

    fn following(&self) -> Following {
        Following::Known(&FollowBinpkgs)
    }

    fn says_built_on(&self) -> bool {
        true
    }
}

/// What the publisher should hear of.
fn notes(generation: &Generation, found: &BTreeMap<TreePath, Looked>, new: u64) -> Vec<String> {
    let mut notes = Vec::new();
    let plain = found.values().filter(|looked| looked.is_plain).count() as u64;
    if plain > 0 {
        let count = counted(plain, "package is", "packages are");
        notes.push(format!(
            "{count} not compressed: a client with a BINPKG_COMPRESS of its own cannot read that"
        ));
    }
    let passed_over = generation.passed_over.len() as u64;
    if passed_over > 0 {
        let count = counted(passed_over, "package is", "packages are");
        notes.push(format!("{count} left out: the index has a later build of the same name"));
    }
    let count = counted(generation.live.len() as u64, "package", "packages");
    notes.push(format!("the index has {count}, {new} of them new"));
    if !generation.retired.is_empty() {
        let count = counted(generation.retired.len() as u64, "file stays", "files stay");
        notes.push(format!("{count} for a week for clients that have an older index"));
    }
    notes
}

/// Looks into each package of the directory.
fn look_at_all(
    directory: &AssembledSource,
    findings: &mut Findings,
    now: UnixTime,
) -> Result<BTreeMap<TreePath, Looked>, KindError> {
    let packages: Vec<(&TreePath, &FileStat)> =
        directory.files().filter(|(path, _)| is_package(path)).collect();
    let known: Vec<Option<Looked>> =
        packages.iter().map(|(path, stat)| findings.get(path, stat).and_then(Looked::decode)).collect();
    let looked: Vec<Result<Looked, Unsound>> = (packages.par_iter().zip(known.into_par_iter()))
        .map(|((path, stat), known)| known.map_or_else(|| look(directory, path, stat), Ok))
        .collect();
    let (mut found, mut refused, mut failed) = (BTreeMap::new(), Vec::new(), None);
    for ((path, stat), looked) in packages.into_iter().zip(looked) {
        match looked {
            Ok(looked) => {
                findings.remember(path, stat, file_time(now), &looked.encode());
                found.insert(path.clone(), looked);
            }
            Err(Unsound::Unreadable(error)) => failed = failed.or(Some(error)),
            Err(Unsound::Package(error)) => {
                refused.push(Refusal { hint: Some(error.hint()), ..Refusal::of(path, &error) });
            }
            Err(Unsound::Stanza(error)) => {
                refused.push(Refusal { hint: Some(error.hint()), ..Refusal::of(path, &error) });
            }
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None if refused.is_empty() => Ok(found),
        None => Err(KindError::Refused(refused)),
    }
}

fn is_package(path: &TreePath) -> bool {
    str::from_utf8(path.file_name()).is_ok_and(|name| Container::of_name(name).is_some())
}

/// Why there is nothing to say of a package.
enum Unsound {
    /// The file cannot be read, which says nothing about the package.
    Unreadable(SourceError),
    /// It is no sound package.
    Package(PackageError),
    /// No index can say anything of it.
    Stanza(StanzaError),
}

/// Opens a package, and says what the index says of it.
fn look(directory: &AssembledSource, path: &TreePath, stat: &FileStat) -> Result<Looked, Unsound> {
    let file = directory.open(path).map_err(Unsound::Unreadable)?;
    let input = BufReader::with_capacity(READ_LEN, file);
    let name = str::from_utf8(path.file_name()).unwrap_or_default();
    let package = match Container::of_name(name) {
        Some(Container::Gpkg) => gpkg::read(input),
        _ => xpak::read(input),
    };
    let unsound = |error| match error {
        PackageError::Read(source) => {
            let path = path.as_bytes().to_vec();
            Unsound::Unreadable(SourceError::Io { operation: "reading", path, source })
        }
        error => Unsound::Package(error),
    };
    let package = package.map_err(unsound)?;
    let modified = u64::try_from(stat.modified.seconds).unwrap_or_default();
    let block = stanza(&package, path, modified).map_err(Unsound::Stanza)?;
    // The older form says by itself how it is compressed.
    let is_plain = package.container == Container::Gpkg && package.image.codec == Codec::Plain;
    let signatures = match &package.signature {
        Signature::Unsigned => None,
        Signature::Signed(parts) => {
            let image = || {
                let mut file = directory.open(path).map_err(io::Error::other)?;
                file.seek(SeekFrom::Start(package.image.range.start))?;
                Ok(file.take(package.image.range.end - package.image.range.start))
            };
            Some(parts.digest(image).map_err(unsound)?)
        }
    };
    Ok(Looked { block, is_plain, container: package.container, signatures })
}

/// The settings of the host that has built the packages, as far as Portage has written them there.
fn settings_of(directory: &AssembledSource) -> Result<Option<Block>, KindError> {
    let path = tree_path(INDEX)?;
    if !directory.files().any(|(known, stat)| *known == path && stat.size <= INDEX_BYTES_MAX as u64) {
        return Ok(None);
    }
    let mut text = String::new();
    let read = directory.open(&path)?.take(INDEX_BYTES_MAX as u64).read_to_string(&mut text);
    // An index that cannot be read is none: it is made anew of the packages.
    Ok(read.ok().and_then(|_| Index::parse(&text).ok()).map(|index| index.settings()))
}
