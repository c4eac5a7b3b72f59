//! Looking into the files of a directory of distfiles.

use blake2::{Blake2b512, Digest as _};
use rayon::prelude::*;
use sha2::Sha512;
use smart_sync_store::manifest::TreePath;

use super::MANIFEST;
use super::layout;
use super::manifest::{Dist, is_name};
use crate::kinds::findings::Findings;
use crate::kinds::{KindError, file_time};
use crate::source::assembled::AssembledSource;
use crate::source::{FileStat, SourceError};
use crate::time::UnixTime;

/// A distfile in the directory.
pub(super) struct Found {
    pub(super) path: TreePath,
    pub(super) name: String,
    pub(super) dist: Dist,
}

/// Says what each distfile is that is taken. Those that did not change are not read again.
pub(super) fn look(
    directory: &AssembledSource,
    findings: &mut Findings,
    now: UnixTime,
    takes: impl Fn(&str) -> bool,
) -> Result<Vec<Found>, KindError> {
    let mut files: Vec<(&TreePath, &FileStat, &str, Option<Dist>)> = Vec::new();
    for (path, stat) in directory.files() {
        let Some(name) = name_of(path) else { continue };
        // What is known of a file that is left out this time stays known.
        let known = findings.get(path, stat).and_then(decode);
        if takes(name) {
            files.push((path, stat, name, known));
        }
    }
    let dists: Vec<Result<Dist, SourceError>> = files
        .par_iter()
        .map(|(path, stat, _, known)| known.map_or_else(|| digest(directory, path, stat), Ok))
        .collect();
    let (mut found, mut failed) = (Vec::with_capacity(files.len()), None);
    for ((path, stat, name, _), dist) in files.into_iter().zip(dists) {
        match dist {
            Ok(dist) => {
                findings.remember(path, stat, file_time(now), &encode(&dist));
                found.push(Found { path: path.clone(), name: name.to_owned(), dist });
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(found), |error| Err(error.into()))
}

/// The name of the distfile at a path: in the directory itself, or where a mirror keeps it. None for what mirrors and
/// clients keep beside distfiles.
pub(super) fn name_of(path: &TreePath) -> Option<&str> {
    let path = str::from_utf8(path.as_bytes()).ok()?;
    let name = match path.split_once('/') {
        None => path,
        Some((directory, name)) if layout::directory_of(name.as_bytes()) == directory => name,
        Some(_) => return None,
    };
    let is_beside = name == MANIFEST
        || name == layout::FILE
        || name.starts_with('.')
        || name.ends_with(".__download__")
        || name.contains("._checksum_failure_.");
    (!is_beside && is_name(name)).then_some(name)
}

fn digest(directory: &AssembledSource, path: &TreePath, stat: &FileStat) -> Result<Dist, SourceError> {
    let (mut blake2b, mut sha512) = (Blake2b512::new(), Sha512::new());
    directory.read_through(path, &mut |bytes| {
        blake2b.update(bytes);
        sha512.update(bytes);
    })?;
    let size = stat.size;
    Ok(Dist { size, blake2b: blake2b.finalize().into(), sha512: sha512.finalize().into() })
}

fn encode(dist: &Dist) -> Vec<u8> {
    [&dist.size.to_be_bytes()[..], &dist.blake2b, &dist.sha512].concat()
}

fn decode(bytes: &[u8]) -> Option<Dist> {
    let (size, rest) = bytes.split_first_chunk::<8>()?;
    let (blake2b, sha512) = rest.split_first_chunk::<64>()?;
    Some(Dist { size: u64::from_be_bytes(*size), blake2b: *blake2b, sha512: sha512.try_into().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_and_mirrors_keep_beside_distfiles_is_none() {
        let name = |path: &str| name_of(&TreePath::new(path.as_bytes()).unwrap()).map(str::to_owned);
        assert_eq!(name("foo-1.tar.gz").as_deref(), Some("foo-1.tar.gz"));
        assert_eq!(name("1b/foo-1.tar.gz").as_deref(), Some("foo-1.tar.gz"));
        for beside in [
            "Manifest",
            "layout.conf",
            ".layout.conf.cache",
            "foo-1.tar.gz.__download__",
            "foo-1.tar.gz._checksum_failure_.abc",
            "1c/foo-1.tar.gz",
            "git3-src/foo.git/HEAD",
            "a name",
        ] {
            assert_eq!(name(beside), None, "{beside}");
        }
    }
}
