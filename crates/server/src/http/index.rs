//! The pages of `/files`: directory indexes, and what is said where there is nothing.
//!
//! One page serves people, `wget -r`, and scripts that read it line by line: each entry is a line of its own, its name
//! is the first text of the line, and all links are relative, so that the pages work below any prefix. There is no
//! script, and nothing is fetched besides. Names are somebody else's bytes: they are shown with their control
//! characters escaped, and a link begins with `./`, so that no name is taken for a scheme.

use askama::Template;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use smart_sync_store::count::counted;
use smart_sync_store::manifest::path::Shown;

/// What may stand in a path segment as it is (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as one segment of a URL.
fn encode_segment(name: &[u8]) -> String {
    percent_encode(name, SEGMENT).to_string()
}

/// One line of an index.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    href: String,
    name: String,
    /// What it is, where it is neither a file nor a directory.
    what: String,
    size: Option<Size>,
    time: Option<Time>,
}

impl Row {
    /// A directory, or something else that ends in a slash.
    pub(crate) fn directory(name: &[u8]) -> Self {
        Self::new(name, "/")
    }

    /// A file and its size.
    pub(crate) fn file(name: &[u8], size: u64) -> Self {
        Self { size: Some(Size(size)), ..Self::new(name, "") }
    }

    /// Something that cannot be fetched from here, such as a submodule.
    pub(crate) fn other(name: &[u8], what: &str) -> Self {
        Self { what: what.to_owned(), ..Self::new(name, "") }
    }

    /// A whole tree of this size.
    pub(crate) fn tree(name: &[u8], what: &str, size: u64) -> Self {
        Self { what: what.to_owned(), size: Some(Size(size)), ..Self::new(name, "/") }
    }

    /// Adds when it was changed, in seconds since 1970.
    pub(crate) fn at(self, seconds: Option<i64>) -> Self {
        Self { time: seconds.and_then(Time::new), ..self }
    }

    fn new(name: &[u8], slash: &str) -> Self {
        let href = format!("./{}{slash}", encode_segment(name));
        let name = format!("{}{slash}", Shown(name));
        Self { href, name, what: String::new(), size: None, time: None }
    }

    fn is_directory(&self) -> bool {
        self.href.ends_with('/')
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy)]
struct Size(u64);

impl Size {
    fn exact(self) -> String {
        counted(self.0, "byte", "bytes").to_string()
    }

    /// With three digits or so, which is what can be compared at a glance.
    fn short(self) -> String {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let (mut whole, mut tenths, mut unit) = (self.0, 0, "B");
        for next in UNITS {
            if whole < 1024 {
                break;
            }
            (tenths, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, next);
        }
        if unit == "B" || whole >= 100 {
            format!("{whole} {unit}")
        } else {
            format!("{whole}.{tenths} {unit}")
        }
    }
}

/// A point in time, as it is shown and as programs read it.
#[derive(Debug, Clone)]
struct Time {
    short: String,
    exact: String,
}

impl Time {
    fn new(seconds: i64) -> Option<Self> {
        let time = Timestamp::from_second(seconds).ok()?;
        Some(Self { short: time.strftime("%Y-%m-%d %H:%M").to_string(), exact: time.to_string() })
    }
}

/// Where a page is: the realm, and the segments of its URL.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    origin: String,
    segments: Vec<String>,
}

/// A step on the way to a page.
#[derive(Debug)]
struct Crumb {
    name: String,
    /// None for the page itself.
    href: Option<String>,
}

impl Place {
    /// The page of the realm itself.
    pub(crate) fn top(origin: &str) -> Self {
        Self { origin: origin.to_owned(), segments: Vec::new() }
    }

    /// A page below `/files/`, by its decoded segments.
    pub(crate) fn below_files(origin: &str, segments: &[Vec<u8>]) -> Self {
        let below = Self::below_root(origin, segments);
        Self { segments: std::iter::once("files".to_owned()).chain(below.segments).collect(), ..below }
    }

    /// A page below `/`, by its decoded segments.
    pub(crate) fn below_root(origin: &str, segments: &[Vec<u8>]) -> Self {
        let segments = segments.iter().filter(|segment| !segment.is_empty());
        Self {
            origin: origin.to_owned(),
            segments: segments.map(|segment| Shown(segment).to_string()).collect(),
        }
    }

    fn title(&self) -> String {
        if self.segments.is_empty() {
            self.origin.clone()
        } else {
            format!("Index of /{}/", self.segments.join("/"))
        }
    }

    fn crumbs(&self) -> Vec<Crumb> {
        let names = std::iter::once(&self.origin).chain(&self.segments);
        let above = (0..=self.segments.len()).rev();
        let crumb = |(name, above): (&String, usize)| Crumb {
            name: name.clone(),
            href: (above > 0).then(|| "../".repeat(above)),
        };
        names.zip(above).map(crumb).collect()
    }
}

/// A page that lists names, or says why it does not.
#[derive(Template)]
#[template(path = "index.html")]
pub(crate) struct Index {
    title: String,
    crumbs: Vec<Crumb>,
    /// What the page is about, in a few short parts.
    facts: Vec<String>,
    message: String,
    has_parent: bool,
    has_sizes: bool,
    has_times: bool,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Index {
    /// A page with these lines, directories first.
    pub(crate) fn new(place: &Place, mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|row| !row.is_directory());
        Self {
            title: place.title(),
            crumbs: place.crumbs(),
            facts: Vec::new(),
            message: String::new(),
            has_parent: !place.segments.is_empty(),
            has_sizes: rows.iter().any(|row| row.size.is_some()),
            has_times: rows.iter().any(|row| row.time.is_some()),
            rows,
            notes: Vec::new(),
        }
    }

