//! What rsync is told: which directories it gives out, and how.
//!
//! Nothing in it comes from a tree. Links are kept in a form that leads nowhere, which rsync undoes while it sends
//! them; so a link of a tree leads nobody out of it, also where rsync cannot change its root.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::ensure;

/// What stands in front of the target of each link on disk.
pub(super) const MUNGED: &[u8] = b"/rsyncd-munged/";

/// The text of the configuration, for modules with their directories.
pub(super) fn text(modules: &[(&str, &Path)], is_root: bool) -> anyhow::Result<Vec<u8>> {
    let mut text = b"# Written by smart-sync-server, and again whenever something is published.\n".to_vec();
    // Only root may change the root of a process; rsync becomes nobody after that.
    text.extend_from_slice(if is_root { b"use chroot = yes\n" } else { b"use chroot = no\n" });
    text.extend_from_slice(
        b"munge symlinks = yes\n\
          read only = yes\n\
          list = yes\n\
          numeric ids = yes\n\
          reverse lookup = no\n\
          timeout = 180\n\
          max verbosity = 1\n\
          dont compress = *.gz *.bz2 *.xz *.zst *.tbz2 *.zip *.rpm *.deb *.gpkg.tar\n\
          refuse options = checksum copy-links copy-unsafe-links copy-dirlinks\n",
    );
    for (name, directory) in modules {
        let directory = directory.as_os_str().as_bytes();
        // A `%` names a variable there, and the end of a line ends the value.
        ensure!(
            !directory.iter().any(|byte| byte.is_ascii_control() || *byte == b'%'),
            "the path of the data directory holds a `%` or a control character, which rsync cannot be told"
        );
        write!(text, "\n[{name}]\npath = ")?;
        text.extend_from_slice(directory);
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_their_directories_and_nothing_can_be_written() {
        let text = String::from_utf8(text(&[("gentoo", Path::new("/data/1-ab"))], true).unwrap()).unwrap();
        assert!(text.contains("use chroot = yes\n") && text.contains("read only = yes\n"), "{text}");
        assert!(text.ends_with("\n\n[gentoo]\npath = /data/1-ab\n"), "{text}");
    }

    #[test]
    fn a_directory_that_means_something_else_to_rsync_is_refused() {
        for path in ["/data/%RSYNC_USER_NAME%", "/data/a\nuid = 0"] {
            assert!(text(&[("a", Path::new(path))], false).is_err(), "{path}");
        }
    }
}
