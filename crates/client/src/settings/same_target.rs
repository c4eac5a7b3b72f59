//! Whether two paths are one target, however they are written: from somewhere else, through a link, with a slash behind.
//!
//! The only thing that settings look at a file system for. What has no `..` in it is compared as it is written, so that a
//! target which is not there yet is known as well; what goes up has to be followed, because a link may lead elsewhere.

use std::path::{Component, Path, PathBuf};

/// Whether two paths are one target.
pub fn is_same_target(one: &Path, other: &Path) -> bool {
    let is_one =
        |paths: (Option<PathBuf>, Option<PathBuf>)| matches!(paths, (Some(one), Some(other)) if one == other);
    is_one((written(one), written(other))) || is_one((resolved(one), resolved(other)))
}

/// Whether two paths are written alike, but for where they begin and for slashes.
pub(super) fn is_written_alike(one: &Path, other: &Path) -> bool {
    matches!((written(one), written(other)), (Some(one), Some(other)) if one == other)
}

fn written(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let goes_up = path.components().any(|part| part == Component::ParentDir);
    (!goes_up).then(|| path.components().collect())
}

/// Where it leads. What is not there yet will be in a directory that is.
fn resolved(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.canonicalize().ok().or_else(|| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_target_is_known_by_every_path_that_leads_to_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("srv/site")).unwrap();
        fs::create_dir_all(root.join("elsewhere/deep")).unwrap();
        symlink("../elsewhere/deep", root.join("srv/link")).unwrap();
        symlink("site", root.join("srv/alias")).unwrap();
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let relative = up.join(root.strip_prefix("/").unwrap());
        let check = |path: PathBuf, expected: bool| {
            assert_eq!(is_same_target(&root.join("srv/site"), &path), expected, "{}", path.display());
        };
        check(root.join("srv/site/"), true);
        check(root.join("srv/./site"), true);
        check(relative.join("srv/site"), true);
        check(Path::new(".").join(relative.join("srv/../srv/site")), true);
        check(root.join("srv/alias"), true);
        check(root.join("srv"), false);
        check(root.join("srv/site/below"), false);
        // What this says and where it leads are two things.
        check(root.join("srv/link/../site"), false);
        fs::create_dir(root.join("elsewhere/site")).unwrap();
        check(root.join("srv/link/../site"), false);
        // What is not there yet.
        assert!(is_same_target(&root.join("srv/new"), &relative.join("srv/new/")));
        assert!(!is_same_target(Path::new("/no/such/one"), Path::new("/no/such/../such/one")));
        assert!(is_same_target(Path::new("/no/such/one"), Path::new("//no/such//one/")));
    }
}
