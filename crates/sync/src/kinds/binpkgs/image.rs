//! The files of a package, listed without unpacking them anywhere.
//!
//! The rules are those of Portage and stricter: what it would refuse to install is refused, and so is a file below a
//! symbolic link of the same image, which no image of a real directory holds.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::{Shown, TreePath};

use super::PackageError;
use super::codec::{Codec, CodecError};
use super::digest::PIECE_LEN;
use super::package::Container;
use crate::kinds::bounded::Bounded;
use crate::source::tar::TarError;
use crate::source::tar::framing::{Member, MemberKind, Members};

/// The most files, links and directories of an image.
const ENTRIES_MAX: usize = 2_000_000;
/// The most bytes of all their paths.
const PATHS_BYTES_MAX: usize = 512 << 20;
/// How many bytes may come out of one that is compressed, beyond [`FREE_BYTES`].
const GROWTH_MAX: u64 = 2000;
/// The bytes that may come out of any image.
const FREE_BYTES: u64 = 64 << 20;

/// Something that a package installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    /// Where, below the root of the system.
    pub path: TreePath,
    /// What it is.
    pub kind: ImageKind,
    /// Its permissions, set-id bits included.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What something that a package installs is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageKind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// The number of its bytes.
        size: u64,
        /// Their id.
        content: ContentId,
    },
    /// A symbolic link, to wherever it says.
    Symlink(Vec<u8>),
    /// Another name of a file that came before.
    Hardlink(TreePath),
}

/// Reads an image, of which `packed_len` bytes are in `input`, and hands over each entry as it comes.
pub fn list(
    input: impl BufRead,
    packed_len: u64,
    codec: Codec,
    container: Container,
    mut each: impl FnMut(ImageEntry),
) -> Result<(), PackageError> {
    let (mut members, read) = members_of(input, packed_len, codec)?;
    let mut listing = Listing::default();
    while let Some(member) = members.next_member().map_err(read)? {
        let content = match member.kind {
            MemberKind::File => Some(hash(&mut members).map_err(read)?),
            _ => None,
        };
        if let Some(entry) = listing.entry(&member, content, container)? {
            each(entry);
        }
    }
    Ok(())
}

/// The members of an image, of which `packed_len` bytes are in `input`, and what an error in reading one is.
pub(super) fn members_of<'a>(
    input: impl BufRead + 'a,
    packed_len: u64,
    codec: Codec,
) -> Result<(Members<impl Read + 'a>, impl Fn(TarError) -> PackageError + Copy), PackageError> {
    let failed = |error| PackageError::Codec { part: "image", error };
    let limit = FREE_BYTES.saturating_add(packed_len.saturating_mul(GROWTH_MAX));
    let plain = codec.decoder(input.take(packed_len)).map_err(failed)?;
    let read = move |error: TarError| match error {
        TarError::Read(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            failed(CodecError::TooLarge { limit })
        }
        TarError::Read(error) => failed(CodecError::Decode { codec, error }),
        other => PackageError::Image(other.to_string()),
    };
    Ok((Members::new(Bounded { input: plain, left: limit }), read))
}

/// The size and the id of the current member.
fn hash(members: &mut Members<impl Read>) -> Result<(u64, ContentId), TarError> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_LEN];
    loop {
        let len = members.read_body(&mut piece)?;
        if len == 0 {
            return Ok((hasher.count(), ContentId::from_bytes(*hasher.finalize().as_bytes())));
        }
        hasher.update(&piece[..len]);
    }
}

/// What came so far: for each path whether it is a file, a directory or something else.
#[derive(Default)]
pub(super) struct Listing {
    known: BTreeMap<TreePath, Known>,
    paths_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    File,
    Directory,
    Symlink,
}

impl Listing {
    /// The entry of a member; none for the root itself.
    pub(super) fn entry(
        &mut self,
        member: &Member,
        content: Option<(u64, ContentId)>,
        container: Container,
    ) -> Result<Option<ImageEntry>, PackageError> {
        let refuse = |reason: &str| PackageError::Image(format!("{}: {reason}", Shown(&member.name)));
        let invalid = |error: smart_sync_store::manifest::PathError| refuse(&error.to_string());
        let is_directory = member.kind == MemberKind::Directory;
        let path = match below_root(&member.name, container) {
            None => return Err(refuse("it is not below the root of the image")),
            Some(b"") if is_directory => return Ok(None),
            Some(path) if is_directory => path.strip_suffix(b"/").unwrap_or(path),
            Some(path) => path,
        };
        let path = TreePath::new(path).map_err(invalid)?;
        let above = above(&path).find_map(|above| self.known.get(&above));
        if matches!(above, Some(Known::File | Known::Symlink)) {
            return Err(refuse("it is below a file or a link of the same image"));
        }
        let (kind, known) = match (&member.kind, content) {
            (MemberKind::Directory, _) => (ImageKind::Directory, Known::Directory),
            (MemberKind::File, Some((size, content))) => (ImageKind::File { size, content }, Known::File),
            (MemberKind::Symlink(target), _) => (ImageKind::Symlink(target.clone()), Known::Symlink),
            (MemberKind::Hardlink(target), _) => {
                let target = below_root(target, container)
                    .and_then(|target| TreePath::new(target).ok())
                    .filter(|target| self.known.get(target) == Some(&Known::File))
                    .ok_or_else(|| refuse("it is a hard link to no file that came before it"))?;
                (ImageKind::Hardlink(target), Known::File)
            }
            (MemberKind::Fifo, _) => return Err(refuse("it is a named pipe")),
            _ => return Err(refuse("it is a device")),
        };
        // A directory may be there already, because something below it came first.
        if self
            .known
            .get(&path)
            .is_some_and(|before| (*before, known) != (Known::Directory, Known::Directory))
        {
            return Err(refuse("it comes twice"));
        }
        self.remember(&path, known)?;
        let Member { mode, uid, gid, .. } = *member;
        Ok(Some(ImageEntry { path, kind, mode, uid, gid }))
    }

    /// Notes a path, and that what it lies in are directories.
    fn remember(&mut self, path: &TreePath, known: Known) -> Result<(), PackageError> {
        self.add(path.clone(), known)?;
        for directory in above(path) {
            if self.known.contains_key(&directory) {
                break;
            }
            self.add(directory, Known::Directory)?;
        }
        Ok(())
    }

    fn add(&mut self, path: TreePath, known: Known) -> Result<(), PackageError> {
        self.paths_bytes += path.as_bytes().len();
        self.known.insert(path, known);
        if self.known.len() > ENTRIES_MAX || self.paths_bytes > PATHS_BYTES_MAX {
            Err(PackageError::Image("it has more entries than an image may have".to_owned()))
        } else {
            Ok(())
        }
    }
}

/// The directories that a path lies in, from the innermost out.
fn above(path: &TreePath) -> impl Iterator<Item = TreePath> {
    let parent = |path: &TreePath| path.parent().and_then(|parent| TreePath::new(parent).ok());
    std::iter::successors(parent(path), move |path| parent(path))
}

/// The path of a member below the root of the system.
fn below_root(name: &[u8], container: Container) -> Option<&[u8]> {
    match container {
        Container::Gpkg if name == b"image" => Some(b""),
        Container::Gpkg => name.strip_prefix(b"image/"),
        Container::Xpak if name == b"." => Some(b""),
        Container::Xpak => Some(name.strip_prefix(b"./").unwrap_or(name)),
    }
}
