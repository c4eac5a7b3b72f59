//! Words for a POSIX shell.
//!
//! Words that mean nothing to a shell stay as they are, so that what is written is easy to read; others are put in single
//! quotes, within which a POSIX shell knows only the next quote.

/// Whether a word means itself to a shell.
pub fn is_plain(word: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(byte);
    !word.is_empty() && word.iter().all(is_plain)
}

/// Adds a word to a command line.
pub fn quote(word: &[u8], line: &mut Vec<u8>) {
    if is_plain(word) {
        line.extend_from_slice(word);
        return;
    }
    line.push(b'\'');
    for byte in word {
        match byte {
            b'\'' => line.extend_from_slice(b"'\\''"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\'');
}

/// A word that is text, as a part of a command line.
pub fn quoted(word: &str) -> String {
    let mut line = Vec::new();
    quote(word.as_bytes(), &mut line);
    String::from_utf8(line).expect("quotes are ASCII, and come between characters")
}
