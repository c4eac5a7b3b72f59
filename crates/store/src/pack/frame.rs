//! Compressing and decoding one frame.

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::{Codec, Frame, PackError, WINDOW_LEN_MAX};
use crate::object::VerifiedObject;

/// Compression has to save this part of a frame, or the frame is stored as it is: reading it back is then free.
const SAVING_MIN_DIVISOR: usize = 32;

/// Decodes a frame and compares every object with its name.
///
/// `stored` is the bytes of the pack at [`Frame::range`].
pub fn decode_frame(frame: &Frame, stored: &Bytes) -> Result<Vec<VerifiedObject>, PackError> {
    check_stored_len(frame, stored)?;
    let mut raw = decode_raw(frame.codec, stored, frame.raw).map_err(|reason| corrupt(frame, reason))?;
    let mut objects = Vec::with_capacity(frame.objects.len());
    for object in &frame.objects {
        if raw.len() < object.len as usize {
            return Err(corrupt(frame, "its objects are longer than the frame".to_owned()));
        }
        let bytes = raw.split_to(object.len as usize);
        let verified = VerifiedObject::verify(object.key, bytes)
            .map_err(|source| PackError::Object { offset: frame.offset, source })?;
        objects.push(verified);
    }
    if raw.is_empty() { Ok(objects) } else { Err(corrupt(frame, "bytes follow its last object".to_owned())) }
}

/// Decodes many frames one after the other, each into memory that the caller has: to fill new memory costs as much
/// as to decode.
pub(super) struct FrameDecoder(Option<Decompressor<'static>>);

impl FrameDecoder {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Does what [`decode_frame`] does, and returns all the bytes of the frame. `room` is as long as the frame is when
    /// it is decoded; one that is stored as it is stays where it is.
    pub(super) fn decode<'a>(
        &mut self,
        frame: &Frame,
        stored: &'a [u8],
        room: &'a mut [u8],
    ) -> Result<&'a [u8], PackError> {
        check_stored_len(frame, stored)?;
        let raw = match frame.codec {
            // A strictly read index says the same of both lengths.
            Codec::Raw => stored,
            Codec::Zstd => self.decompress(stored, room).map_err(|reason| corrupt(frame, reason))?,
        };
        let mut rest = raw;
        for object in &frame.objects {
            let (bytes, after) = rest
                .split_at_checked(object.len as usize)
                .ok_or_else(|| corrupt(frame, "its objects are longer than the frame".to_owned()))?;
            object.key.check(bytes).map_err(|source| PackError::Object { offset: frame.offset, source })?;
            rest = after;
        }
        if rest.is_empty() { Ok(raw) } else { Err(corrupt(frame, "bytes follow its last object".to_owned())) }
    }

    fn decompress<'a>(&mut self, stored: &[u8], room: &'a mut [u8]) -> Result<&'a [u8], String> {
        check_header(stored, room.len())?;
        let decompressor = match &mut self.0 {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(|error| error.to_string())?),
        };
        let len = decompressor.decompress_to_buffer(stored, room).map_err(|error| error.to_string())?;
        check_decoded_len(len, room.len())?;
        Ok(room)
    }
}

fn check_stored_len(frame: &Frame, stored: &[u8]) -> Result<(), PackError> {
    if stored.len() == frame.stored as usize {
        return Ok(());
    }
    Err(corrupt(frame, format!("it has {} bytes instead of {}", stored.len(), frame.stored)))
}

fn corrupt(frame: &Frame, reason: String) -> PackError {
    PackError::Frame { offset: frame.offset, reason }
}

/// Decodes a frame, of at most [`FRAME_RAW_MAX`] bytes, without looking at the objects in it: whoever takes one out has
/// to verify it.
///
/// [`FRAME_RAW_MAX`]: super::FRAME_RAW_MAX
pub fn decode_raw(codec: Codec, stored: &Bytes, raw_len: u32) -> Result<Bytes, String> {
    if raw_len as usize > super::FRAME_RAW_MAX {
        return Err(format!("it declares {raw_len} bytes; a frame has at most {}", super::FRAME_RAW_MAX));
    }
    match codec {
        Codec::Zstd => decompress(stored, raw_len).map(Bytes::from),
        Codec::Raw if stored.len() == raw_len as usize => Ok(stored.clone()),
        Codec::Raw => Err(format!("it has {} bytes instead of {raw_len}", stored.len())),
    }
}

/// Compresses a frame where that pays.
pub(super) fn compress(compressor: Option<&mut Compressor<'_>>, raw: Vec<u8>) -> (Codec, Vec<u8>) {
    // Without memory for a compressor, storing the bytes as they are is still right.
    match compressor.and_then(|compressor| compressor.compress(&raw).ok()) {
        Some(packed) if packed.len() < raw.len() - raw.len() / SAVING_MIN_DIVISOR => (Codec::Zstd, packed),
        _ => (Codec::Raw, raw),
    }
}

fn decompress(stored: &[u8], raw_len: u32) -> Result<Vec<u8>, String> {
    check_header(stored, raw_len as usize)?;
    let mut decompressor = Decompressor::new().map_err(|error| error.to_string())?;
    let raw = decompressor.decompress(stored, raw_len as usize).map_err(|error| error.to_string())?;
    check_decoded_len(raw.len(), raw_len as usize)?;
    Ok(raw)
}

/// Whether these are the bytes of one zstd frame as it may stand in a pack.
fn check_header(stored: &[u8], raw_len: usize) -> Result<(), String> {
    let window = window_len(stored).ok_or("it does not begin as a zstd frame without a dictionary does")?;
    if window > WINDOW_LEN_MAX {
        return Err(format!("it needs a window of {window} bytes; {WINDOW_LEN_MAX} are allowed"));
    }
    match zstd_safe::get_frame_content_size(stored) {
        Ok(Some(len)) if len == raw_len as u64 => {}
        Ok(Some(len)) => return Err(format!("it declares {len} bytes instead of {raw_len}")),
        _ => return Err("it does not declare its length".to_owned()),
    }
    match zstd_safe::find_frame_compressed_size(stored) {
        Ok(len) if len == stored.len() => Ok(()),
        Ok(len) => Err(format!("{} bytes follow it", stored.len() - len)),
        Err(code) => Err(zstd_safe::get_error_name(code).to_owned()),
    }
}

fn check_decoded_len(found: usize, raw_len: usize) -> Result<(), String> {
    if found == raw_len { Ok(()) } else { Err(format!("it decodes to {found} bytes instead of {raw_len}")) }
}

/// The window that a zstd frame asks for (RFC 8878, section 3.1.1.1), or nothing where the header is not one that
/// may stand in a pack: a skippable frame, one with a dictionary or with reserved bits.
fn window_len(frame: &[u8]) -> Option<u64> {
    let rest = frame.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (&descriptor, rest) = rest.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    let (has_dictionary, is_reserved) = (descriptor & 0x03 != 0, descriptor & 0x08 != 0);
    if has_dictionary || is_reserved {
        return None;
    }
    if is_single_segment {
        // The window is the content, whose length the caller compares with what it allows.
        return Some(0);
    }
    let &window = rest.first()?;
    let base = 1u64 << (10 + (window >> 3));
    Some(base + base / 8 * u64::from(window & 7))
}