    /// The page for a URL of so many segments below `/files/` where nothing is to be seen.
    pub(crate) fn of_nothing(origin: &str, segments: usize) -> Self {
        let files = format!("./{}", "../".repeat(segments.saturating_sub(1)));
        let crumb = |name: &str, href| Crumb { name: name.to_owned(), href };
        Self {
            title: "Not found".to_owned(),
            crumbs: vec![
                crumb(origin, Some(format!("{files}../"))),
                crumb("files", Some(files)),
                crumb("not found", None),
            ],
            message: "There is nothing here, or nothing that can be seen without a token.".to_owned(),
            has_parent: false,
            ..Self::new(&Place::top(origin), Vec::new())
        }
    }

    /// Adds what the page is about.
    pub(crate) fn with_facts(self, facts: Vec<String>) -> Self {
        Self { facts, ..self }
    }

    /// Adds lines at the end.
    pub(crate) fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// Adds a sentence above the list.
    pub(crate) fn with_message(self, message: &str) -> Self {
        Self { message: message.to_owned(), ..self }
    }
}

/// A number of bytes as pages show it.
pub(crate) fn short_size(bytes: u64) -> String {
    Size(bytes).short()
}

/// A time as pages show it.
pub(crate) fn short_time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(Time::new);
    time.map_or_else(String::new, |time| format!("{} UTC", time.short))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        let segments: Vec<_> = path.split('/').map(|segment| segment.as_bytes().to_vec()).collect();
        Place::below_files("lab.example.org", &segments)
    }

    #[test]
    fn names_are_escaped_for_the_page_and_for_the_link() {
        let check = |row: Row, link: &str| {
            let page = Index::new(&place(""), vec![row]).render().unwrap();
            assert!(page.contains(&format!("\n<tr><td>{link}")), "{page}");
        };
        check(Row::directory(b"src"), "<a href=\"./src/\">src/</a>");
        check(
            Row::file(b"a b?#%\"<x>'&.txt", 12),
            "<a href=\"./a%20b%3F%23%25%22%3Cx%3E%27%26.txt\">a b?#%&#34;&#60;x&#62;&#39;&#38;.txt</a>",
        );
        check(Row::file(b"c:d\xff\n", 3), "<a href=\"./c%3Ad%FF%0A\">c:d\\xff\\n</a>");
        check(Row::file(b"javascript:alert(1)", 3), "<a href=\"./javascript%3Aalert%281%29\">javascript:");
        check(
            Row::file(b"\x1b[31m</table>", 3),
            "<a href=\"./%1B%5B31m%3C%2Ftable%3E\">\\u{1b}[31m&#60;/table&#62;",
        );
        check(Row::file("x\u{202e}gpj".as_bytes(), 3), "<a href=\"./x%E2%80%AEgpj\">x\\u{202e}gpj</a>");
        check(Row::other(b"l", "<link>"), "<a href=\"./l\">l</a> <small>&#60;link&#62;</small>");
        let page = Index::new(&place("<repos>/\"x\"/"), Vec::new()).render().unwrap();
        assert!(page.contains("<title>Index of /files/&#60;repos&#62;/&#34;x&#34;/</title>"), "{page}");
        assert!(!page.contains("<repos>") && !page.contains("<script"), "{page}");
    }

    #[test]
    fn a_page_leads_to_every_directory_above_it() {
        let page = Index::new(&place("repos/x/main/"), Vec::new()).render().unwrap();
        for link in [
            "<a href=\"../../../../\">lab.example.org</a>",
            "<a href=\"../../../\">files</a>",
            "<a href=\"../../\">repos</a>",
            "<a href=\"../\">x</a>",
            "<strong>main</strong>",
            "\n<tr><td><a href=\"../\">../</a>",
        ] {
            assert!(page.contains(link), "{link}\n{page}");
        }
        let page = Index::of_nothing("lab.example.org", 3).render().unwrap();
        assert!(page.contains("<a href=\"./../../\">files</a>"), "{page}");
        assert!(!page.contains("<table"), "{page}");
    }

    #[test]
    fn sizes_are_short() {
        let check = |bytes, expected: &str| assert_eq!(short_size(bytes), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1536, "1.5 KiB");
        check(102_400, "100 KiB");
        check(1_048_575, "1023 KiB");
        check(10 << 30, "10.0 GiB");
        check(u64::MAX, "15.9 EiB");
    }

    #[test]
    fn times_are_shown_where_entries_have_their_own() {
        let page = |rows| Index::new(&place("x/"), rows).render().unwrap();
        let dated = page(vec![Row::file(b"a", 1).at(Some(1_767_300_000)), Row::directory(b"d")]);
        assert!(dated.contains("<time datetime=\"2026-01-01T20:40:00Z\">2026-01-01 20:40</time>"), "{dated}");
        assert!(dated.find("d/</a>") < dated.find(">a</a>"), "directories come first: {dated}");
        assert!(!page(vec![Row::file(b"a", 1)]).contains("<time"));
        assert_eq!(short_time(1_767_300_000), "2026-01-01 20:40 UTC");
    }
}
