//! What servers of FTP answer to `LIST`: lines as `ls -l` writes them, or as the server of Windows does.

use smart_sync_sync::kinds::follow::Listed;

use super::{Names, words_and_rest};

/// The names of a listing.
pub(in super::super) fn parse(listing: &[u8]) -> Result<Vec<Listed>, String> {
    let mut names = Names::default();
    for line in listing.split(|byte| *byte == b'\n') {
        let Ok(line) = str::from_utf8(line) else { continue };
        let line = line.strip_suffix('\r').unwrap_or(line);
        if let Some((name, is_directory, size)) = of_unix(line).or_else(|| of_windows(line)) {
            names.add(name, is_directory, size)?;
        }
    }
    Ok(names.into_list())
}

/// `drwxr-xr-x 2 ftp ftp 4096 Nov 30 2026 NAME`
fn of_unix(line: &str) -> Option<(&str, bool, Option<u64>)> {
    let (words, name) = words_and_rest(line, 8)?;
    let mode = words[0];
    if mode.len() < 10 || !mode.is_ascii() || !words[6].bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match mode.as_bytes()[0] {
        b'd' => Some((name, true, None)),
        b'-' => Some((name, false, Some(words[4].parse().ok()?))),
        // What it leads to is not said.
        b'l' => Some((name.split_once(" -> ").map_or(name, |(name, _)| name), false, None)),
        _ => None,
    }
}

/// `11-30-26  08:20PM       <DIR>          NAME`
fn of_windows(line: &str) -> Option<(&str, bool, Option<u64>)> {
    let (words, name) = words_and_rest(line, 3)?;
    let is_one = words[0].matches('-').count() == 2 && words[1].contains(':');
    let name = name.trim_start();
    match words[2] {
        _ if !is_one => None,
        "<DIR>" => Some((name, true, None)),
        size => Some((name, false, Some(size.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, bool, Option<u64>)> {
        let listed = parse(text.as_bytes()).unwrap();
        listed.into_iter().map(|it| (it.name, it.is_directory, it.size)).collect()
    }

    #[test]
    fn lines_as_of_ls_are_read() {
        let text = "total 12\r\ndrwxr-xr-x    2 ftp      ftp          4096 Nov 30 20:20 old\r\n\
                    -rw-r--r--    1 ftp      ftp        300000 Nov 30  2026 a b.tar.xz\r\n\
                    -rw-r--r--    1 0        0               x Nov 30  2026 odd\r\n\
                    lrwxrwxrwx    1 ftp      ftp             3 Nov 30 20:20 latest -> old\r\n\
                    prw-r--r--    1 ftp      ftp             0 Nov 30 20:20 pipe\r\n\
                    drwxr-xr-x    2 ftp      ftp          4096 Nov 30 20:20 ..\r\n";
        assert_eq!(
            parsed(text),
            [
                ("a b.tar.xz".to_owned(), false, Some(300_000)),
                ("latest".to_owned(), false, None),
                ("old".to_owned(), true, None),
            ]
        );
    }

    #[test]
    fn lines_of_the_server_of_windows_are_read() {
        let text = "11-30-26  08:20PM       <DIR>          old files\r\n11-30-26  08:21AM               300000 a.zip\r\n";
        assert_eq!(
            parsed(text),
            [("a.zip".to_owned(), false, Some(300_000)), ("old files".to_owned(), true, None)]
        );
    }
}
