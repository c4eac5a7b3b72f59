//! Archives that are delivered decompressed, and rebuilt.

use std::fs::File;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use smart_sync_store::unpack::{self, Dissected, Program, Stretch, rebuild, take_apart};

use super::super::apply::{NoRebuilder, Parts};
use super::*;

/// What these tests do in their own process where the programs start another one: nobody here means them ill.
pub(super) struct Corrects;

impl Rebuilder for Corrects {
    fn rebuild(&self, parts: Parts, out: &mut dyn io::Write) -> io::Result<()> {
        let stretch = |range: Range<u64>| Stretch { file: &parts.file, at: range.start, end: range.end };
        let mut program = Vec::new();
        stretch(parts.program).read_to_end(&mut program)?;
        let program = Program::decode(&program).unwrap();
        let (mut frames, mut members) = (stretch(parts.frames), stretch(parts.members));
        let limits = unpack::Limits::default();
        rebuild(&program, &mut frames, &mut members, parts.size, &limits, out).map_err(io::Error::other)
    }
}

impl Dissector for Corrects {
    fn dissect(&self, mut artifact: File, size: u64) -> io::Result<Option<Dissected>> {
        let taken = take_apart(&mut artifact, size, &unpack::Limits::default(), &mut unpack::InMemory)?;
        Ok(taken.map(Dissected::from))
    }
}

/// A tar of some files, compressed as gzip does.
fn tgz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(9));
    encoder.write_all(&tarball(files)).unwrap();
    encoder.finish().unwrap()
}

/// The same, flushed in the middle: no encoder that is built in gives that, unless it is corrected.
fn flushed_tgz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let plain = tarball(files);
    let (first, second) = plain.split_at(plain.len() / 2);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(9));
    encoder.write_all(first).unwrap();
    encoder.flush().unwrap();
    encoder.write_all(second).unwrap();
    encoder.finish().unwrap()
}

fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

/// How an archive is made.
type Compress = fn(&[(&str, &[u8])]) -> Vec<u8>;

/// Two trees with an archive each: most of what is in the second one is in the first one.
fn archives(compress: Compress) -> (Tree, Tree, Vec<u8>) {
    let text = |seed: u64| -> Vec<u8> {
        let words = [&b"alpha "[..], b"beta ", b"gamma ", b"delta\n"];
        noise(seed, 30_000).iter().flat_map(|byte| words[usize::from(byte % 4)].to_vec()).collect()
    };
    let (one, two, mut three) = (text(1), text(2), text(3));
    let before = compress(&[("p-1.0/one", &one), ("p-1.0/two", &two), ("p-1.0/three", &three)]);
    three.splice(50_000..50_005, *b"other");
    let after = compress(&[("p-1.1/one", &one), ("p-1.1/two", &two), ("p-1.1/three", &three)]);
    let old = Tree::git().put("p-1.0.tar.gz", before).put("a", *b"x");
    let new = Tree::git().put("p-1.1.tar.gz", after.clone()).put("a", *b"y");
    (old, new, after)
}

#[test]
fn a_compressed_archive_costs_what_changed_in_it() {
    let (old, new, after) = archives(tgz);
    let [quick, best] = check(&old, &new);
    assert!(best < 700 && best * 20 < quick, "{quick} {best} of {}", after.len());
    // What is no archive of a kind that can be rebuilt comes as it is.
    let noise = Tree::git().put("p-1.2.tar.gz", [&after[..10], &noise(5, 40_000)].concat());
    check(&new, &noise);
}

#[test]
fn what_has_to_be_corrected_is_rebuilt_elsewhere_or_fails() {
    let (old, new, after) = archives(flushed_tgz);
    let [quick, best] = check(&old, &new);
    assert!(best < 1500 && best * 10 < quick, "{quick} {best} of {}", after.len());
    let bytes = bundle(&old, &new, Effort::Best);
    assert!(matches!(carry_out_with(&old, &bytes, &NoRebuilder), Err(BundleError::Process(_))));
    // Whatever comes back is judged by what it leads to, and as many bytes as were announced are taken.
    let expected = summary(new.fidelity(), new.entries().into_iter()).unwrap();
    let wrong = carry_out_with(&old, &bytes, &Zeros).unwrap();
    assert_ne!(wrong, expected);
}

/// Makes zeros of everything.
struct Zeros;

impl Rebuilder for Zeros {
    fn rebuild(&self, parts: Parts, out: &mut dyn io::Write) -> io::Result<()> {
        io::copy(&mut io::repeat(0).take(parts.size), out).map(drop)
    }
}
