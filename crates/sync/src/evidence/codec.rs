//! The bytes of evidence, as `docs/formats.md` has them.

use smart_sync_store::codec::{DecodeError, Reader, put_number, put_prefixed};

use super::{Answer, Dated, EVIDENCE_BYTES_MAX, Evidence, FullEvidence, IndexedLeaf, ROOTS_MAX};
use crate::log::heads::{HeadProof, LINE_BYTES_MAX};
use crate::log::merkle::{LogHash, SIZE_MAX};
use crate::note::NOTE_BYTES_MAX;
use crate::record::{Opening, SlotSecret};

const MAGIC: &[u8] = b"ssev\x01";
/// Two neighbours in a table, with at most forty hashes each.
const HEAD_HASHES_MAX: usize = 80;
/// Four leaves with at most forty nodes each, and an older tree with twice that.
const NODES_MAX: usize = 240;

impl Evidence {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        match self {
            Self::Unchanged { checkpoint } => {
                out.push(0);
                put_prefixed(&mut out, checkpoint);
            }
            Self::Full(full) => {
                out.push(1);
                put_full(&mut out, full);
            }
        }
        out
    }

    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (evidence, rest) = Self::decode_first(bytes)?;
        Reader::new(rest).finish()?;
        Ok(evidence)
    }

    /// Reads the message that bytes begin with; returns what follows it, too.
    pub fn decode_first(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic("evidence", MAGIC)?;
        let evidence = match reader.byte("form")? {
            0 => Self::Unchanged { checkpoint: note(&mut reader, "checkpoint")? },
            1 => Self::Full(Box::new(read_full(&mut reader)?)),
            form => return Err(DecodeError::invalid(format!("evidence of the unknown form {form}"))),
        };
        let length = bytes.len() - reader.rest().len();
        if length > EVIDENCE_BYTES_MAX {
            let (value, limit) = (length as u64, EVIDENCE_BYTES_MAX as u64);
            return Err(DecodeError::OverLimit { field: "the length of evidence", value, limit });
        }
        Ok((evidence, reader.rest()))
    }
}

fn put_full(out: &mut Vec<u8>, full: &FullEvidence) {
    put_prefixed(out, &full.checkpoint);
    put_number(out, full.roots.len() as u64);
    for root in &full.roots {
        put_prefixed(out, root);
    }
    put_number(out, full.base);
    put_prefixed(out, &full.heads);
    match &full.dated {
        None => out.push(0),
        Some(dated) => {
            out.push(1);
            put_leaf(out, dated.found.as_ref());
            put_leaf(out, dated.next.as_ref());
        }
    }
    put_number(out, full.head.entries.len() as u64);
    for (position, line) in &full.head.entries {
        put_number(out, *position);
        put_prefixed(out, line.as_bytes());
    }
    put_hashes(out, &full.head.hashes);
    put_answer(out, &full.answer);
    put_hashes(out, &full.nodes);
}

fn read_full(reader: &mut Reader<'_>) -> Result<FullEvidence, DecodeError> {
    let checkpoint = note(reader, "checkpoint")?;
    let count = reader.count("number of roots", ROOTS_MAX)?;
    let roots = (0..count).map(|_| note(reader, "root")).collect::<Result<_, _>>()?;
    let base = reader.number("base", SIZE_MAX)?;
    let heads = note(reader, "heads")?;
    let dated = match reader.byte("whether there is a date")? {
        0 => None,
        1 => Some(Dated { found: read_leaf(reader)?, next: read_leaf(reader)? }),
        other => return Err(unknown("date", other)),
    };
    let count = reader.count("number of entries", 2)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let position = reader.number("position", SIZE_MAX)?;
        let line = str::from_utf8(reader.prefixed("entry", LINE_BYTES_MAX)?);
        entries.push((position, line.map_err(|_| DecodeError::invalid("an entry is not UTF-8"))?.to_owned()));
    }
    let hashes = read_hashes(reader, "hashes of the table", HEAD_HASHES_MAX)?;
    let answer = read_answer(reader)?;
    let nodes = read_hashes(reader, "nodes of the log", NODES_MAX)?;
    Ok(FullEvidence {
        checkpoint,
        roots,
        base,
        heads,
        dated,
        head: HeadProof { entries, hashes },
        answer,
        nodes,
    })
}

fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Absent => out.push(0),
        Answer::Publication(leaf) => {
            out.push(1);
            put_prefixed(out, leaf);
        }
        Answer::Sealed { leaf, secret, opening } => {
            out.push(2);
            put_prefixed(out, leaf);
            out.extend_from_slice(&secret.0);
            out.extend_from_slice(&opening.random);
            put_prefixed(out, &opening.note);
        }
        Answer::SealedAbsent { secret } => {
            out.push(3);
            out.extend_from_slice(&secret.0);
        }
    }
}

fn read_answer(reader: &mut Reader<'_>) -> Result<Answer, DecodeError> {
    Ok(match reader.byte("answer")? {
        0 => Answer::Absent,
        1 => Answer::Publication(note(reader, "publication")?),
        2 => Answer::Sealed {
            leaf: note(reader, "sealed publication")?,
            secret: SlotSecret(reader.array("secret")?),
            opening: Opening { random: reader.array("random bytes")?, note: note(reader, "publication")? },
        },
        3 => Answer::SealedAbsent { secret: SlotSecret(reader.array("secret")?) },
        other => return Err(unknown("answer", other)),
    })
}

fn put_leaf(out: &mut Vec<u8>, leaf: Option<&IndexedLeaf>) {
    match leaf {
        None => out.push(0),
        Some(leaf) => {
            out.push(1);
            put_number(out, leaf.index);
            put_prefixed(out, &leaf.leaf);
        }
    }
}

fn read_leaf(reader: &mut Reader<'_>) -> Result<Option<IndexedLeaf>, DecodeError> {
    match reader.byte("whether there is a leaf")? {
        0 => Ok(None),
        1 => {
            let index = reader.number("index", SIZE_MAX - 1)?;
            Ok(Some(IndexedLeaf { index, leaf: note(reader, "heads")? }))
        }
        other => Err(unknown("leaf", other)),
    }
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[LogHash]) {
    put_number(out, hashes.len() as u64);
    for hash in hashes {
        out.extend_from_slice(hash.as_bytes());
    }
}

fn read_hashes(
    reader: &mut Reader<'_>,
    field: &'static str,
    limit: usize,
) -> Result<Vec<LogHash>, DecodeError> {
    let count = reader.count(field, limit)?;
    (0..count).map(|_| reader.array(field).map(LogHash::from_bytes)).collect()
}

fn note(reader: &mut Reader<'_>, field: &'static str) -> Result<Vec<u8>, DecodeError> {
    reader.prefixed(field, NOTE_BYTES_MAX).map(<[u8]>::to_vec)
}

fn unknown(field: &str, found: u8) -> DecodeError {
    DecodeError::invalid(format!("an unknown form of {field}: {found}"))
}
