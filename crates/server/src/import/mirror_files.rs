//! `config/mirrors/KIND` of a backend: a URL on each line, `#` begins a comment.

use reqwest::Url;

/// The largest such file.
pub(crate) const BYTES_MAX: u64 = 256 << 10;
/// The most URLs that are taken of one.
const URLS_MAX: usize = 64;
/// What upstreams are asked by.
const SCHEMES: [&str; 5] = ["http", "https", "ftp", "rsync", "file"];

/// What stands in such a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct MirrorFile {
    /// The upstreams.
    pub(crate) sources: Vec<String>,
    /// Lines that are not taken, and why.
    pub(crate) not_taken: Vec<(usize, &'static str)>,
}

/// Reads one.
pub(crate) fn parse(text: &[u8]) -> MirrorFile {
    let mut found = MirrorFile::default();
    let text = String::from_utf8_lossy(text);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match judge(line) {
            Err(why) => found.not_taken.push((number, why)),
            Ok(()) if found.sources.len() >= URLS_MAX => found.not_taken.push((number, "there are too many")),
            Ok(()) if found.sources.iter().any(|known| known == line) => {}
            Ok(()) => found.sources.push(line.to_owned()),
        }
    }
    found
}

fn judge(line: &str) -> Result<(), &'static str> {
    let url = Url::parse(line).map_err(|_| "it is no URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user or a password in it");
    }
    if !SCHEMES.contains(&url.scheme()) {
        return Err("it is none of http, https, ftp, rsync and file");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it is no directory");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_and_logins_are_not() {
        let found = parse(
            b"# ours\nhttp://one.example.org/gentoo/\n\nrsync://two.example.org/gentoo # near\nhttp://me:pw@three.example.org/\n\
              gopher://four.example.org/\nnothing\nhttp://one.example.org/gentoo/\n\xff\n",
        );
        assert_eq!(found.sources, ["http://one.example.org/gentoo/", "rsync://two.example.org/gentoo"]);
        assert_eq!(
            found.not_taken,
            [
                (5, "it has a user or a password in it"),
                (6, "it is none of http, https, ftp, rsync and file"),
                (7, "it is no URL"),
                (9, "it is no URL")
            ]
        );
        assert_eq!(parse("http://h/1\n".repeat(3).as_bytes()).sources.len(), 1);
    }
}
