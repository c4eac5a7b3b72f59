//! The older form of a package: a compressed tarball, and a segment of metadata behind it.
//!
//! ```text
//! tarball | XPAKPACK index-length data-length index data XPAKSTOP | segment-length STOP
//! ```
//!
//! Lengths are four bytes, the highest first. An entry of the index is the length of a name, the name, and the offset
//! and length of its value in the data. Portage writes the values one behind the other in the order of the index, and
//! nothing else is read here, so that a segment has one reading. Such packages carry no digests and no signatures.

use std::io::{self, Read, Seek, SeekFrom};

use super::PackageError;
use super::codec::Codec;
use super::digest::{Hashed, PIECE_LEN};
use super::metadata::{Metadata, PACKED_BYTES_MAX};
use super::package::{Container, ImagePart, Package};
use super::signature::Signature;

const SEGMENT_BEGIN: &[u8; 8] = b"XPAKPACK";
const SEGMENT_END: &[u8; 8] = b"XPAKSTOP";
const FILE_END: &[u8; 4] = b"STOP";
/// The bytes of a segment that are neither index nor data.
const FRAME_LEN: u64 = 24;
/// The bytes behind the segment.
const TRAILER_LEN: u64 = 8;

/// Reads a package: first its segment, which is at the end, and then the whole file.
pub fn read(mut input: impl Read + Seek) -> Result<Package, PackageError> {
    let size = input.seek(SeekFrom::End(0)).map_err(PackageError::Read)?;
    let refuse = |offset: u64, reason: &str| PackageError::Xpak { offset, reason: reason.to_owned() };
    let image_len = segment_begin(&mut input, size)?;
    let segment = bytes_at(&mut input, image_len, size - TRAILER_LEN)?;
    let metadata = segment_metadata(&segment).map_err(|fault| match fault {
        Fault::Layout(offset, reason) => refuse(image_len + offset as u64, reason),
        Fault::Metadata(error) => error,
    })?;
    let beginning = bytes_at(&mut input, 0, image_len.min(16))?;
    input.seek(SeekFrom::Start(0)).map_err(PackageError::Read)?;
    let mut hashed = Hashed::new(input);
    let mut piece = vec![0; PIECE_LEN];
    loop {
        match hashed.read(&mut piece) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PackageError::Read(error)),
        }
    }
    let digests = hashed.finish();
    if digests.size != size {
        return Err(refuse(digests.size, "the file has changed while it was read"));
    }
    Ok(Package {
        container: Container::Xpak,
        basename: None,
        metadata,
        image: ImagePart { codec: Codec::of_bytes(&beginning), range: 0..image_len },
        digests,
        members: Vec::new(),
        signature: Signature::Unsigned,
    })
}

/// Where the segment begins, according to the last bytes of the file.
fn segment_begin(input: &mut (impl Read + Seek), size: u64) -> Result<u64, PackageError> {
    let refuse = |reason: String| PackageError::Xpak { offset: size.saturating_sub(TRAILER_LEN), reason };
    if size < FRAME_LEN + TRAILER_LEN {
        return Err(refuse("the file is too short for one".to_owned()));
    }
    let trailer = bytes_at(input, size - TRAILER_LEN, size)?;
    if &trailer[4..] != FILE_END {
        return Err(refuse("the file does not end with STOP".to_owned()));
    }
    let len = number(&trailer, 0).map_or(0, u64::from);
    if len < FRAME_LEN || len > size - TRAILER_LEN {
        return Err(refuse(format!("it cannot have {len} bytes")));
    }
    if len > PACKED_BYTES_MAX {
        return Err(refuse(format!("it has {len} bytes, and {PACKED_BYTES_MAX} are allowed")));
    }
    Ok(size - TRAILER_LEN - len)
}

/// The bytes between two places, which are few.
fn bytes_at(input: &mut (impl Read + Seek), begin: u64, end: u64) -> Result<Vec<u8>, PackageError> {
    input.seek(SeekFrom::Start(begin)).map_err(PackageError::Read)?;
    let mut bytes = vec![0; usize::try_from(end - begin).unwrap_or_default()];
    input.read_exact(&mut bytes).map_err(PackageError::Read)?;
    Ok(bytes)
}

enum Fault {
    /// Where in the segment, and what.
    Layout(usize, &'static str),
    Metadata(PackageError),
}

/// The values of a whole segment.
fn segment_metadata(segment: &[u8]) -> Result<Metadata, Fault> {
    let refuse = |offset: usize, reason: &'static str| Fault::Layout(offset, reason);
    if !segment.starts_with(SEGMENT_BEGIN) {
        return Err(refuse(0, "it does not begin with XPAKPACK"));
    }
    if !segment.ends_with(SEGMENT_END) {
        return Err(refuse(segment.len() - SEGMENT_END.len(), "it does not end with XPAKSTOP"));
    }
    let lengths = number(segment, 8).zip(number(segment, 12)).ok_or(refuse(8, "it is too short"))?;
    let (index_len, data_len) = (lengths.0 as usize, lengths.1 as usize);
    if Some(segment.len() - 24) != index_len.checked_add(data_len) {
        return Err(refuse(8, "the lengths of index and data do not make up the segment"));
    }
    let (index, data) = segment[16..segment.len() - SEGMENT_END.len()].split_at(index_len);
    let mut metadata = Metadata::default();
    let (mut at, mut data_at) = (0_usize, 0_usize);
    while at < index.len() {
        let cut = refuse(16 + at, "the index ends in the middle of an entry");
        let Some(name_len) = number(index, at) else { return Err(cut) };
        let Some(name_end) = (at + 4).checked_add(name_len as usize) else { return Err(cut) };
        let Some(name) = index.get(at + 4..name_end) else { return Err(cut) };
        let Some((offset, len)) = number(index, name_end).zip(number(index, name_end + 4)) else {
            return Err(cut);
        };
        let end = data_at.checked_add(len as usize).filter(|end| *end <= data.len());
        let Some(end) = end.filter(|_| offset as usize == data_at) else {
            return Err(refuse(16 + at, "a value does not follow the one before, or is outside of the data"));
        };
        metadata.insert(name, data[data_at..end].to_vec()).map_err(Fault::Metadata)?;
        (at, data_at) = (name_end + 8, end);
    }
    if data_at == data.len() {
        Ok(metadata)
    } else {
        Err(refuse(16 + index_len + data_at, "there are bytes behind the last value"))
    }
}

/// A number of four bytes, if they are there.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
