//! The steps of a flip, as the journal keeps them.
//!
//! Each can be done again after it was done, in whole or by half, so that an interrupted flip is completed by
//! doing all of them from the first. They name a file by its path and by the state in which it may be lost.

use smart_sync_store::codec::{DecodeError, Reader, put_number, put_prefixed, unzigzag, zigzag};
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::{FileTime, Xattr};
use smart_sync_store::manifest::path::PATH_BYTES_MAX;

use super::metadata::Metadata;
use super::stat::{FileKind, Fingerprint};

const STEPS_MAX: usize = 100_000_000;
const XATTRS_MAX: usize = 256;
const XATTR_BYTES_MAX: usize = 128 << 10;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) path: Box<[u8]>,
    /// What may be overwritten or removed; anything else goes to the backup.
    pub(super) expected: Option<Fingerprint>,
    pub(super) kind: OpKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OpKind {
    Clear,
    MakeRoom,
    MakeDirectory {
        mode: u32,
    },
    /// Moves a new directory, with all that is in it, to the path.
    PlaceDirectory,
    /// Moves a staged file to the path.
    Place {
        staged: Staged,
    },
    Link {
        target: Box<[u8]>,
    },
    SetMetadata(FileKind, Metadata),
    Delete,
    RemoveDirectory,
}

/// A file in the staging directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Staged {
    /// A content as it was received.
    Content(ContentId),
    /// What was made for the action of this number.
    Made(u64),
}

/// Appends the steps.
pub(super) fn encode(out: &mut Vec<u8>, ops: &[Op]) {
    put_number(out, ops.len() as u64);
    for op in ops {
        put_prefixed(out, &op.path);
        out.push(u8::from(op.expected.is_some()));
        if let Some(expected) = &op.expected {
            put_number(out, expected.inode);
            put_number(out, expected.size);
            put_time(out, expected.modified);
            put_time(out, expected.changed);
        }
        match &op.kind {
            OpKind::Clear => out.push(0),
            OpKind::MakeRoom => out.push(1),
            OpKind::MakeDirectory { mode } => {
                out.push(2);
                put_number(out, u64::from(*mode));
            }
            OpKind::Place { staged } => {
                out.push(3);
                put_staged(out, *staged);
            }
            OpKind::Link { target } => {
                out.push(4);
                put_prefixed(out, target);
            }
            OpKind::SetMetadata(kind, metadata) => {
                out.push(5);
                out.push(u8::from(*kind == FileKind::Directory));
                put_metadata(out, metadata);
            }
            OpKind::Delete => out.push(6),
            OpKind::RemoveDirectory => out.push(7),
            OpKind::PlaceDirectory => out.push(8),
        }
    }
}

/// Reads steps.
pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Vec<Op>, DecodeError> {
    let count = reader.count("steps", STEPS_MAX)?;
    (0..count).map(|_| decode_one(reader)).collect()
}

fn decode_one(reader: &mut Reader<'_>) -> Result<Op, DecodeError> {
    let path = reader.prefixed("path", PATH_BYTES_MAX)?.into();
    let expected = if flag(reader)? {
        Some(Fingerprint {
            inode: reader.number("inode", u64::MAX)?,
            size: reader.number("size", u64::MAX)?,
            modified: time(reader)?,
            changed: time(reader)?,
        })
    } else {
        None
    };
    let kind = match reader.byte("step")? {
        0 => OpKind::Clear,
        1 => OpKind::MakeRoom,
        2 => OpKind::MakeDirectory { mode: mode(reader)? },
        3 => OpKind::Place { staged: staged(reader)? },
        4 => OpKind::Link { target: reader.prefixed("link target", PATH_BYTES_MAX)?.into() },
        5 => {
            let kind = if flag(reader)? { FileKind::Directory } else { FileKind::File };
            OpKind::SetMetadata(kind, metadata(reader)?)
        }
        6 => OpKind::Delete,
        7 => OpKind::RemoveDirectory,
        8 => OpKind::PlaceDirectory,
        other => return Err(DecodeError::invalid(format!("{other} is not a step"))),
    };
    Ok(Op { path, expected, kind })
}

fn put_staged(out: &mut Vec<u8>, staged: Staged) {
    match staged {
        Staged::Content(id) => {
            out.push(0);
            out.extend_from_slice(id.as_bytes());
        }
        Staged::Made(number) => {
            out.push(1);
            put_number(out, number);
        }
    }
}

fn staged(reader: &mut Reader<'_>) -> Result<Staged, DecodeError> {
    match reader.byte("staged file")? {
        0 => Ok(Staged::Content(ContentId::from_bytes(reader.array("staged content")?))),
        1 => Ok(Staged::Made(reader.number("made file", u64::MAX)?)),
        other => Err(DecodeError::invalid(format!("{other} is not a staged file"))),
    }
}

