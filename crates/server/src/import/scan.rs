//! Looking through a tree for what must not be taken over: see [`super::secrets`].

use std::io::Read;

use smart_sync_store::manifest::{Attributes, TreePath};
use smart_sync_sync::source::listed::{Listing, ReadEntry};
use smart_sync_sync::source::{SourceEntry, SourceError};

use super::secrets::{self, Secrets};

/// Larger files are not texts that somebody wrote.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// The beginning of a file that says whether it is a text.
const HEAD_LEN: usize = 8 << 10;
/// The largest archive that is looked into, and the most that comes out of it.
const ARCHIVE_BYTES_MAX: u64 = 32 << 20;
const UNPACKED_BYTES_MAX: u64 = 256 << 20;
/// The most members of one.
const MEMBERS_MAX: usize = 20_000;

/// A file that is not taken over as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: TreePath,
    /// What was found in it, and where.
    pub(crate) why: String,
    /// What it becomes; nothing where all of it is left out.
    pub(crate) instead: Option<Box<[u8]>>,
}

/// What a tree is, for whoever looks through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Files of somebody who configures machines: single lines can be left out.
    Lines,
    /// Files that are of use only as they are.
    Files,
    /// Files that somebody else has signed and published: only names count.
    Names,
}

/// Looks through all files of a tree.
pub(crate) fn look(tree: &Listing, rule: Rule) -> Result<Vec<Found>, SourceError> {
    let files: Vec<&SourceEntry> = tree.files().map(|(entry, _)| entry).collect();
    let found = tree.look_at(&files, |entry, read| look_into(entry, rule, read))?;
    Ok(found.into_iter().flatten().collect())
}

fn look_into(entry: &SourceEntry, rule: Rule, read: ReadEntry<'_>) -> Result<Option<Found>, SourceError> {
    let found = |why: String, instead| Some(Found { path: entry.path.clone(), why, instead });
    if let Some(what) = secrets::of_name(entry.path.as_bytes()) {
        return Ok(found(what.to_owned(), None));
    }
    let size = entry.file_size().unwrap_or(0);
    if rule == Rule::Names || size > ARCHIVE_BYTES_MAX || size > TEXT_BYTES_MAX && !is_archive(entry) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    read(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    if is_archive(entry) {
        return Ok(of_archive(&bytes).and_then(|why| found(why, None)));
    }
    Ok(match of_bytes(&bytes, rule == Rule::Files || is_executable(entry)) {
        Secrets::None => None,
        Secrets::Whole(line, what) => found(format!("line {line}: {what}"), None),
        Secrets::Lines(lines) => {
            let instead = secrets::without(&bytes, &lines).into();
            let said: Vec<String> = lines.iter().map(|(line, what)| format!("line {line}: {what}")).collect();
            found(said.join(", "), Some(instead))
        }
    })
}

fn of_bytes(bytes: &[u8], is_program: bool) -> Secrets {
    if bytes.iter().take(HEAD_LEN).any(|byte| *byte == 0) {
        return Secrets::None;
    }
    secrets::of_text(bytes, is_program)
}

fn is_executable(entry: &SourceEntry) -> bool {
    match &entry.attributes {
        Attributes::Git(mode) => mode.is_executable(),
        Attributes::System(metadata) => metadata.as_ref().is_some_and(|metadata| metadata.mode & 0o111 != 0),
    }
}

fn is_archive(entry: &SourceEntry) -> bool {
    let name = entry.path.file_name();
    [&b".tar"[..], b".tar.gz", b".tgz"].iter().any(|end| name.ends_with(end))
}

/// What stands in an archive that must not be taken over. One that cannot be read to its end may hold anything, and is
/// left out too.
fn of_archive(bytes: &[u8]) -> Option<String> {
    let found = if bytes.starts_with(b"\x1f\x8b") {
        of_members(flate2::bufread::MultiGzDecoder::new(bytes))
    } else {
        of_members(bytes)
    };
    found.unwrap_or_else(|error| Some(format!("it cannot be looked into: {error}")))
}

fn of_members(input: impl Read) -> std::io::Result<Option<String>> {
    let mut archive = tar::Archive::new(input.take(UNPACKED_BYTES_MAX));
    for (at, member) in archive.entries()?.enumerate() {
        if at >= MEMBERS_MAX {
            return Err(std::io::Error::other("it has too many members"));
        }
        let mut member = member?;
        let path = member.path_bytes().into_owned();
        let name = || smart_sync_store::manifest::Shown(&path).to_string();
        if let Some(what) = secrets::of_name(&path) {
            return Ok(Some(format!("{} in it: {what}", name())));
        }
        if member.size() > TEXT_BYTES_MAX {
            continue;
        }
        let mut bytes = Vec::new();
        member.by_ref().take(TEXT_BYTES_MAX).read_to_end(&mut bytes)?;
        match of_bytes(&bytes, true) {
            Secrets::None => {}
            Secrets::Whole(line, what) => return Ok(Some(format!("{} in it, line {line}: {what}", name()))),
            Secrets::Lines(lines) => {
                return Ok(lines
                    .first()
                    .map(|(line, what)| format!("{} in it, line {line}: {what}", name())));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn archives_are_looked_into() {
        assert_eq!(of_archive(&archive(&[("etc/hosts", b"127.0.0.1 localhost\n")])), None);
        let password = archive(&[("etc/hosts", b""), ("etc/conf.d/app", b"A=1\nPASSWORD=hunter2\n")]);
        let expected = "etc/conf.d/app in it, line 2: what looks like a password";
        assert_eq!(of_archive(&password).as_deref(), Some(expected));
        assert!(
            of_archive(&archive(&[("etc/shadow", b"")]))
                .is_some_and(|why| why.starts_with("etc/shadow in it"))
        );
        assert!(of_archive(&password[..700]).is_some());
        assert!(of_archive(b"no archive").is_some_and(|why| why.starts_with("it cannot be looked into")));
    }
}
