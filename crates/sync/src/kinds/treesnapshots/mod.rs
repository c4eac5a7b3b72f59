//! Snapshots of ebuild trees, one archive a day, as `emerge-webrsync` asks for them.
//!
//! The tree holds each by its name, with its signature and its digest beside it: a client takes none that lacks one of
//! the two. A snapshot never changes: a client goes on with half of one. What a name promises is looked at before it is
//! published: that the archive is whole, of the day that it is called after, what its digest says, and signed by keys
//! that count, where keys are given.

pub mod archive;
mod name;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;

use md5::{Digest as _, Md5};
use rayon::prelude::*;
use smart_sync_store::count::counted;
use smart_sync_store::id::{ContentId, ContentIdHasher, from_hex, to_hex};
use smart_sync_store::manifest::{Content, TreePath};

use super::beside::{SmallFile, read_small};
use super::detached::{Judge, SignedFile, said_of};
use super::findings::Findings;
use super::follow::Following;
use super::published::tree_path;
use super::{Absent, ArtifactKind, Job, KindError, Prepared, Refusal, file_time};
use crate::source::assembled::{AssembledSource, Part};
use crate::source::{FileStat, SourceError};
use crate::time::UnixTime;
use archive::{ArchiveError, timestamp};
use name::SnapshotName;

/// How many days stay published.
const DAYS_KEPT: usize = 30;
/// How long after its day has begun a snapshot may be made, in seconds: what clients allow.
const DAY_SECONDS_MAX: u64 = 2 * 86400;
/// The largest file that lies beside a snapshot.
const BESIDE_BYTES_MAX: u64 = 64 << 10;
/// The number of bytes that are read at once.
const READ_LEN: usize = 256 << 10;
/// What to do about a snapshot without a signature.
const UNSIGNED_HINT: &str = "fetch the file with .gpgsig behind its name from where the snapshot comes from, or sign it \
                             with `gpg --detach-sign --armor --output NAME.gpgsig NAME`";

/// The kind.
#[derive(Debug)]
pub struct TreeSnapshots;

impl ArtifactKind for TreeSnapshots {
    fn name(&self) -> &'static str {
        "treesnapshots"
    }

    fn judges_signatures(&self) -> bool {
        true
    }

    fn is_dated_by_content(&self) -> bool {
        true
    }

    fn following(&self) -> Following {
        Following::Known(&upstream::FollowSnapshots)
    }

    fn keeps_newest(&self) -> bool {
        true
    }

    fn prepare(&self, job: Job<'_>) -> Result<Prepared, KindError> {
        let Job { directory, before, absent, findings, signatures, newest, now, .. } = job;
        let published = before.map_or_else(|| Ok(BTreeMap::new()), super::Before::files)?;
        let files = by_name(directory)?;
        let found = look(directory, &files, findings, now)?;
        let mut parts = BTreeMap::new();
        let mut refused = Vec::new();
        for found in &found {
            match admit(directory, &files, found, &published)? {
                Ok(admitted) => parts.extend(admitted),
                Err(refusal) => refused.push(refusal),
            }
        }
        let mut signers = BTreeMap::new();
        if let Some(ring) = signatures.key_ring {
            let judge = Judge { directory, before, ring, now };
            let files: Vec<SignedFile<'_>> =
                found.iter().map(|found| signed_file(found, &files, &published)).collect::<Result<_, _>>()?;
            for (found, judged) in found.iter().zip(judge.judge(&files, findings)?) {
                match judged {
                    Ok(by) => signers.extend([(tree_path(&found.name.name)?, by)]),
                    Err(error) => {
                        let refusal = Refusal::of(found.path, &error);
                        refused.push(Refusal { hint: Some(error.hint()), ..refusal });
                    }
                }
            }
        }
        if !refused.is_empty() {
            return Err(KindError::Refused(refused));
        }
        if absent == Absent::Stays {
            for (path, content) in published.iter().filter(|(path, _)| snapshot_of(path).is_some()) {
                parts.entry(path.clone()).or_insert(Part::Published(*content));
            }
        }
        let days_kept = newest.unwrap_or(DAYS_KEPT).max(1);
        let gone = drop_old(&mut parts, days_kept);
        let days: BTreeSet<_> = parts.keys().filter_map(snapshot_of).map(|name| name.date).collect();
        let count = counted(days.len() as u64, "day", "days");
        let mut notes = vec![format!("the tree has snapshots of {count}")];
        if gone > 0 {
            let count = counted(gone as u64, "day is", "days are");
            let kept = counted(days_kept as u64, "day is", "days are");
            notes.push(format!("{count} left out: {kept} kept"));
        }
        notes.extend(said_of("snapshots", signers.values()));
        let newest = found.iter().map(|found| found.looked.time).max();
        let content_time = newest.and_then(UnixTime::new).filter(|newest| *newest <= now).unwrap_or(now);
        signers.retain(|path, _| parts.contains_key(path));
        let signers = signers.into_iter().map(|(path, signer)| (path, signer.primary.to_string())).collect();
        Ok(Prepared { parts, content_time, notes, signers })
    }
}

