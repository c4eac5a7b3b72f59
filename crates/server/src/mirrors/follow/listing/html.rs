//! Pages that web servers make of directories: Apache, nginx, lighttpd and others like them.
//!
//! What is in a directory are the links that lead right into it. Links that sort the page, to the directory above and to
//! anywhere else are none.

use percent_encoding::percent_decode_str;
use smart_sync_sync::kinds::follow::Listed;

use super::Names;

/// The longest text of a link that is looked at.
const LINK_BYTES_MAX: usize = 4096;

/// The names that a page links to, which was found at this path.
pub(in super::super) fn parse(page: &[u8], base: &str) -> Result<Vec<Listed>, String> {
    let page = String::from_utf8_lossy(page);
    let base = percent_decode_str(base).decode_utf8_lossy();
    let mut names = Names::default();
    let mut rest = &*page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let Some(end) = rest.find('>') else { break };
        let link = href(&rest[..end]);
        rest = &rest[end + 1..];
        if let Some((name, is_directory)) = link.and_then(|link| name_of(&link, &base)) {
            names.add(&name, is_directory, size_after(rest))?;
        }
    }
    Ok(names.into_list())
}

/// Where a tag links to, if it is one that does.
fn href(tag: &str) -> Option<String> {
    let (name, attributes) = tag.split_once(|character: char| character.is_ascii_whitespace())?;
    if !name.eq_ignore_ascii_case("a") {
        return None;
    }
    let mut rest = attributes;
    loop {
        rest = rest.trim_start();
        let (attribute, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (value, after) = match value.chars().next()? {
            quote @ ('"' | '\'') => value[1..].split_once(quote)?,
            _ => value.split_once(|character: char| character.is_ascii_whitespace()).unwrap_or((value, "")),
        };
        if attribute.trim().eq_ignore_ascii_case("href") {
            return (value.len() <= LINK_BYTES_MAX).then(|| without_references(value));
        }
        rest = after;
    }
}

/// A text with the character references that servers write in links.
fn without_references(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        decoded.push_str(before);
        let reference = after.split_once(';').and_then(|(name, after)| Some((character(name)?, after)));
        if let Some((character, after)) = reference {
            decoded.push(character);
            rest = after;
        } else {
            decoded.push('&');
            rest = after;
        }
    }
    decoded.push_str(rest);
    decoded
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "lt" => Some('<'),
        "gt" => Some('>'),
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}

/// The name that a link means in the directory at this path, and whether that is a directory.
fn name_of(link: &str, base: &str) -> Option<(String, bool)> {
    if link.contains(['?', '#']) {
        return None;
    }
    let decoded = percent_decode_str(link).decode_utf8().ok()?;
    let name = if let Some(rest) = link.strip_prefix("./") {
        percent_decode_str(rest).decode_utf8().ok()?.into_owned()
    } else if decoded.starts_with('/') {
        decoded.strip_prefix(base)?.to_owned()
    } else if link.contains(':') {
        // It would be a scheme.
        return None;
    } else {
        decoded.into_owned()
    };
    let is_directory = name.ends_with('/');
    let name = name.strip_suffix('/').unwrap_or(&name);
    (!name.contains('/')).then(|| (name.to_owned(), is_directory))
}

/// The size that stands behind a link, where it is said to the byte: a day, a time and a number, and nothing else.
fn size_after(rest: &str) -> Option<u64> {
    let (_, rest) = rest.split_once("</a>")?;
    let line = rest.split(['\n', '\r', '<']).next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let (day, time, size) = (words.next()?, words.next()?, words.next()?);
    let is_size = day.matches('-').count() == 2
        && time.contains(':')
        && size.bytes().all(|byte| byte.is_ascii_digit())
        && words.next().is_none();
    is_size.then(|| size.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(page: &str) -> Vec<(String, bool, Option<u64>)> {
        let listed = parse(page.as_bytes(), "/pub/files/").unwrap();
        listed.into_iter().map(|it| (it.name, it.is_directory, it.size)).collect()
    }

    fn names(page: &str) -> Vec<String> {
        parsed(page).into_iter().map(|(name, ..)| name).collect()
    }

    #[test]
    fn the_page_of_nginx_says_sizes_to_the_byte() {
        let page = "<html>\r\n<head><title>Index of /pub/files/</title></head>\r\n<body>\r\n\
                    <h1>Index of /pub/files/</h1><hr><pre><a href=\"../\">../</a>\r\n\
                    <a href=\"old/\">old/</a>             30-Nov-2026 20:20                   -\r\n\
                    <a href=\"a%2Bb%20c.tar.xz\">a+b c.tar.xz</a>   30-Nov-2026 20:21      300000\r\n\
                    <a href=\"x%26y.tar\">x&amp;y.tar</a>        30-Nov-2026 20:21      5\r\n\
                    </pre><hr></body>\r\n</html>\r\n";
        assert_eq!(
            parsed(page),
            [
                ("a+b c.tar.xz".to_owned(), false, Some(300_000)),
                ("old".to_owned(), true, None),
                ("x&y.tar".to_owned(), false, Some(5)),
            ]
        );
    }

    #[test]
    fn the_page_of_apache_has_links_that_sort_it_and_rounded_sizes() {
        let page = "<table><tr><th><a href=\"?C=N;O=D\">Name</a></th><th><a href=\"?C=M;O=A\">Last modified</a></th></tr>\
                    <tr><td><a href=\"/pub/\">Parent Directory</a></td></tr>\n\
                    <tr><td><img src=\"/icons/x.gif\"></td><td><a href=\"gentoo.tar.xz\">gentoo.tar.xz</a></td>\
                    <td align=\"right\">2026-11-30 20:20  </td><td align=\"right\"> 55M</td></tr></table>\n\
                    <pre><a href=\"b.tar\">b.tar</a>   2026-11-30 20:20  1.2K\n\
                    <a href=\"c.tar\">c.tar</a>   2026-11-30 20:20  512 level 9\n</pre>";
        assert_eq!(
            parsed(page),
            [
                ("b.tar".to_owned(), false, None),
                ("c.tar".to_owned(), false, None),
                ("gentoo.tar.xz".to_owned(), false, None),
            ]
        );
    }

    #[test]
    fn other_ways_to_write_a_link_are_read() {
        let page = "<A class=\"d\" HREF='one/'>one</A><a\n href=two >two</a><a href=\"./three:3\">3</a>\
                    <a href=\"/pub/files/four\">4</a><a href=\"five&#x2b;5&amp;\">5</a><a href=\"one\">again</a>";
        assert_eq!(names(page), ["five+5&", "four", "one", "three:3", "two"]);
    }

    #[test]
    fn links_that_lead_elsewhere_are_passed_over() {
        for link in [
            "..",
            "../",
            "../x",
            "./",
            ".",
            "/",
            "/etc/passwd",
            "/pub/files/",
            "/pub/files/a/b",
            "//host/a",
            "a/b",
            "http://host/a",
            "mailto:x",
            "javascript:x",
            "%2e%2e",
            "%2e%2e%2f",
            "a%2fb",
            "a%00b",
            "a%0ab",
            "%ff",
            "?a",
            "#a",
            "",
            ".git",
            "&#46;&#46;/",
        ] {
            let page = format!("<a href=\"{link}\">x</a>");
            assert_eq!(names(&page), [] as [String; 0], "{link}");
        }
        assert_eq!(names("<abbr href=\"a\"><link href=\"b\"><a name=\"c\"><a href=\"d"), [] as [String; 0]);
    }
}
