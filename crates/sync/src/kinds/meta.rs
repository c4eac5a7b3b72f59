//! What belongs to a role of machines, in a directory for each: `NAME/` with configurations, lists and scripts.
//!
//! An archive of configurations is opened here, within bounds: who unpacks it on a host does so as root.

use std::io::{self, Read};
use std::path::Component;

use smart_sync_store::manifest::Shown;

use super::bounded::Bounded;
use super::{ArtifactKind, AsItIs, Judged, KindError, Refusal, Whole};

/// What a directory of a role has in it.
const PARTS: [&str; 8] = [
    "configs",
    "configs.tar.gz",
    "modules",
    "packages",
    "patches",
    "services",
    "uses",
    "package.accept_keywords",
];
/// The archive among them.
const ARCHIVE: &[u8] = b"configs.tar.gz";
/// The largest archive, and the most that comes out of it.
const ARCHIVE_BYTES_MAX: u64 = 256 << 20;
const UNPACKED_BYTES_MAX: u64 = 2 << 30;
/// The most members of one.
const MEMBERS_MAX: usize = 200_000;
/// The most names that are said one by one.
const NAMES_SHOWN: usize = 10;

/// The kind.
#[derive(Debug)]
pub(super) struct Meta;

impl ArtifactKind for Meta {
    fn name(&self) -> &'static str {
        "meta"
    }

    fn as_it_is(&self) -> Option<&dyn AsItIs> {
        Some(self)
    }
}

impl AsItIs for Meta {
    fn judge(&self, tree: Whole<'_>) -> Result<Judged, KindError> {
        let (mut refused, mut others) = (Vec::new(), Vec::new());
        for entry in tree.listing.entries() {
            let mut names = entry.path.components();
            let part = names.nth(1);
            if !part.is_some_and(|part| PARTS.iter().any(|known| known.as_bytes() == part)) {
                let top: Vec<&[u8]> = entry.path.components().take(2).collect();
                others.push(Shown(&top.join(&b'/')).to_string());
                continue;
            }
            if part != Some(ARCHIVE) {
                continue;
            }
            let bytes = tree.listing.read_small(entry.path.as_bytes(), ARCHIVE_BYTES_MAX)?;
            let mistake = match bytes {
                Some(bytes) => mistake(&bytes),
                None => Some(format!("it is no file of at most {} MiB", ARCHIVE_BYTES_MAX >> 20)),
            };
            refused.extend(mistake.map(|reason| Refusal::new(&entry.path, &reason)));
        }
        if !refused.is_empty() {
            return Err(KindError::Refused(refused));
        }
        others.dedup();
        let notes = super::said_of_others(&others, NAMES_SHOWN).into_iter().collect();
        Ok(Judged { notes, ..Judged::default() })
    }
}

/// Why an archive must not be unpacked.
fn mistake(bytes: &[u8]) -> Option<String> {
    let unpacked = Bounded { input: flate2::bufread::MultiGzDecoder::new(bytes), left: UNPACKED_BYTES_MAX };
    look_into(unpacked).unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            Some(format!("it decompresses to more than {} MiB", UNPACKED_BYTES_MAX >> 20))
        }
        _ => Some(format!("it cannot be read: {error}")),
    })
}

fn look_into(input: impl Read) -> io::Result<Option<String>> {
    let mut archive = tar::Archive::new(input);
    for (at, member) in archive.entries()?.enumerate() {
        if at >= MEMBERS_MAX {
            return Ok(Some(format!("it has more than {MEMBERS_MAX} members")));
        }
        let member = member?;
        let path = member.path_bytes().into_owned();
        let wrong = |what: &str| Ok(Some(format!("{} in it {what}", Shown(&path))));
        let leads_out = |path: &std::path::Path| {
            path.components().any(|part| matches!(part, Component::ParentDir | Component::RootDir))
        };
        if leads_out(&member.path()?) {
            return wrong("leads out of it");
        }
        let kind = member.header().entry_type();
        if kind.is_hard_link() && member.link_name()?.is_none_or(|name| leads_out(&name)) {
            return wrong("is a link that leads out of it");
        }
        let is_usual = kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link();
        if !is_usual {
            return wrong("is a device, a pipe or nothing that is known");
        }
        if kind.is_file() && member.header().mode()? & 0o6000 != 0 {
            return wrong("would run with the rights of its owner or group");
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::kinds::testing::judged;

    fn archive(change: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"etc/hosts");
        header.set_size(0);
        header.set_mode(0o644);
        change(&mut header);
        header.set_cksum();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(header.as_bytes()).unwrap();
        encoder.write_all(&[0; 1024]).unwrap();
        encoder.finish().unwrap()
    }

    fn name(header: &mut tar::Header, name: &[u8]) {
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
    }

    #[test]
    fn archives_that_would_do_harm_are_refused() {
        #[track_caller]
        fn check(bytes: &[u8], expected: Option<&str>) {
            let found = mistake(bytes);
            match expected {
                None => assert_eq!(found, None),
                Some(expected) => {
                    assert!(found.as_ref().is_some_and(|found| found.contains(expected)), "{found:?}");
                }
            }
        }
        check(&archive(|_| ()), None);
        check(&archive(|header| name(header, b"../../etc")), Some("leads out of it"));
        check(&archive(|header| name(header, b"/etc/host")), Some("leads out of it"));
        check(&archive(|header| header.set_entry_type(tar::EntryType::Char)), Some("is a device"));
        check(&archive(|header| header.set_mode(0o4755)), Some("would run with the rights"));
        check(
            &archive(|header| {
                header.set_entry_type(tar::EntryType::Link);
                header.set_link_name("/etc/shadow").unwrap();
            }),
            Some("is a link that leads out of it"),
        );
        check(b"no archive", Some("it cannot be read"));
        check(&archive(|_| ())[..20], Some("it cannot be read"));
    }

    #[test]
    fn what_a_role_does_not_have_is_said() {
        let found =
            judged(&Meta, &[("web/uses", ""), ("web/configs/etc/motd", ""), ("web/notes", ""), ("x", "")]);
        assert_eq!(found.unwrap().notes, ["not known here, and published as they are: web/notes, x"]);
        let refused = judged(&Meta, &[("web/configs.tar.gz", "")]).unwrap_err().to_string();
        assert!(refused.starts_with("web/configs.tar.gz: it cannot be read"), "{refused}");
    }
}