/// The snapshot that a path is, or lies beside.
fn snapshot_of(path: &TreePath) -> Option<SnapshotName> {
    let name = str::from_utf8(path.as_bytes()).ok()?;
    let name = name.strip_suffix(".gpgsig").or_else(|| name.strip_suffix(".md5sum")).unwrap_or(name);
    SnapshotName::parse(name)
}

/// Takes out what belongs to days before the newest ones; how many days that were.
fn drop_old(parts: &mut BTreeMap<TreePath, Part>, days_kept: usize) -> usize {
    let days: BTreeSet<_> = parts.keys().filter_map(snapshot_of).map(|name| name.date).collect();
    let Some(oldest) = days.iter().rev().nth(days_kept - 1).copied() else { return 0 };
    parts.retain(|path, _| snapshot_of(path).is_none_or(|name| name.date >= oldest));
    days.range(..oldest).count()
}

/// The files of a directory by their names, in whatever directory below it they are.
fn by_name(directory: &AssembledSource) -> Result<BTreeMap<String, (&TreePath, &FileStat)>, KindError> {
    let mut files: BTreeMap<String, (&TreePath, &FileStat)> = BTreeMap::new();
    let mut refused = Vec::new();
    for (path, stat) in directory.files() {
        let Ok(name) = str::from_utf8(path.file_name()) else { continue };
        if snapshot_of(&tree_path(name)?).is_some() && files.insert(name.to_owned(), (path, stat)).is_some() {
            refused.push(Refusal::new(path, "another directory has a file of this name"));
        }
    }
    if refused.is_empty() { Ok(files) } else { Err(KindError::Refused(refused)) }
}

/// A snapshot of the directory.
struct Found<'a> {
    path: &'a TreePath,
    name: SnapshotName,
    looked: Looked,
}

/// What was found in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looked {
    content: ContentId,
    md5: [u8; 16],
    /// The time of its tree.
    time: u64,
}

/// Why a snapshot was not looked into to its end.
enum Unlooked {
    Source(SourceError),
    Archive(ArchiveError),
}

/// Looks into every snapshot. Those that did not change are not read again.
fn look<'a>(
    directory: &AssembledSource,
    files: &BTreeMap<String, (&'a TreePath, &'a FileStat)>,
    findings: &mut Findings,
    now: UnixTime,
) -> Result<Vec<Found<'a>>, KindError> {
    let snapshots: Vec<_> = files
        .iter()
        .filter_map(|(name, (path, stat))| Some((SnapshotName::parse(name)?, *path, *stat)))
        .map(|(name, path, stat)| {
            let known = findings.get(path, stat).and_then(decode);
            (name, path, stat, known)
        })
        .collect();
    let looked: Vec<Result<Looked, Unlooked>> = snapshots
        .par_iter()
        .map(|(name, path, _, known)| known.map_or_else(|| look_into(directory, path, name), Ok))
        .collect();
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    for ((name, path, stat, _), looked) in snapshots.into_iter().zip(looked) {
        match looked {
            Ok(looked) => {
                findings.remember(path, stat, file_time(now), &encode(&looked));
                found.push(Found { path, name, looked });
            }
            Err(Unlooked::Source(error)) => return Err(error.into()),
            Err(Unlooked::Archive(error)) => refused.push(Refusal::of(path, &error)),
        }
    }
    if refused.is_empty() { Ok(found) } else { Err(KindError::Refused(refused)) }
}

fn look_into(directory: &AssembledSource, path: &TreePath, name: &SnapshotName) -> Result<Looked, Unlooked> {
    let mut file = directory.open(path).map_err(Unlooked::Source)?;
    let mut hashing = Hashing { input: &mut file, content: ContentIdHasher::default(), md5: Md5::new() };
    let time = timestamp(BufReader::with_capacity(READ_LEN, &mut hashing), name.codec);
    let time = time.map_err(Unlooked::Archive)?;
    let rest = std::io::copy(&mut hashing, &mut std::io::sink());
    let lost = |source| SourceError::Io { operation: "reading", path: path.as_bytes().to_vec(), source };
    rest.map_err(lost).map_err(Unlooked::Source)?;
    Ok(Looked { content: hashing.content.finish(), md5: hashing.md5.finalize().into(), time })
}

/// Hashes what is read from a file.
struct Hashing<'a> {
    input: &'a mut std::fs::File,
    content: ContentIdHasher,
    md5: Md5,
}

impl std::io::Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.content.update(&buffer[..read]);
        self.md5.update(&buffer[..read]);
        Ok(read)
    }
}

