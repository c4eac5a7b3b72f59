//! Which versions are in use although they are not the current one: what was booted, and what is mounted.
//!
//! A machine may run from a version, chosen where it was booted, and somebody may have mounted one. The kernel says both
//! by path, and the names of versions are told apart well enough to be looked for there.

use std::fs;
use std::io;

use smart_sync_sync::apply::versions::{Kept, VersionName};

/// What the kernel was started with, and everything that is mounted.
const SOURCES: [&str; 2] = ["/proc/cmdline", "/proc/self/mountinfo"];

/// The names of the versions that are in use.
pub(crate) fn in_use(kept: &[Kept]) -> Vec<&VersionName> {
    named_by(kept, |path| fs::read(path))
}

/// The names that one of the files of the kernel holds. Where one cannot be read, it names nothing.
fn named_by(kept: &[Kept], read: impl Fn(&str) -> io::Result<Vec<u8>>) -> Vec<&VersionName> {
    let texts = SOURCES.map(|path| String::from_utf8_lossy(&read(path).unwrap_or_default()).into_owned());
    let is_named = |name: &&VersionName| texts.iter().any(|text| text.contains(name.as_str()));
    kept.iter().map(Kept::name).filter(is_named).collect()
}

#[cfg(test)]
mod tests {
    use smart_sync_store::id::ManifestId;
    use smart_sync_sync::apply::Version;

    use super::*;

    fn kept(number: u64) -> Kept {
        let name = VersionName::parse(format!("smart-sync-{number}").as_bytes()).unwrap();
        let version = Version::new(ManifestId::from_bytes([0; 32]), b"").unwrap().named(name);
        Kept { number, is_pinned: false, version }
    }

    #[test]
    fn a_version_is_in_use_that_was_booted_or_is_mounted() {
        let all: Vec<Kept> = (1..=4).map(kept).collect();
        let read = |path: &str| match path {
            "/proc/cmdline" => {
                Ok(b"root=UUID=1 rootflags=subvol=/.root.smart-sync/smart-sync-2 ro\n".to_vec())
            }
            "/proc/self/mountinfo" => {
                Ok(b"30 1 0:25 /.srv.smart-sync/smart-sync-3 /mnt rw - btrfs /dev/sda1 rw\n".to_vec())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let names: Vec<&str> = named_by(&all, read).into_iter().map(VersionName::as_str).collect();
        assert_eq!(names, ["smart-sync-2", "smart-sync-3"]);
        assert!(named_by(&all, |_| Err(io::ErrorKind::PermissionDenied.into())).is_empty());
    }
}
