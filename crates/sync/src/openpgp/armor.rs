//! From files to packets: armored or not, in bounded numbers.

use std::io::Read;

use pgp::armor::{BlockType, Dearmor, DearmorOptions};
use pgp::errors::Error;
use pgp::packet::{Packet, PacketParser};

const BEGIN: &str = "-----BEGIN PGP ";
const END: &str = "-----END PGP ";
const DASHES: &str = "-----";

/// The binary form of everything of one kind in a file.
///
/// What is binary has the highest bit of its first byte set, which no text has. A text may hold several blocks, and
/// text between them.
pub(super) fn binary(bytes: &[u8], kind: BlockType) -> Result<Vec<u8>, String> {
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return Ok(bytes.to_vec());
    }
    let text = str::from_utf8(bytes).map_err(|_| "it is neither binary nor armored".to_owned())?;
    let mut whole = Vec::new();
    for block in blocks(text)? {
        whole.extend(decode(block, kind)?);
    }
    Ok(whole)
}

/// The armored blocks of a text, each from its first to its last line.
fn blocks(text: &str) -> Result<Vec<&str>, String> {
    let (mut found, mut begin, mut offset) = (Vec::new(), None, 0);
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_end();
        if trimmed.starts_with(BEGIN) && trimmed.ends_with(DASHES) {
            if begin.replace(offset).is_some() {
                return Err("an armored block begins inside of another one".to_owned());
            }
        } else if trimmed.starts_with(END) && trimmed.ends_with(DASHES) {
            let begin = begin.take().ok_or("an armored block ends that has not begun")?;
            found.push(&text[begin..offset + line.len()]);
        }
        offset += line.len();
    }
    if begin.is_some() { Err("an armored block is cut short".to_owned()) } else { Ok(found) }
}

fn decode(block: &str, kind: BlockType) -> Result<Vec<u8>, String> {
    // Every buffer of the decoder is as large as the block at most.
    let options = DearmorOptions::new().set_limit(block.len().max(1));
    let mut dearmor = Dearmor::with_options(block.as_bytes(), options);
    dearmor.read_header().map_err(|error| format!("the armor cannot be read: {error}"))?;
    match dearmor.typ {
        Some(found) if found == kind => {}
        Some(found) => return Err(format!("it holds a {found}, not a {kind}")),
        None => return Err("the armor does not say what it holds".to_owned()),
    }
    let mut whole = Vec::new();
    dearmor.read_to_end(&mut whole).map_err(|error| format!("the armor cannot be read: {error}"))?;
    Ok(whole)
}

/// The packets of a file, at most `most` of them.
///
/// Of what the standard says may be passed over (packets of versions and kinds that nobody here knows, padding) there
/// is none among them; whatever else cannot be read is an error in its place.
pub(super) fn packets(binary: &[u8], most: usize) -> Result<Vec<Result<Packet, Error>>, String> {
    let mut found = Vec::new();
    for (count, packet) in PacketParser::new(binary).enumerate() {
        if count == most {
            return Err(format!("there are more than {most} packets"));
        }
        match packet {
            Ok(Packet::Marker(_) | Packet::Padding(_)) => {}
            Err(error) if is_unsupported(&error) => {}
            packet => found.push(packet),
        }
    }
    Ok(found)
}

fn is_unsupported(error: &Error) -> bool {
    match error {
        Error::Unsupported { .. } | Error::EllipticCurve { .. } => true,
        Error::InvalidPacketContent { source } => is_unsupported(source),
        _ => false,
    }
}
