//! What `rsync --list-only` prints: mode, size, day, time and name of each thing in a directory.

use smart_sync_sync::kinds::follow::Listed;

use super::{Names, words_and_rest};

/// The names of a listing.
pub(in super::super) fn parse(listing: &[u8]) -> Result<Vec<Listed>, String> {
    let mut names = Names::default();
    for line in listing.split(|byte| *byte == b'\n') {
        let parsed = str::from_utf8(line).ok().and_then(of_line);
        if let Some((name, is_directory, size)) = parsed {
            names.add(name, is_directory, size)?;
        }
    }
    Ok(names.into_list())
}

fn of_line(line: &str) -> Option<(&str, bool, Option<u64>)> {
    let (words, name) = words_and_rest(line, 4)?;
    let is_one = words[0].len() == 10 && words[2].matches('/').count() == 2 && words[3].contains(':');
    // Bytes that are no text are shown as such, and what they were is not known for sure.
    if !is_one || name.contains("\\#") {
        return None;
    }
    match words[0].as_bytes()[0] {
        b'd' => Some((name, true, None)),
        b'-' => Some((name, false, Some(words[1].replace(',', "").parse().ok()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_rsync_are_read() {
        let text = "Welcome to the mirror\n\
                    drwxr-xr-x          4,096 2026/11/30 20:20:20 .\n\
                    drwxr-xr-x          4,096 2026/11/30 20:20:20 old\n\
                    -rw-r--r--        300,000 2026/11/30 20:20:20 a b.tar.xz\n\
                    -rw-r--r--              5 2026/11/30 20:20:20 odd\\#012name\n\
                    lrwxrwxrwx              3 2026/11/30 20:20:20 latest -> old\n";
        let listed = parse(text.as_bytes()).unwrap();
        let parsed: Vec<_> = listed.iter().map(|it| (&*it.name, it.is_directory, it.size)).collect();
        assert_eq!(parsed, [("a b.tar.xz", false, Some(300_000)), ("old", true, None)]);
    }
}
