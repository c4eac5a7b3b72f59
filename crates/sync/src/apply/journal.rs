//! The journal of a run, and the crash protocol.
//!
//! A run goes through five states, each a record that is made durable before what it allows:
//!
//! | record | before it | after it, until the next |
//! |---|---|---|
//! | begun | nothing is touched | contents are staged beside the tree |
//! | staged | all files of the new tree lie in the staging directory, durable (`syncfs`); the steps are in the record | hooks and snapshots of the caller |
//! | flipping | | the steps: renames, deletions, modes |
//! | flipped | all steps are done and durable (`syncfs`) | the record of what the target holds is written |
//! | committed | that record is durable | staging directory and journal are removed |
//!
//! A run that is found in the journal is settled before anything else. Up to *staged* nothing in the tree has
//! changed: the run is forgotten, what it received stays staged and is hashed before it is used. From *flipping*
//! on the run is completed: every step can be repeated, and steps that were done are recognised, because a staged
//! file that is gone has been moved to its place and a file that may be lost is known by its state. So a kill at
//! any moment leaves the old tree, the new one, or one that the next run completes.
//!
//! Targets that are switched together wait at *staged* for each other. Once that is decided, which the caller knows, a
//! run at *staged* is completed as well.
//!
//! A target that keeps its [versions](super::versions) goes through the same states, and its steps are done in the
//! next version, where nobody looks. It is whole and durable at *flipped*, and what follows is the switch, which is
//! recognised when it was done. So readers see the old tree or the new one at any moment, and a run that is found
//! before *flipping* has left nothing that a reader can see.
//!
//! Files are not made durable one by one. `syncfs` once before *flipping* makes all staged contents durable, and
//! once after it all renames: two waits for the disk instead of two for each file, and the order that matters,
//! content before name, holds for all of them. The journal itself is a file of its own, often on another file
//! system, and each record is made durable with `fsync`.
//!
//! ```text
//! "ssjl" 0 0 0 2  ( length u32 little-endian  BLAKE3 of the body: the first 16 bytes  body )…
//! ```
//!
//! A journal of format 1 is read as well; there versions have no names.
//! The last record may be torn: then what it would have allowed has not begun. A damaged record with others
//! behind it is an error, and the journal is kept for a person to look at.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use smart_sync_store::codec::{DecodeError, Reader, put_prefixed};
use smart_sync_store::id::ManifestId;

use super::backup::Stamp;
use super::error::ApplyError;
use super::op::{self, Op};
use super::record::{self, Format, Version};
use super::tree_dir::TreeDir;
use super::tree_walk::sync_file;

const MAGIC: &[u8; 8] = b"ssjl\0\0\0\x02";
const MAGIC_1: &[u8; 8] = b"ssjl\0\0\0\x01";
const TOKEN_BYTES_MAX: usize = 64;
const JOURNAL: &[u8] = b"journal";
const JOURNAL_NEW: &[u8] = b"journal.new";
const CHECK_BYTES: usize = 16;
const HEAD_BYTES: usize = 4 + CHECK_BYTES;
const STAMP_BYTES_MAX: usize = 64;

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Begun,
    Staged,
    Flipping,
    Flipped,
    Committed,
}

/// What the journal says of a run that did not end.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub(super) version: Version,
    pub(super) stamp: Stamp,
    pub(super) ops: Vec<Op>,
    pub(super) state: State,
    /// By what a target that keeps versions tells whether it was switched.
    pub(super) token: Box<[u8]>,
}

impl Unfinished {
    /// Whether the run is to be completed: it has touched the tree, or has everything for a manifest that is decided on.
    pub(super) fn is_decided(&self, on: Option<ManifestId>) -> bool {
        self.state >= State::Flipping || (self.state == State::Staged && on == Some(self.version.manifest()))
    }
}

/// The journal of the current run.
#[derive(Debug)]
pub(super) struct Journal<'a> {
    state: &'a TreeDir,
    file: File,
}

