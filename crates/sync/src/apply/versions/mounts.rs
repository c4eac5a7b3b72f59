//! What is mounted below a directory.
//!
//! Readers who are switched to another version would not find it there: it stays with the version that they are switched
//! away from. So it is looked for right before that, and asked of the kernel, which knows it without a look at each file.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::apply::error::ApplyError;

const MOUNTS: &str = "/proc/self/mountinfo";
/// Which of the words of a line is where it is mounted.
const PLACE: usize = 4;

/// The first file system that is mounted below a directory, which itself may be a mount point. Where the kernel does not
/// say what is mounted, nothing is known to be.
pub(super) fn below(directory: &Path) -> Result<Option<PathBuf>, ApplyError> {
    match std::fs::read(MOUNTS) {
        Ok(text) => Ok(first_below(&text, directory)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ApplyError::Io { operation: "reading", path: MOUNTS.to_owned(), source }),
    }
}

fn first_below(text: &[u8], directory: &Path) -> Option<PathBuf> {
    let lines = text.split(|byte| *byte == b'\n');
    let places = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(PLACE)).map(unescaped);
    let mut below: Vec<PathBuf> =
        places.filter(|place| place != directory && place.starts_with(directory)).collect();
    below.sort_unstable();
    below.into_iter().next()
}

/// A path as it is: the kernel writes spaces, line breaks, backslashes and others as three octal digits.
fn unescaped(word: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        if let Some(digits) = tail.first_chunk::<3>().filter(|digits| *first == b'\\' && is_octal(**digits)) {
            path.push(digits.iter().fold(0, |value, digit| (value << 3) | (digit - b'0')));
            rest = &tail[3..];
        } else {
            path.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

fn is_octal(digits: [u8; 3]) -> bool {
    digits[0] <= b'3' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
}

/// How such a path is shown.
pub(super) fn shown(path: &Path) -> String {
    smart_sync_store::manifest::path::Shown(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 1 0:21 / / rw - ext4 /dev/sda1 rw\n\
        30 22 0:25 / /srv/site rw - btrfs /dev/sdb rw\n\
        31 30 0:26 / /srv/site/mnt\\040two\\134x rw shared:4 - tmpfs none rw\n\
        32 22 0:27 / /srv/site-two rw - tmpfs none rw\n\
        not a line\n";

    #[test]
    fn what_is_mounted_below_is_found_by_its_real_name() {
        let found = |directory: &str| first_below(TEXT, Path::new(directory));
        assert_eq!(found("/srv/site"), Some("/srv/site/mnt two\\x".into()));
        assert_eq!(found("/srv"), Some("/srv/site".into()));
        assert_eq!(found("/srv/site-two"), None);
        assert_eq!(found("/srv/sit"), None);
        assert_eq!(first_below(b"", Path::new("/")), None);
        assert_eq!(unescaped(b"a\\04\\777\\"), Path::new("a\\04\\777\\"));
    }
}
