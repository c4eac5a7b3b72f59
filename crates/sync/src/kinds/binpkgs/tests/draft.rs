//! Packages to be made by tests: sound ones, and ones with anything changed.

use std::io::Write;

use smart_sync_store::id::to_hex;

use super::super::codec::Codec;
use super::super::digest::MemberHasher;

/// A member of a container that is to be written.
#[derive(Clone)]
pub(super) struct DraftMember {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) kind: u8,
}

/// A container that is to be written.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) members: Vec<DraftMember>,
    /// What stands behind the end.
    pub(super) tail: Vec<u8>,
}

pub(super) const BASENAME: &str = "hello-1.0-2";

/// The metadata of a package that is sound.
pub(super) fn metadata() -> Vec<(String, Vec<u8>)> {
    [
        ("BUILD_ID", "2"),
        ("BUILD_TIME", "1795202375"),
        ("CATEGORY", "app-test"),
        ("CHOST", "x86_64-pc-linux-gnu"),
        ("DEPEND", "nls? ( sys-devel/gettext )"),
        ("EAPI", "8"),
        ("KEYWORDS", "amd64"),
        ("PF", "hello-1.0"),
        ("SLOT", "0"),
        ("USE", "nls"),
        ("repository", "test"),
    ]
    .map(|(key, value)| (key.to_owned(), format!("{value}\n").into_bytes()))
    .to_vec()
}

/// The archive of metadata.
pub(super) fn metadata_archive(values: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members = values.iter().map(|(key, value)| member(&format!("metadata/{key}"), value.clone()));
    archive(&members.collect::<Vec<_>>(), &[])
}

/// An image with one file.
pub(super) fn image_archive() -> Vec<u8> {
    let file = member("image/usr/bin/hello", b"#!/bin/sh\n".to_vec());
    let directory = DraftMember { name: "image/".to_owned(), bytes: Vec::new(), kind: b'5' };
    archive(&[directory, file], &[])
}

pub(super) fn member(name: &str, bytes: Vec<u8>) -> DraftMember {
    DraftMember { name: name.to_owned(), bytes, kind: b'0' }
}

/// A tar archive.
pub(super) fn archive(members: &[DraftMember], tail: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        let mut header = tar::Header::new_ustar();
        // As it is given, which the crate would not let it be.
        header.as_mut_bytes()[..member.name.len()].copy_from_slice(member.name.as_bytes());
        header.set_size(member.bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_795_202_375);
        header.set_device_major(0).and_then(|()| header.set_device_minor(0)).unwrap();
        header.set_entry_type(tar::EntryType::new(member.kind));
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&member.bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out.extend_from_slice(tail);
    out
}

impl Draft {
    pub(super) fn sound(codec: Codec) -> Self {
        Self::of(codec, &metadata_archive(&metadata()), &image_archive())
    }

    /// A container of these archives.
    pub(super) fn of(codec: Codec, metadata: &[u8], image: &[u8]) -> Self {
        let part = |name: &str, bytes: &[u8]| {
            member(&format!("{BASENAME}/{name}.tar{}", codec.suffix()), compress(codec, bytes))
        };
        let members = vec![
            member(&format!("{BASENAME}/gpkg-1"), Vec::new()),
            part("metadata", metadata),
            part("image", image),
            member(&format!("{BASENAME}/Manifest"), Vec::new()),
        ];
        let mut draft = Self { members, tail: Vec::new() };
        draft.seal();
        draft
    }

    /// Lets the Manifest say what is there.
    pub(super) fn seal(&mut self) {
        let lines: String = self.members.iter().filter_map(line).collect();
        if let Some(manifest) = self.members.iter_mut().find(|member| member.name.ends_with("/Manifest")) {
            manifest.bytes = lines.into_bytes();
        }
    }

    /// The Manifest, to be changed.
    pub(super) fn manifest(&mut self) -> &mut Vec<u8> {
        &mut self.members.last_mut().unwrap().bytes
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        archive(&self.members, &self.tail)
    }
}

/// What the Manifest says of a member.
fn line(member: &DraftMember) -> Option<String> {
    let name = member.name.rsplit('/').next().unwrap();
    let digests = MemberHasher::of(&member.bytes);
    let (sha512, blake2b) = (to_hex(&digests.sha512), to_hex(&digests.blake2b));
    let len = member.bytes.len();
    (name != "Manifest").then(|| format!("DATA {name} {len} SHA512 {sha512} BLAKE2B {blake2b}\n"))
}

/// What a program that packs with this codec makes of bytes.
pub(super) fn compress(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    fn finished<W: Write>(mut writer: W, bytes: &[u8]) -> W {
        writer.write_all(bytes).unwrap();
        writer
    }
    let level = flate2::Compression::fast();
    match codec {
        Codec::Plain => bytes.to_vec(),
        Codec::Gzip => finished(flate2::write::GzEncoder::new(Vec::new(), level), bytes).finish().unwrap(),
        Codec::Bzip2 => {
            let encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            finished(encoder, bytes).finish().unwrap()
        }
        Codec::Lz4 => finished(lz4_flex::frame::FrameEncoder::new(Vec::new()), bytes).finish().unwrap(),
        Codec::Lzip => lzip(bytes),
        Codec::Lzop => b"\x89LZO\0\r\n\x1a\n and what lzop would write".to_vec(),
        Codec::Xz => finished(liblzma::write::XzEncoder::new(Vec::new(), 1), bytes).finish().unwrap(),
        Codec::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

/// A member of an lzip file: a header, a stream of LZMA with a mark at its end, and a trailer.
fn lzip(bytes: &[u8]) -> Vec<u8> {
    use liblzma::stream::{Filters, LzmaOptions, Stream};

    let mut options = LzmaOptions::new_preset(1).unwrap();
    options.dict_size(1 << 20).literal_context_bits(3).literal_position_bits(0).position_bits(2);
    let mut filters = Filters::new();
    filters.lzma1(&options);
    let stream = Stream::new_raw_encoder(&filters).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(b"LZIP\x01\x14".to_vec(), stream);
    encoder.write_all(bytes).unwrap();
    let mut out = encoder.finish().unwrap();
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    out.extend_from_slice(&sum.sum().to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    let len = out.len() as u64 + 8;
    out.extend_from_slice(&len.to_le_bytes());
    out
}
