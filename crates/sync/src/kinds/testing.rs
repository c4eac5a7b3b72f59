//! Trees for the tests of kinds that judge them as they are.

use std::fs;
use std::path::Path;

use smart_sync_store::manifest::{Fidelity, FileTime};
use tempfile::TempDir;

use super::{AsItIs, Judged, KindError, SignaturePolicy, Whole};
use crate::exclude::Exclusions;
use crate::source::cache::ContentCache;
use crate::source::directory::{DirectoryOptions, DirectorySource};
use crate::source::listed::ListedSource;
use crate::time::UnixTime;

/// A directory with these files.
pub(super) fn directory(files: &[(&str, &str)]) -> TempDir {
    let tree = tempfile::tempdir().expect("a directory can be made");
    for (path, text) in files {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().expect("it lies in the tree")).expect("a directory can be made");
        fs::write(path, text).expect("a file can be written");
    }
    tree
}

/// How a tree of these files is judged.
pub(super) fn judged(kind: &dyn AsItIs, files: &[(&str, &str)]) -> Result<Judged, KindError> {
    judged_in(kind, directory(files).path(), Fidelity::Git)
}

/// How a directory is judged.
pub(super) fn judged_in(kind: &dyn AsItIs, tree: &Path, fidelity: Fidelity) -> Result<Judged, KindError> {
    let now = FileTime { seconds: 0, nanoseconds: 0 };
    let options = DirectoryOptions { fidelity, exclusions: Exclusions::none(), now };
    let mut source = DirectorySource::open(tree, options, ContentCache::default())?;
    let listed = ListedSource::read(&mut source)?;
    let signatures = SignaturePolicy::default();
    kind.judge(Whole { listing: listed.listing(), before: None, signatures, now: UnixTime::EPOCH })
}
