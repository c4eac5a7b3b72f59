//! Modules that come as an archive: read once, member by member, and put aside.
//!
//! What an archive says is not believed: members lie below `lib/modules/RELEASE`, are files and directories, come once,
//! and altogether are no more than a host would take.

use std::collections::BTreeMap;
use std::io::{self, BufReader};

use smart_sync_store::manifest::{Shown, TreePath};

use super::inspect;
use super::members::below_modules;
use crate::kinds::binpkgs::codec::{Codec, CodecError};
use crate::kinds::bounded::Bounded;
use crate::source::assembled::{AssembledSource, Part};
use crate::source::tar::TarError;
use crate::source::tar::framing::{Member, MemberKind, Members};

/// The most bytes that the modules of a kernel have.
pub(super) const MODULES_BYTES_MAX: u64 = 2 << 30;
/// The most files that they are.
pub(super) const MODULES_MAX: usize = 100_000;
/// What tar writes besides contents: less than this for each file, and this much anyway.
const FRAMING_BYTES_MAX: u64 = 256 << 20;
/// Links to the sources of a kernel, which are those of the machine that built it.
const OF_THE_BUILDER: [&str; 2] = ["build", "source"];
/// The bits of a mode by which a program gets the rights of its owner.
const SET_ID: u32 = 0o6000;

/// The modules that were in an archive.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// The releases that its members name.
    pub(super) releases: Vec<String>,
    /// The files, by their paths below the directory of the modules.
    pub(super) files: BTreeMap<TreePath, Part>,
}

/// Why an archive is refused.
#[derive(Debug)]
pub(super) enum ArchiveError {
    /// It is not what it should be.
    Refused(String),
    /// It cannot be put aside.
    Aside(TarError),
}

/// Reads an archive to its end.
pub(super) fn unpack(
    archive: std::fs::File,
    codec: Codec,
    directory: &AssembledSource,
) -> Result<Unpacked, ArchiveError> {
    let refused = |error: CodecError| ArchiveError::Refused(chain(&error));
    let plain = codec.decoder(BufReader::new(archive)).map_err(refused)?;
    let left = MODULES_BYTES_MAX + FRAMING_BYTES_MAX;
    let mut members = Members::new(Bounded { input: plain, left });
    let mut unpacked = Unpacked::default();
    let mut bytes = 0;
    while let Some(member) = members.next_member().map_err(of_tar)? {
        let Some((release, inside)) = place(&member)? else { continue };
        if !unpacked.releases.contains(&release) {
            unpacked.releases.push(release);
        }
        let part = match &member.kind {
            MemberKind::File => file(&mut members, &member, &inside, directory, &mut bytes)?,
            MemberKind::Hardlink(target) => linked(&unpacked, &member, target)?,
            _ => return Err(refuse(&member, "it is neither a file nor a directory")),
        };
        if unpacked.files.insert(inside, part).is_some() {
            return Err(refuse(&member, "it comes twice"));
        }
        if unpacked.files.len() > MODULES_MAX {
            return Err(ArchiveError::Refused(format!("it holds more than {MODULES_MAX} files")));
        }
    }
    match file_above(&unpacked.files) {
        Some(path) => Err(ArchiveError::Refused(format!("{path} lies below a file"))),
        None => Ok(unpacked),
    }
}

/// The release that a member belongs to, and where it goes; none for what is passed over.
fn place(member: &Member) -> Result<Option<(String, TreePath)>, ArchiveError> {
    let name = str::from_utf8(&member.name).map_err(|_| refuse(member, "its name is no text"))?;
    let name = name.strip_prefix("./").unwrap_or(name);
    let is_directory = member.kind == MemberKind::Directory;
    let name = if is_directory { name.strip_suffix('/').unwrap_or(name) } else { name };
    if matches!(name, "" | ".") && is_directory {
        return Ok(None);
    }
    let path = TreePath::new(name.as_bytes()).map_err(|error| refuse(member, &error.to_string()))?;
    if is_directory {
        let above = ["lib", "lib/modules", "usr", "usr/lib", "usr/lib/modules"];
        let is_there = above.contains(&name) || below_modules(&format!("{name}/")).is_some();
        return if is_there { Ok(None) } else { Err(elsewhere(member)) };
    }
    let text = str::from_utf8(path.as_bytes()).map_err(|_| elsewhere(member))?;
    let (release, inside) = below_modules(text).ok_or_else(|| elsewhere(member))?;
    match &member.kind {
        MemberKind::Symlink(_) if OF_THE_BUILDER.contains(&inside) => return Ok(None),
        MemberKind::Symlink(_) => {
            return Err(refuse(member, "it is a symbolic link, which modules have none of"));
        }
        _ => {}
    }
    if member.mode & SET_ID != 0 {
        return Err(refuse(member, "it would be run with the rights of its owner"));
    }
    let inside = TreePath::new(inside.as_bytes()).map_err(|error| refuse(member, &error.to_string()))?;
    Ok(Some((release.to_owned(), inside)))
}

fn file(
    members: &mut Members<impl io::Read>,
    member: &Member,
    inside: &TreePath,
    directory: &AssembledSource,
    bytes: &mut u64,
) -> Result<Part, ArchiveError> {
    let mut head = Vec::new();
    let mut reading = Ok(());
    let part = directory.put_aside(&mut |piece| match members.read_body(piece) {
        Ok(len) => {
            let missing = usize::try_from(inspect::MODULE_BYTES).unwrap_or(usize::MAX) - head.len();
            head.extend_from_slice(&piece[..len.min(missing)]);
            Ok(len)
        }
        Err(error) => {
            reading = Err(of_tar(error));
            Ok(0)
        }
    });
    reading?;
    let part = part.map_err(ArchiveError::Aside)?;
    if let Part::Aside { len, .. } = part {
        *bytes += len;
    }
    if *bytes > MODULES_BYTES_MAX {
        return Err(too_large());
    }
    if inspect::is_module(inside.file_name()) {
        inspect::module(inside.file_name(), &head).map_err(|reason| refuse(member, reason))?;
    }
    Ok(part)
}

fn linked(unpacked: &Unpacked, member: &Member, target: &[u8]) -> Result<Part, ArchiveError> {
    let target = str::from_utf8(target).unwrap_or_default();
    let inside = below_modules(target.strip_prefix("./").unwrap_or(target)).map(|(_, inside)| inside);
    let found = inside
        .and_then(|inside| TreePath::new(inside.as_bytes()).ok())
        .and_then(|inside| unpacked.files.get(&inside).cloned());
    found.ok_or_else(|| refuse(member, "it is a hard link to no file that came before it"))
}

/// A path that lies below a file.
fn file_above(files: &BTreeMap<TreePath, Part>) -> Option<&TreePath> {
    files.keys().find(|path| {
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut above = slashes.filter_map(|at| TreePath::new(&bytes[..at]).ok());
        above.any(|directory| files.contains_key(&directory))
    })
}

fn elsewhere(member: &Member) -> ArchiveError {
    refuse(member, "it does not lie below lib/modules/RELEASE")
}

fn refuse(member: &Member, reason: &str) -> ArchiveError {
    ArchiveError::Refused(format!("{}: {reason}", Shown(&member.name)))
}

fn too_large() -> ArchiveError {
    ArchiveError::Refused(format!("it holds more than {} GiB", MODULES_BYTES_MAX >> 30))
}

fn of_tar(error: TarError) -> ArchiveError {
    match error {
        TarError::Read(error) if error.kind() == io::ErrorKind::FileTooLarge => too_large(),
        error => ArchiveError::Refused(chain(&error)),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}
