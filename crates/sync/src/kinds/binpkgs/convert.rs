//! A package of the older form as a GPKG: the same metadata and the same files, in another container.
//!
//! The files are decompressed, written below `image/` and compressed again as they go by. How long the result is has to
//! stand before it in the container, so that it is written to a file of its own first. Each file is held to the rules for
//! images on the way.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use super::PackageError;
use super::container::{ContainerWriter, MakeError, plain_header};
use super::image::{ImageKind, Listing, members_of};
use super::package::{Container, Package};
use crate::openpgp::SigningKey;
use crate::source::tar::TarError;
use crate::source::tar::framing::{Member, Members};
use crate::time::UnixTime;

/// How well is compressed: as Portage does where nothing else is said.
const ZSTD_LEVEL: i32 = 3;
/// The longest name that a header holds.
const NAME_LEN_MAX: usize = 100;

/// Writes a package of the older form as a GPKG, signed where there is a key. `scratch` is an empty file.
pub(super) fn convert(
    mut source: impl Read + Seek,
    package: &Package,
    scratch: File,
    key: Option<&SigningKey>,
    now: UnixTime,
    out: impl Write,
) -> Result<(), MakeError> {
    let text = |key| package.metadata.text(key).map_err(MakeError::Package);
    let basename = match (text("PF")?, text("BUILD_ID")?) {
        (name, build) if build.is_empty() => name,
        (name, build) => format!("{name}-{build}"),
    };
    source.seek(SeekFrom::Start(package.image.range.start)).map_err(PackageError::Read)?;
    let packed_len = package.image.range.end - package.image.range.start;
    let mut scratch = repack(BufReader::new(source), packed_len, package, scratch)?;
    let len = scratch.seek(SeekFrom::End(0)).and_then(|len| scratch.rewind().map(|()| len));
    let len = len.map_err(MakeError::Write)?;
    let metadata = metadata(package, now).map_err(MakeError::Write)?;
    let mut writer = ContainerWriter::new(out, &basename, key, now)?;
    writer.part("metadata.tar.zst", metadata.len() as u64, &metadata[..])?;
    writer.part("image.tar.zst", len, scratch)?;
    writer.finish()
}

/// The archive of what the package says of itself.
fn metadata(package: &Package, now: UnixTime) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?);
    for (key, value) in package.metadata.iter() {
        let mut header = plain_header(value.len() as u64, now);
        archive.append_data(&mut header, format!("metadata/{key}"), value)?;
    }
    archive.into_inner()?.finish()
}

/// Writes the files of a package below `image/`, compressed.
fn repack(input: impl io::BufRead, packed_len: u64, package: &Package, out: File) -> Result<File, MakeError> {
    let (mut members, read) = members_of(input, packed_len, package.image.codec)?;
    let encoder = zstd::Encoder::new(BufWriter::new(out), ZSTD_LEVEL).map_err(MakeError::Write)?;
    let mut archive = tar::Builder::new(encoder);
    let mut listing = Listing::default();
    while let Some(member) = members.next_member().map_err(read)? {
        let size = members.body_left();
        // What a file holds is not looked at here: its place and kind are.
        let content = (size, smart_sync_store::id::ContentId::from_bytes([0; 32]));
        let Some(entry) = listing.entry(&member, Some(content), Container::Xpak)? else { continue };
        let mut name = [b"image/", entry.path.as_bytes()].concat();
        let (kind, link) = match &entry.kind {
            ImageKind::Directory => {
                name.push(b'/');
                (tar::EntryType::Directory, Vec::new())
            }
            ImageKind::File { .. } => (tar::EntryType::Regular, Vec::new()),
            ImageKind::Symlink(target) => (tar::EntryType::Symlink, target.clone()),
            ImageKind::Hardlink(target) => (tar::EntryType::Link, [b"image/", target.as_bytes()].concat()),
        };
        let size = if kind == tar::EntryType::Regular { size } else { 0 };
        let mut header = plain_header(size, UnixTime::EPOCH);
        header.set_entry_type(kind);
        own(&mut header, &member);
        let records = records(&member, &name, &link);
        if !records.is_empty() {
            let mut extended = plain_header(records.len() as u64, UnixTime::EPOCH);
            extended.set_entry_type(tar::EntryType::XHeader);
            put_name(&mut extended, b"image/PaxHeader");
            extended.set_cksum();
            archive.append(&extended, &records[..]).map_err(MakeError::Write)?;
        }
        put_name(&mut header, &name);
        let link_field = &mut header.as_old_mut().linkname;
        let len = link.len().min(NAME_LEN_MAX);
        link_field[..len].copy_from_slice(&link[..len]);
        header.set_cksum();
        let mut body = Body { members: &mut members, failure: None, left: size };
        let written = archive.append(&header, &mut body);
        if let Some(failure) = body.failure {
            return Err(read(failure).into());
        }
        written.map_err(MakeError::Write)?;
    }
    let finished = archive.into_inner().and_then(zstd::Encoder::finish);
    let out = finished.and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
    out.map_err(MakeError::Write)
}

/// Whose a member is, and when it was changed.
fn own(header: &mut tar::Header, member: &Member) {
    header.set_mode(member.mode);
    header.set_uid(u64::from(member.uid));
    header.set_gid(u64::from(member.gid));
    header.set_mtime(u64::try_from(member.modified.seconds).unwrap_or_default());
    if let Some(gnu) = header.as_gnu_mut() {
        for (field, name) in [(&mut gnu.uname, &member.user), (&mut gnu.gname, &member.group)] {
            // A name that does not fit is none: the number counts.
            if name.len() < field.len() {
                field[..name.len()].copy_from_slice(name);
            }
        }
    }
}

fn put_name(header: &mut tar::Header, name: &[u8]) {
    let len = name.len().min(NAME_LEN_MAX);
    header.as_old_mut().name[..len].copy_from_slice(&name[..len]);
}

/// What a header has no room for: long names, and extended attributes.
fn records(member: &Member, name: &[u8], link: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in [("path", name), ("linkpath", link)] {
        if value.len() > NAME_LEN_MAX {
            put_record(&mut out, key.as_bytes(), value);
        }
    }
    for xattr in &member.xattrs {
        put_record(&mut out, &[b"SCHILY.xattr.", &*xattr.name].concat(), &xattr.value);
    }
    out
}

/// A record of an extended header, which begins with its own length: `LENGTH KEY=VALUE` and a newline.
fn put_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    out.extend(len.to_string().as_bytes());
    out.extend([b" ", key, b"=", value, b"\n"].concat());
}

/// The bytes of a member.
struct Body<'a, R> {
    members: &'a mut Members<R>,
    failure: Option<TarError>,
    left: u64,
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        match self.members.read_body(&mut buffer[..len]) {
            Ok(len) => {
                self.left -= len as u64;
                Ok(len)
            }
            Err(error) => {
                self.failure = Some(error);
                Err(io::Error::other("the package cannot be read"))
            }
        }
    }
}
