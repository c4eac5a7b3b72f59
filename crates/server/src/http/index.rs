//! The directory index: one page for people, `wget -r` and scripts that read it line by line.
//!
//! Each name is the first text of its line and its link is relative, because that is what the scripts that mirror
//! such pages look for.

use std::fmt::Write as _;

use askama::Template;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use smart_sync_store::manifest::path::Shown;

/// What may stand in a path segment as it is (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The column at which sizes begin.
const NAME_WIDTH: usize = 50;

/// A name as one segment of a URL.
pub(crate) fn encode_segment(name: &[u8]) -> String {
    percent_encode(name, SEGMENT).to_string()
}

/// One line of an index.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    href: String,
    name: String,
    padding: String,
    detail: String,
}

impl Row {
    /// A directory, or something else that ends in a slash.
    pub(crate) fn directory(name: &[u8]) -> Self {
        Self::new(name, "/", String::new())
    }

    /// A file and its size.
    pub(crate) fn file(name: &[u8], size: u64) -> Self {
        Self::new(name, "", size.to_string())
    }

    /// Something that cannot be fetched from here, such as a submodule.
    pub(crate) fn other(name: &[u8], what: &str) -> Self {
        Self::new(name, "", what.to_owned())
    }

    fn new(name: &[u8], slash: &str, detail: String) -> Self {
        let shown = format!("{}{slash}", Shown(name));
        let width = NAME_WIDTH.saturating_sub(shown.chars().count()).max(1);
        Self {
            // `./` keeps a name with a colon from being read as a scheme.
            href: format!("./{}{slash}", encode_segment(name)),
            padding: if detail.is_empty() { String::new() } else { " ".repeat(width) },
            name: shown,
            detail,
        }
    }
}

/// A page that lists names.
#[derive(Template)]
#[template(path = "index.html")]
pub(crate) struct Index {
    title: String,
    has_parent: bool,
    rows: Vec<Row>,
    note: String,
}

impl Index {
    /// A page with these lines.
    pub(crate) fn new(title: &str, has_parent: bool, rows: Vec<Row>) -> Self {
        Self { title: title.to_owned(), has_parent, rows, note: String::new() }
    }

    /// Adds a line at the end that says where this comes from.
    pub(crate) fn with_note(mut self, note: std::fmt::Arguments<'_>) -> Self {
        self.note.clear();
        // Writing to a string does not fail.
        let _ = self.note.write_fmt(note);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_for_the_page_and_for_the_link() {
        let rows = vec![
            Row::directory(b"src"),
            Row::file(b"a b?#%\"<x>.txt", 12),
            Row::file(b"c:d\xff\n", 3),
            Row::other(b"link", "<link>"),
        ];
        let page = Index::new("Index of <repos>", true, rows).render().unwrap();
        assert!(page.contains("Index of &#60;repos&#62;"), "{page}");
        assert!(page.contains("\n<a href=\"./src/\">src/</a>\n"), "{page}");
        assert!(
            page.contains("\n<a href=\"./a%20b%3F%23%25%22%3Cx%3E.txt\">a b?#%&#34;&#60;x&#62;.txt</a>"),
            "{page}"
        );
        assert!(page.contains("<a href=\"./c%3Ad%FF%0A\">c:d\\xff\\n</a>"), "{page}");
        assert!(page.contains("&#60;link&#62;"), "{page}");
    }
}