impl<'a> Journal<'a> {
    /// Starts the journal of a run: it exists as a whole with its first record, or not at all.
    pub(super) fn begin(state: &'a TreeDir, version: &Version, stamp: &Stamp) -> Result<Self, ApplyError> {
        let mut body = vec![0];
        record::encode_version(&mut body, version);
        put_prefixed(&mut body, stamp.as_bytes());
        state.remove_file(JOURNAL_NEW)?;
        let mut file = state.create_file(JOURNAL_NEW)?;
        state.announce("write journal", JOURNAL_NEW)?;
        file.write_all(MAGIC)
            .and_then(|()| file.write_all(&[head(&body), body].concat()))
            .map_err(|source| state.failed("writing", JOURNAL_NEW, source))?;
        sync_file(state, JOURNAL_NEW, &file)?;
        state.rename(JOURNAL_NEW, JOURNAL)?;
        state.sync_directory(b"")?;
        Ok(Self { state, file })
    }

    /// Reads the journal of a run that did not end, and makes it ready for further records.
    pub(super) fn reopen(state: &'a TreeDir) -> Result<Option<(Self, Unfinished)>, ApplyError> {
        if state.stat(JOURNAL)?.is_none() {
            return Ok(None);
        }
        let mut file = state.open_to_write(JOURNAL)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| state.failed("reading", JOURNAL, source))?;
        let (unfinished, len) = decode(&bytes).map_err(|error| ApplyError::DamagedJournal {
            path: state.show(JOURNAL),
            reason: error.to_string(),
        })?;
        if len < bytes.len() {
            state.announce("cut journal", JOURNAL)?;
        }
        file.set_len(len as u64)
            .and_then(|()| file.seek(SeekFrom::Start(len as u64)))
            .map_err(|source| state.failed("writing", JOURNAL, source))?;
        Ok(Some((Self { state, file }, unfinished)))
    }

    /// Notes that everything is staged, and the steps that will follow.
    pub(super) fn staged(&mut self, ops: &[Op]) -> Result<(), ApplyError> {
        let mut body = vec![1];
        op::encode(&mut body, ops);
        self.append(&body)
    }

    /// Notes that all steps are done, and by what it is known whether the target was switched to what came of them.
    pub(super) fn flipped(&mut self, token: &[u8]) -> Result<(), ApplyError> {
        let mut body = vec![State::Flipped as u8];
        if !token.is_empty() {
            put_prefixed(&mut body, token);
        }
        self.append(&body)
    }

    /// Notes a state that has nothing to say beside itself.
    pub(super) fn reached(&mut self, state: State) -> Result<(), ApplyError> {
        self.append(&[state as u8])
    }

    /// Forgets the run.
    pub(super) fn end(self) -> Result<(), ApplyError> {
        self.state.remove_file(JOURNAL)?;
        self.state.sync_directory(b"")
    }

    fn append(&mut self, body: &[u8]) -> Result<(), ApplyError> {
        self.state.announce("write journal", JOURNAL)?;
        // In two writes: a record that was cut off between them is as torn as any other.
        self.file
            .write_all(&head(body))
            .and_then(|()| self.file.write_all(body))
            .map_err(|source| self.state.failed("writing", JOURNAL, source))?;
        sync_file(self.state, JOURNAL, &self.file)
    }
}

fn head(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("the steps of one run take less than 4 GiB");
    let check = blake3::hash(body);
    [&len.to_le_bytes(), &check.as_bytes()[..CHECK_BYTES]].concat()
}

/// Reads all whole records of a journal; returns with them where the last one ends.
pub fn decode(bytes: &[u8]) -> Result<(Unfinished, usize), DecodeError> {
    let (format, rest) = match (bytes.strip_prefix(MAGIC), bytes.strip_prefix(MAGIC_1)) {
        (Some(rest), _) => (Format::Two, rest),
        (None, Some(rest)) => (Format::One, rest),
        (None, None) => return Err(DecodeError::BadMagic("a journal")),
    };
    let mut rest = rest;
    let mut unfinished: Option<Unfinished> = None;
    while let Some((body, after)) = next_record(rest)? {
        unfinished = Some(apply(unfinished, body, format)?);
        rest = after;
    }
    let unfinished = unfinished.ok_or(DecodeError::Truncated("the first record"))?;
    Ok((unfinished, bytes.len() - rest.len()))
}

