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
    let corrupt = |reason| PackError::Frame { offset: frame.offset, reason };
    if stored.len() != frame.stored as usize {
        return Err(corrupt(format!("it has {} bytes instead of {}", stored.len(), frame.stored)));
    }
    let mut raw = decode_raw(frame.codec, stored, frame.raw).map_err(corrupt)?;
    let mut objects = Vec::with_capacity(frame.objects.len());
    for object in &frame.objects {
        if raw.len() < object.len as usize {
            return Err(corrupt("its objects are longer than the frame".to_owned()));
        }
        let bytes = raw.split_to(object.len as usize);
        let verified = VerifiedObject::verify(object.key, bytes)
            .map_err(|source| PackError::Object { offset: frame.offset, source })?;
        objects.push(verified);
    }
    if raw.is_empty() { Ok(objects) } else { Err(corrupt("bytes follow its last object".to_owned())) }
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
    let window = window_len(stored).ok_or("it does not begin as a zstd frame without a dictionary does")?;
    if window > WINDOW_LEN_MAX {
        return Err(format!("it needs a window of {window} bytes; {WINDOW_LEN_MAX} are allowed"));
    }
    match zstd_safe::get_frame_content_size(stored) {
        Ok(Some(len)) if len == u64::from(raw_len) => {}
        Ok(Some(len)) => return Err(format!("it declares {len} bytes instead of {raw_len}")),
        _ => return Err("it does not declare its length".to_owned()),
    }
    match zstd_safe::find_frame_compressed_size(stored) {
        Ok(len) if len == stored.len() => {}
        Ok(len) => return Err(format!("{} bytes follow it", stored.len() - len)),
        Err(code) => return Err(zstd_safe::get_error_name(code).to_owned()),
    }
    let mut decompressor = Decompressor::new().map_err(|error| error.to_string())?;
    let raw = decompressor.decompress(stored, raw_len as usize).map_err(|error| error.to_string())?;
    if raw.len() == raw_len as usize {
        Ok(raw)
    } else {
        Err(format!("it decodes to {} bytes instead of {raw_len}", raw.len()))
    }
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
