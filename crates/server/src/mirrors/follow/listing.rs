//! What stands in a directory upstream, by what servers say of it. Pure: bytes in, names out.
//!
//! Servers list directories for people, so that what is not understood is passed over. A name counts only if it is that of
//! one file or directory right there: nothing that a listing says leads anywhere else.

mod ftp;
mod html;
mod rsync;

use std::collections::BTreeMap;

use smart_sync_store::manifest::TreePath;
use smart_sync_sync::kinds::follow::Listed;

pub(super) use ftp::parse as of_ftp;
pub(super) use html::parse as of_page;
pub(super) use rsync::parse as of_rsync;

/// The most bytes of a listing.
pub(super) const BYTES_MAX: u64 = 16 << 20;
/// The most names of a directory.
pub(super) const NAMES_MAX: usize = 100_000;
/// The longest name, as file systems have it.
const NAME_BYTES_MAX: usize = 255;

/// The names of a directory, each once.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, Listed>);

impl Names {
    /// Takes a name, if it is one. What is said of it first counts.
    pub(super) fn add(&mut self, name: &str, is_directory: bool, size: Option<u64>) -> Result<(), String> {
        if !is_name(name) || self.0.contains_key(name) {
            return Ok(());
        }
        if self.0.len() >= NAMES_MAX {
            return Err(format!("a directory has more than {NAMES_MAX} names"));
        }
        let size = size.filter(|_| !is_directory);
        self.0.insert(name.to_owned(), Listed { name: name.to_owned(), is_directory, size });
        Ok(())
    }

    /// All of them, sorted.
    pub(super) fn into_list(self) -> Vec<Listed> {
        self.0.into_values().collect()
    }
}

/// Whether a text is the name of something right in a directory.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && !name.contains('/')
        && !name.chars().any(char::is_control)
        && TreePath::new(name.as_bytes()).is_ok()
}

/// The words of a line up to the first of some number, and what follows them, with the white space in it.
fn words_and_rest(line: &str, count: usize) -> Option<(Vec<&str>, &str)> {
    let mut words = Vec::with_capacity(count);
    let mut rest = line;
    for _ in 0..count {
        rest = rest.trim_start_matches([' ', '\t']);
        let end = rest.find([' ', '\t'])?;
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    // One blank ends the last word; what follows may be a part of a name.
    Some((words, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_names_of_the_directory_itself_count_and_never_too_many() {
        let mut names = Names::default();
        for name in ["", ".", "..", "a/b", "/a", ".git", "a\nb", "a\u{1b}[2J", &"x".repeat(256)] {
            names.add(name, false, Some(1)).unwrap();
        }
        names.add("b", true, Some(4096)).unwrap();
        names.add("a", false, Some(7)).unwrap();
        names.add("a", true, None).unwrap();
        let listed = |name: &str, is_directory, size| Listed { name: name.to_owned(), is_directory, size };
        assert_eq!(names.into_list(), [listed("a", false, Some(7)), listed("b", true, None)]);
        let mut names = Names::default();
        for number in 0..NAMES_MAX {
            names.add(&number.to_string(), false, None).unwrap();
        }
        assert!(names.add("one more", false, None).is_err());
    }

    #[test]
    fn words_are_counted_and_the_rest_stays_as_it_is() {
        assert_eq!(words_and_rest("a  b  c d ", 2), Some((vec!["a", "b"], " c d ")));
        assert_eq!(words_and_rest("a b", 2), None);
        assert_eq!(words_and_rest("", 1), None);
    }

    /// What a listing yields whatever a server sends.
    fn check(parsed: Result<Vec<Listed>, String>) {
        for listed in parsed.unwrap_or_default() {
            assert!(is_name(&listed.name), "{listed:?}");
            assert!(listed.size.is_none() || !listed.is_directory);
        }
    }

    /// Texts in which what parsers look for is often.
    fn hostile() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "<a href=\"",
            "<A HREF='",
            "<a href=",
            "\">",
            "'",
            ">",
            "</a>",
            "..",
            "/",
            "%2e",
            "%2F",
            "%00",
            "%",
            "&amp;",
            "&#47;",
            "&#",
            ";",
            "?C=N",
            "drwxr-xr-x",
            "-rw-r--r--",
            "lrwxrwxrwx",
            " 1 ftp ftp ",
            "4,096 ",
            "2026/11/30 20:20:20 ",
            "Nov 30 2026 ",
            "11-30-26  08:20PM ",
            "<DIR> ",
            " -> ",
            "\n",
            "\r\n",
            "a",
            "\\#012",
            "é",
            "\u{0}",
            "99999999999999999999",
        ]);
        prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_only_names_come_of_it(text in hostile(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for bytes in [text.as_bytes(), &bytes] {
                check(of_page(bytes, "/pub/"));
                check(of_ftp(bytes));
                check(of_rsync(bytes));
            }
        }
    }
}