/// A snapshot with what lies beside it, or why it must not be published.
fn admit(
    directory: &AssembledSource,
    files: &BTreeMap<String, (&TreePath, &FileStat)>,
    found: &Found<'_>,
    published: &BTreeMap<TreePath, Content>,
) -> Result<Result<Vec<(TreePath, Part)>, Refusal>, KindError> {
    let Found { path, name, looked } = found;
    let refuse = |reason: &str| Ok(Err(Refusal::new(path, reason)));
    let place = tree_path(&name.name)?;
    if published.get(&place).is_some_and(|content| content.id != looked.content) {
        return refuse("a snapshot of this name is published, and is another one");
    }
    if !(name.begin()..=name.begin() + DAY_SECONDS_MAX).contains(&looked.time) {
        return refuse(
            "its metadata/timestamp.x says another day than its name, and clients would not take it",
        );
    }
    let (signature, digest) = (tree_path(&name.signature())?, tree_path(&name.digest())?);
    let signature_part = match (files.get(&name.signature()), published.get(&signature)) {
        (Some((file, stat)), _) if stat.size > 0 && stat.size <= BESIDE_BYTES_MAX => {
            Part::File((*file).clone())
        }
        (Some(_), _) => return refuse("the file with its signature is empty or too large to be one"),
        (None, Some(content)) => Part::Published(*content),
        (None, None) => {
            let reason = "there is no signature beside it, without which clients do not take it";
            return Ok(Err(Refusal { hint: Some(UNSIGNED_HINT), ..Refusal::new(path, reason) }));
        }
    };
    let digest_part = match files.get(&name.digest()) {
        Some((file, stat)) => {
            let text = read_small(directory, file, stat, BESIDE_BYTES_MAX)?;
            if text.and_then(|text| md5_of(&text)) != Some(looked.md5) {
                return refuse("it is not what the file with its digest says");
            }
            Part::File((*file).clone())
        }
        None => Part::Made(format!("{}  {}\n", to_hex(&looked.md5), name.name).into_bytes().into()),
    };
    Ok(Ok(vec![(place, Part::File((*path).clone())), (signature, signature_part), (digest, digest_part)]))
}

/// A snapshot with the signature that lies beside it, or is published for it.
fn signed_file<'f>(
    found: &Found<'f>,
    files: &BTreeMap<String, (&'f TreePath, &'f FileStat)>,
    published: &BTreeMap<TreePath, Content>,
) -> Result<SignedFile<'f>, KindError> {
    let name = found.name.signature();
    let here = files.get(&name).map(|(path, stat)| SmallFile::Here(path, stat));
    let published = published.get(&tree_path(&name)?).map(|content| SmallFile::Published(*content));
    Ok(SignedFile { path: found.path, content: found.looked.content, signature: here.or(published) })
}

/// The digest that stands first in such a file, which is all that clients read of it.
fn md5_of(text: &[u8]) -> Option<[u8; 16]> {
    let first = text.split(u8::is_ascii_whitespace).next()?;
    from_hex(&str::from_utf8(first).ok()?.to_ascii_lowercase())
}

fn encode(looked: &Looked) -> Vec<u8> {
    [&looked.content.as_bytes()[..], &looked.md5, &looked.time.to_be_bytes()].concat()
}

fn decode(bytes: &[u8]) -> Option<Looked> {
    let (content, rest) = bytes.split_first_chunk::<32>()?;
    let (md5, rest) = rest.split_first_chunk::<16>()?;
    let time = u64::from_be_bytes(rest.try_into().ok()?);
    Some(Looked { content: ContentId::from_bytes(*content), md5: *md5, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_days_stay() {
        let mut parts: BTreeMap<TreePath, Part> = BTreeMap::new();
        for day in 1..=31 {
            for end in ["", ".gpgsig", ".md5sum"] {
                let name = format!("gentoo-202610{day:02}.tar.xz{end}");
                parts.insert(tree_path(&name).expect("a path"), Part::Made(Box::default()));
            }
        }
        assert_eq!((drop_old(&mut parts, DAYS_KEPT), parts.len()), (1, 90));
        assert!(parts.keys().all(|path| !path.to_string().contains("20261001")));
        assert_eq!(drop_old(&mut parts, DAYS_KEPT), 0);
        assert_eq!((drop_old(&mut parts, 2), parts.len()), (28, 6));
    }

    #[test]
    fn a_digest_is_what_stands_first() {
        let digest = "0123456789abcdef0123456789abcdef";
        let expected = from_hex(digest);
        for text in [format!("{digest}  gentoo.tar.xz\n"), digest.to_uppercase(), format!("{digest}\t*x")] {
            assert_eq!(md5_of(text.as_bytes()), expected, "{text}");
        }
        for text in ["", " ", &digest[1..], "MD5 (x) = 00"] {
            assert_eq!(md5_of(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_remembered_is_read_again() {
        let looked = Looked { content: ContentId::of(b"a"), md5: [7; 16], time: 1_796_000_000 };
        assert_eq!(decode(&encode(&looked)), Some(looked));
        assert_eq!(decode(&encode(&looked)[1..]), None);
    }
}
