//! The distfiles that an ebuild tree names, by the Manifests of its packages: `CATEGORY/PACKAGE/Manifest`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::manifest::{self, Dist};
use crate::kinds::KindError;

/// The largest Manifest of one package.
const BYTES_MAX: u64 = 16 << 20;

/// Distfiles by their names, of one Manifest after the other.
#[derive(Default)]
pub(super) struct Named(BTreeMap<String, Dist>);

impl Named {
    /// Adds what another Manifest names.
    pub(super) fn add(&mut self, text: &[u8]) -> Result<(), String> {
        for (name, dist) in manifest::parse(text).map_err(|error| error.to_string())? {
            if self.0.get(&name).is_some_and(|other| *other != dist) {
                return Err(format!("another package names {name} with other digests"));
            }
            self.0.insert(name, dist);
        }
        Ok(())
    }

    /// All of them, of which there have to be some.
    pub(super) fn finish(self, tree: &Path) -> Result<BTreeMap<String, Dist>, KindError> {
        if self.0.is_empty() {
            let text = format!("{} has no CATEGORY/PACKAGE/Manifest that names a distfile", tree.display());
            return Err(KindError::Reference(text));
        }
        Ok(self.0)
    }
}

/// Reads the Manifests of an ebuild tree.
pub(super) fn of_ebuild_tree(tree: &Path) -> Result<BTreeMap<String, Dist>, KindError> {
    let mut named = Named::default();
    for package in package_directories(tree)? {
        let path = tree.join(package).join("Manifest");
        let wrong = |reason: String| KindError::Reference(format!("{}: {reason}", path.display()));
        // A pipe of that name would be waited for.
        if !fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let file = File::open(&path).map_err(|error| wrong(error.to_string()))?;
        let mut text = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
        if text.len() as u64 > BYTES_MAX {
            return Err(wrong(format!("it is larger than {BYTES_MAX} bytes")));
        }
        named.add(&text).map_err(wrong)?;
    }
    named.finish(tree)
}

/// Where packages may be in an ebuild tree, `CATEGORY/PACKAGE`. A name that is no text is one of no package.
pub(super) fn package_directories(tree: &Path) -> Result<Vec<String>, KindError> {
    let mut found = Vec::new();
    for category in directories(tree)? {
        for package in directories(&category)? {
            found.extend(package.strip_prefix(tree).ok().and_then(Path::to_str).map(str::to_owned));
        }
    }
    Ok(found)
}

/// The directories in a directory, but for those of version control and metadata.
fn directories(path: &Path) -> Result<Vec<std::path::PathBuf>, KindError> {
    let wrong = |error: std::io::Error| KindError::Reference(format!("{}: {error}", path.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && entry.file_type().map_err(wrong)?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}
