//! What an ebuild tree says of itself (PMS, chapter 4): its name, and how it is laid out.

use crate::kinds::published::tree_path;
use crate::kinds::{KindError, Refusal};
use crate::source::listed::Listing;

/// The file that says the name of an ebuild tree. A tree without one is none.
const NAME: &str = "profiles/repo_name";
/// The file that says how one is laid out.
const LAYOUT: &str = "metadata/layout.conf";
/// The largest such file.
const BYTES_MAX: u64 = 64 << 10;

/// What is wrong with a tree that says that it is an ebuild tree. Nothing is wrong with one that does not.
pub(super) fn mistakes(tree: &Listing) -> Result<Vec<Refusal>, KindError> {
    if tree.find(NAME.as_bytes()).is_none() {
        return Ok(Vec::new());
    }
    let mut refused = Vec::new();
    let mut check = |path: &str, mistake: fn(&str) -> Option<String>| {
        if tree.find(path.as_bytes()).is_none() {
            return Ok(());
        }
        let text = tree.read_small(path.as_bytes(), BYTES_MAX)?;
        let found = match text.map(String::from_utf8) {
            None => Some(format!("it is no file of at most {} KiB", BYTES_MAX >> 10)),
            Some(Err(_)) => Some("it is not UTF-8".to_owned()),
            Some(Ok(text)) => mistake(&text),
        };
        if let Some(reason) = found {
            refused.push(Refusal::new(&tree_path(path)?, &reason));
        }
        Ok::<(), KindError>(())
    };
    check(NAME, mistake_of_name)?;
    check(LAYOUT, mistake_of_layout)?;
    Ok(refused)
}

fn mistake_of_name(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(name), None) if is_repository_name(name) => None,
        (Some(_), None) => Some("what it says is no name of a repository".to_owned()),
        (None, _) => Some("it says no name".to_owned()),
        (Some(_), Some(_)) => Some("it says more than a name".to_owned()),
    }
}

fn mistake_of_layout(text: &str) -> Option<String> {
    for (at, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Some(format!("line {at} is not KEY = VALUE"));
        };
        let wrong = value.split_whitespace().find(|name| !is_repository_name(name));
        if let Some(wrong) = wrong.filter(|_| key.trim() == "masters") {
            return Some(format!("line {at}: {wrong:?} is no name of a repository"));
        }
    }
    None
}

/// Whether a repository may be called so (PMS, section 3.1.5).
fn is_repository_name(name: &str) -> bool {
    !name.starts_with('-') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_says_one_name() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(mistake_of_name(text).as_deref(), expected, "{text:?}");
        }
        check("gentoo\n", None);
        check("# ours\nour_tree-2", None);
        check("", Some("it says no name"));
        check("a\nb\n", Some("it says more than a name"));
        check("../gentoo", Some("what it says is no name of a repository"));
        check("-gentoo", Some("what it says is no name of a repository"));
        check("of all", Some("what it says is no name of a repository"));
    }

    #[test]
    fn a_layout_is_lines_of_keys_and_values() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(mistake_of_layout(text).as_deref(), expected, "{text:?}");
        }
        check(
            "masters = gentoo other\nthin-manifests = true\n\n# a comment\nmanifest-hashes = BLAKE2B SHA512",
            None,
        );
        check("masters =\n", None);
        check("masters = gentoo\nthin-manifests\n", Some("line 2 is not KEY = VALUE"));
        check("masters = a/../b", Some("line 1: \"a/../b\" is no name of a repository"));
    }
}