/// The body of a record, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The next record, unless it is the last one and torn.
fn next_record(bytes: &[u8]) -> Result<Option<Split<'_>>, DecodeError> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Ok(None) };
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let Some((body, after)) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)) else {
        return Ok(None);
    };
    if blake3::hash(body).as_bytes()[..CHECK_BYTES] == head[4..] {
        return Ok(Some((body, after)));
    }
    if after.is_empty() { Ok(None) } else { Err(DecodeError::invalid("a record is damaged")) }
}

fn apply(unfinished: Option<Unfinished>, body: &[u8], format: Format) -> Result<Unfinished, DecodeError> {
    let mut reader = Reader::new(body);
    let state = reader.byte("record")?;
    let next = match (unfinished, state) {
        (None, 0) => {
            let version = record::decode_version(&mut reader, format)?;
            let stamp = Stamp::new(reader.prefixed("stamp", STAMP_BYTES_MAX)?)
                .ok_or_else(|| DecodeError::invalid("the stamp is not one"))?;
            Unfinished { version, stamp, ops: Vec::new(), state: State::Begun, token: Box::default() }
        }
        (Some(run), 1) if run.state == State::Begun => {
            Unfinished { ops: op::decode(&mut reader)?, state: State::Staged, ..run }
        }
        (Some(run), 2) if run.state == State::Staged => Unfinished { state: State::Flipping, ..run },
        // A run that was completed after a crash notes again what it had noted.
        (Some(run), 3) if run.state >= State::Flipping => {
            let token = if reader.is_empty() { &[] } else { reader.prefixed("token", TOKEN_BYTES_MAX)? };
            Unfinished { state: State::Flipped, token: token.into(), ..run }
        }
        (Some(run), 4) if run.state == State::Flipped => Unfinished { state: State::Committed, ..run },
        (_, other) => return Err(DecodeError::invalid(format!("record {other} is out of order"))),
    };
    reader.finish()?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::op::OpKind;
    use crate::apply::step::Steps;
    use crate::apply::tree_dir::RootLink;

    fn open(directory: &tempfile::TempDir) -> TreeDir {
        TreeDir::open(directory.path(), RootLink::Refuse, Steps::default()).unwrap()
    }

    #[test]
    fn a_torn_last_record_is_as_if_it_had_not_been_written() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(&directory);
        let version = Version::new(ManifestId::from_bytes([7; 32]), b"main").unwrap();
        let stamp = Stamp::new(b"20260101T000000Z").unwrap();
        let ops = vec![Op { path: (*b"a").into(), expected: None, kind: OpKind::Delete }];
        let mut journal = Journal::begin(&state, &version, &stamp).unwrap();
        journal.staged(&ops).unwrap();
        journal.reached(State::Flipping).unwrap();

        let path = directory.path().join("journal");
        let whole = std::fs::read(&path).unwrap();
        let begun =
            MAGIC.len() + HEAD_BYTES + [&[0][..], &[7; 32], b"\x04main\0\x1020260101T000000Z"].concat().len();
        let flipping = whole.len() - HEAD_BYTES - 1;
        for len in 0..=whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let found = Journal::reopen(&state);
            let expected = match len {
                _ if len < begun => None,
                _ if len < flipping => Some(State::Begun),
                _ if len < whole.len() => Some(State::Staged),
                _ => Some(State::Flipping),
            };
            match (found, expected) {
                (Err(ApplyError::DamagedJournal { .. }), None) => {}
                (Ok(Some((_, found))), Some(expected)) => {
                    assert_eq!(found.state, expected, "cut at {len}");
                    assert_eq!((&found.version, &found.stamp), (&version, &stamp));
                    assert_eq!(found.ops.is_empty(), expected == State::Begun);
                }
                (found, expected) => panic!("cut at {len}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn a_damaged_record_with_others_behind_it_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(&directory);
        let version = Version::new(ManifestId::from_bytes([7; 32]), b"main").unwrap();
        let mut journal = Journal::begin(&state, &version, &Stamp::new(b"1").unwrap()).unwrap();
        journal.staged(&[]).unwrap();
        let path = directory.path().join("journal");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[MAGIC.len() + HEAD_BYTES + 3] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Journal::reopen(&state), Err(ApplyError::DamagedJournal { .. })));
    }
}
