//! A tree's checksums as `b3sum` prints and checks them, so that a copy can be verified with no software of ours.

use std::fmt::Write as _;

use smart_sync_store::id::ContentId;

/// One line: the digest, two spaces and the path. A path with a newline, a carriage return or a backslash is
/// escaped, and a backslash in front of the line says so; bytes that are not UTF-8 become U+FFFD, as they do there.
pub fn line(path: &[u8], id: &ContentId) -> String {
    let text = String::from_utf8_lossy(path);
    let mut line = String::with_capacity(2 * ContentId::LEN + text.len() + 4);
    if text.contains(['\n', '\r', '\\']) {
        line.push('\\');
    }
    // Writing to a string does not fail.
    let _ = write!(line, "{id}  ");
    for character in text.chars() {
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\\' => line.push_str("\\\\"),
            other => line.push(other),
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_b3sum() {
        let id = ContentId::of(b"");
        let digest = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(line(b"a b", &id), format!("{digest}  a b\n"));
        assert_eq!(line(b"a\nb\\c", &id), format!("\\{digest}  a\\nb\\\\c\n"));
    }
}
