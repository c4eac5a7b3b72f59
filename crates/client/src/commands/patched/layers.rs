//! Directories of patch files, laid over each other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use smart_sync_store::manifest::TreePath;

use crate::args::patched::Mapping;
use crate::failure::{Exit, Failure};

/// The most files of all directories together.
const FILES_MAX: usize = 1_000_000;
/// How deep a directory may be.
const DEPTH_MAX: usize = 128;

/// A file or a symbolic link that belongs somewhere in the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PatchFile {
    /// Where it is.
    pub(super) path: PathBuf,
    pub(super) is_symlink: bool,
}

/// The files of all directories, by where they belong.
#[derive(Debug, Default)]
pub(super) struct Layers {
    files: BTreeMap<TreePath, PatchFile>,
    left_out: Vec<String>,
}

impl Layers {
    pub(super) fn read(directories: &[PathBuf], mappings: &[Mapping]) -> Result<Self, Failure> {
        let mut layers = Self::default();
        for directory in directories {
            layers.add(directory, &mut Vec::new(), mappings)?;
        }
        if layers.files.is_empty() {
            return Err(Failure::message(Exit::Arguments, "there is no file in what was named")
                .hint("name a directory that lies over the system: etc/hosts in it stands for /etc/hosts"));
        }
        Ok(layers)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&TreePath, &PatchFile)> {
        self.files.iter()
    }

    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    fn add(&mut self, directory: &Path, at: &mut Vec<Vec<u8>>, mappings: &[Mapping]) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::from(error).context(format!("reading the directory {}", directory.display()))
        };
        if at.len() > DEPTH_MAX {
            let text = format!("{} is deeper than {DEPTH_MAX} directories", directory.display());
            return Err(Failure::message(Exit::Arguments, text));
        }
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
            let name = entry.file_name().as_bytes().to_vec();
            // What a version control system keeps there belongs nowhere.
            if name == b".git" {
                continue;
            }
            at.push(name);
            if kind.is_dir() {
                self.add(&path, at, mappings)?;
            } else if kind.is_file() || kind.is_symlink() {
                let belongs = belongs(&at.join(&b'/'), mappings);
                let belongs = TreePath::new(belongs).map_err(|error| {
                    Failure::new(Exit::Arguments, error).context(format!("taking {}", path.display()))
                })?;
                self.files.insert(belongs, PatchFile { path, is_symlink: kind.is_symlink() });
            } else {
                self.left_out.push(path.display().to_string());
            }
            at.pop();
            if self.files.len() > FILES_MAX {
                let text = format!("there are more than {FILES_MAX} files in what was named");
                return Err(Failure::message(Exit::Arguments, text));
            }
        }
        Ok(())
    }
}

/// Where a path of a directory belongs: the longest mapping counts.
fn belongs(path: &[u8], mappings: &[Mapping]) -> Vec<u8> {
    let rest = |mapping: &Mapping| {
        let rest = path.strip_prefix(mapping.from.as_bytes())?;
        (rest.is_empty() || rest.starts_with(b"/")).then(|| rest.to_vec())
    };
    let found = mappings.iter().filter_map(|mapping| Some((mapping, rest(mapping)?)));
    match found.max_by_key(|(mapping, _)| mapping.from.as_bytes().len()) {
        Some((mapping, rest)) => [mapping.to.as_bytes(), &rest].concat(),
        None => path.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mapping_counts_and_ends_at_a_name() {
        let mappings: Vec<Mapping> =
            ["portage=etc/portage", "portage/x=srv", "a=b"].map(|text| text.parse().unwrap()).to_vec();
        for (path, expected) in [
            ("portage/make.conf", "etc/portage/make.conf"),
            ("portage/x/y", "srv/y"),
            ("portages/x", "portages/x"),
            ("etc/hosts", "etc/hosts"),
            ("a", "b"),
        ] {
            assert_eq!(belongs(path.as_bytes(), &mappings), expected.as_bytes(), "{path}");
        }
        for wrong in ["a", "=b", "a=", "..=b", "a=../b", "a=.git"] {
            assert!(wrong.parse::<Mapping>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_one_path_the_last_directory_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, text) in [("one/etc/a", "1"), ("one/etc/b", "1"), ("two/etc/b", "2"), ("one/.git/c", "3")]
        {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        }
        std::os::unix::fs::symlink("a", path("two/etc/l")).unwrap();
        let layers = Layers::read(&[path("one"), path("two")], &[]).unwrap();
        let found: Vec<_> =
            layers.files().map(|(at, file)| (at.to_string(), file.path.clone(), file.is_symlink)).collect();
        let expected = [
            ("etc/a".to_owned(), path("one/etc/a"), false),
            ("etc/b".to_owned(), path("two/etc/b"), false),
            ("etc/l".to_owned(), path("two/etc/l"), true),
        ];
        assert_eq!(found, expected);
        fs::create_dir(path("none")).unwrap();
        assert!(Layers::read(&[path("none")], &[]).is_err());
    }
}