pub(super) fn put_metadata(out: &mut Vec<u8>, metadata: &Metadata) {
    put_number(out, u64::from(metadata.mode));
    out.push(u8::from(metadata.owner.is_some()));
    if let Some((uid, gid)) = metadata.owner {
        put_number(out, u64::from(uid));
        put_number(out, u64::from(gid));
    }
    out.push(u8::from(metadata.modified.is_some()));
    if let Some(modified) = metadata.modified {
        put_time(out, modified);
    }
    out.push(u8::from(metadata.xattrs.is_some()));
    if let Some(xattrs) = &metadata.xattrs {
        put_number(out, xattrs.len() as u64);
        for xattr in xattrs {
            put_prefixed(out, &xattr.name);
            put_prefixed(out, &xattr.value);
        }
    }
}

pub(super) fn metadata(reader: &mut Reader<'_>) -> Result<Metadata, DecodeError> {
    Ok(Metadata {
        mode: mode(reader)?,
        owner: if flag(reader)? { Some((number(reader, "uid")?, number(reader, "gid")?)) } else { None },
        modified: if flag(reader)? { Some(time(reader)?) } else { None },
        xattrs: if flag(reader)? {
            let count = reader.count("attributes", XATTRS_MAX)?;
            let xattrs = (0..count).map(|_| {
                let name = reader.prefixed("attribute", XATTR_BYTES_MAX)?.into();
                Ok(Xattr { name, value: reader.prefixed("attribute", XATTR_BYTES_MAX)?.into() })
            });
            Some(xattrs.collect::<Result<_, _>>()?)
        } else {
            None
        },
    })
}

fn put_time(out: &mut Vec<u8>, time: FileTime) {
    put_number(out, zigzag(time.seconds));
    put_number(out, u64::from(time.nanoseconds));
}

fn time(reader: &mut Reader<'_>) -> Result<FileTime, DecodeError> {
    let seconds = unzigzag(reader.number("seconds", u64::MAX)?);
    let nanoseconds = number(reader, "nanoseconds")?;
    Ok(FileTime { seconds, nanoseconds })
}

fn mode(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    reader.number("mode", 0o7777).map(|mode| u32::try_from(mode).expect("twelve bits"))
}

fn number(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    let value = reader.number(field, u64::from(u32::MAX))?;
    Ok(u32::try_from(value).expect("over the limit otherwise"))
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.byte("flag")? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(DecodeError::invalid(format!("{other} is not a flag"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every_kind() -> Vec<Op> {
        let time = FileTime { seconds: -1, nanoseconds: 7 };
        let print = Fingerprint { inode: u64::MAX, size: 300, modified: time, changed: time };
        let xattr = Xattr { name: (*b"user.a").into(), value: (*b"b").into() };
        let full = Metadata {
            mode: 0o7777,
            owner: Some((1, u32::MAX)),
            modified: Some(time),
            xattrs: Some(vec![xattr]),
        };
        let bare = Metadata { mode: 0, owner: None, modified: None, xattrs: None };
        let kinds = [
            OpKind::Clear,
            OpKind::MakeRoom,
            OpKind::MakeDirectory { mode: 0o755 },
            OpKind::Place { staged: Staged::Content(ContentId::from_bytes([9; 32])) },
            OpKind::Place { staged: Staged::Made(300) },
            OpKind::Link { target: (*b"target").into() },
            OpKind::SetMetadata(FileKind::Directory, full),
            OpKind::SetMetadata(FileKind::File, bare),
            OpKind::Delete,
            OpKind::RemoveDirectory,
            OpKind::PlaceDirectory,
        ];
        let op = |(number, kind)| Op {
            path: (*b"a/path").into(),
            expected: (number % 2 == 0).then_some(print),
            kind,
        };
        kinds.into_iter().enumerate().map(op).collect()
    }

    #[test]
    fn steps_come_back_and_no_part_of_them_is_taken_for_all() {
        let mut bytes = Vec::new();
        encode(&mut bytes, &every_kind());
        let mut reader = Reader::new(&bytes);
        assert_eq!(decode(&mut reader).unwrap(), every_kind());
        reader.finish().unwrap();
        for len in 0..bytes.len() {
            assert!(decode(&mut Reader::new(&bytes[..len])).is_err(), "cut at {len}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                let mut reader = Reader::new(&other);
                if let Ok(ops) = decode(&mut reader) {
                    let mut again = Vec::new();
                    encode(&mut again, &ops);
                    assert_eq!(again, other[..other.len() - reader.rest().len()], "byte {at}, bit {bit}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_one_spelling(at: prop::sample::Index, byte: u8) {
            let mut bytes = Vec::new();
            encode(&mut bytes, &every_kind());
            *at.get_mut(&mut bytes) = byte;
            let mut reader = Reader::new(&bytes);
            if let Ok(ops) = decode(&mut reader) {
                let mut again = Vec::new();
                encode(&mut again, &ops);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.rest().len()]);
            }
        }
    }
}
