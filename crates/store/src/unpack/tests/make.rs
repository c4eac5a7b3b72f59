//! Archives and streams as their usual tools make them.

use std::io::Write as _;

use flate2::{Compression, Crc};
use liblzma::stream::{Action, Check, Status, Stream};

/// A header of tar.
pub(crate) fn tar_header(name: &str, size: u64, kind: u8) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"14000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

pub(crate) fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        out.extend(tar_header(name, bytes.len() as u64, b'0'));
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0; 1024]);
    out
}

pub(crate) fn cpio(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |name: &str, bytes: &[u8]| {
        let fields = [1, 0o100_644, 0, 0, 1, 0, bytes.len(), 0, 0, 0, 0, name.len() + 1, 0];
        out.extend(b"070701");
        out.extend(fields.map(|field| format!("{field:08X}")).concat().as_bytes());
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    for (name, bytes) in files {
        put(name, bytes);
    }
    put("TRAILER!!!", b"");
    out
}

pub(crate) fn ar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in files {
        let size = bytes.len();
        out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644).as_bytes());
        out.extend(bytes);
        if size % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

pub(crate) fn zip(files: &[(&str, Vec<u8>)], level: u32, has_descriptors: bool) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let at = u32::try_from(out.len()).unwrap();
        let is_stored = bytes.len() < 800;
        let data = if is_stored { bytes.clone() } else { deflate(bytes, level) };
        let (compressed, size) = (u32::try_from(data.len()).unwrap(), u32::try_from(bytes.len()).unwrap());
        let has_descriptor = has_descriptors && !is_stored;
        let sizes = [crc(bytes), compressed, size].map(u32::to_le_bytes).concat();
        let mut fields = vec![20, 0, if has_descriptor { 8 } else { 0 }, 0, if is_stored { 0 } else { 8 }, 0];
        fields.extend([0, 0, 0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&fields);
        out.extend(if has_descriptor { vec![0; 12] } else { sizes.clone() });
        out.extend([u8::try_from(name.len()).unwrap(), 0, 0, 0]);
        out.extend(name.as_bytes());
        out.extend(data);
        if has_descriptor {
            out.extend(b"PK\x07\x08");
            out.extend(&sizes);
        }
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&fields);
        directory.extend(&sizes);
        directory.extend([u8::try_from(name.len()).unwrap(), 0]);
        directory.extend([0; 12]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (at, len) = (u32::try_from(out.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].concat());
    out.extend([len, at].map(u32::to_le_bytes).concat());
    out.extend([0, 0]);
    out
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

pub(crate) fn deflate(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
    wrap_gzip(plain, &deflate(plain, level))
}

/// A file of gzip with a name around what is deflated.
pub(crate) fn wrap_gzip(plain: &[u8], deflated: &[u8]) -> Vec<u8> {
    let mut out = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03name\0".to_vec();
    out.extend(deflated);
    out.extend(crc(plain).to_le_bytes());
    out.extend(u32::try_from(plain.len()).unwrap().to_le_bytes());
    out
}

pub(crate) fn bzip2(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::new(level));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A stream of xz in blocks of that size, or in one.
pub(crate) fn xz(plain: &[u8], preset: u32, block_size: usize) -> Vec<u8> {
    let mut stream = Stream::new_easy_encoder(preset, Check::Crc64).unwrap();
    let mut out = Vec::with_capacity(plain.len() + 4096);
    let block_size = if block_size == 0 { plain.len().max(1) } else { block_size };
    let mut blocks = plain.chunks(block_size).peekable();
    while let Some(block) = blocks.next() {
        let action = if blocks.peek().is_some() { Action::FullFlush } else { Action::Finish };
        assert_eq!(stream.process_vec(block, &mut out, action).unwrap(), Status::StreamEnd);
    }
    out
}

pub(crate) fn zstd(plain: &[u8], level: i32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}
