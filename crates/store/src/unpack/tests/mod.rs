//! What is promised of every artifact: its views are a function of its bytes, and what is taken apart comes back.

pub(crate) mod make;
mod odd;
mod programs;

use std::io::{self, Cursor, Read as _};

use proptest::prelude::*;

use super::*;
use crate::test_data::{noise, text};
use make::{ar, bzip2, cpio, deflate, gzip, tar, tar_header, xz, zip, zstd};

/// The frames and members of an artifact.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    frames: Vec<u8>,
    members: Vec<Vec<u8>>,
}

fn split(views: &Views, frames: Vec<u8>, members: &[u8]) -> Parts {
    assert_eq!(views.frames_len, frames.len() as u64);
    assert_eq!(views.members_len(), members.len() as u64);
    let mut rest = members;
    let members = views.members.iter().map(|len| {
        let (member, after) = rest.split_at(usize::try_from(*len).unwrap());
        rest = after;
        member.to_vec()
    });
    Parts { members: members.collect(), frames }
}

/// The views of an artifact.
pub(super) fn views_of(artifact: &[u8], limits: &Limits) -> Parts {
    let (mut frames, mut members) = (Vec::new(), Vec::new());
    let size = artifact.len() as u64;
    let source = &mut Cursor::new(artifact);
    let views = decode_views(source, size, limits, &mut InMemory, &mut frames, &mut members).unwrap();
    split(&views, frames, &members)
}

/// An artifact taken apart, after it was rebuilt once more from what its program is stored as.
pub(super) fn apart(artifact: &[u8], limits: &Limits) -> Option<(Program, Parts)> {
    let size = artifact.len() as u64;
    let mut taken = take_apart(&mut Cursor::new(artifact), size, limits, &mut InMemory).unwrap()?;
    let (mut frames, mut members) = (Vec::new(), Vec::new());
    taken.frames.read_to_end(&mut frames).unwrap();
    taken.members.read_to_end(&mut members).unwrap();
    let program = Program::decode(&taken.program.encode()).unwrap();
    assert_eq!(program, taken.program);
    let mut rebuilt = Vec::new();
    rebuild(&program, &mut frames.as_slice(), &mut members.as_slice(), size, limits, &mut rebuilt).unwrap();
    assert!(rebuilt == artifact, "the artifact does not come back");
    Some((program, split(&taken.views, frames, &members)))
}

impl Parts {
    /// Whether these are the frames of `taken` and its members, with streams as they are among them.
    fn shows(&self, taken: &Self) -> bool {
        let mut members = self.members.iter();
        self.frames == taken.frames && taken.members.iter().all(|member| members.any(|seen| seen == member))
    }
}

/// Checks that both views show `members`, and gives the program.
fn check(artifact: &[u8], members: &[&[u8]]) -> Program {
    let limits = Limits::default();
    let (program, parts) = apart(artifact, &limits).expect("the artifact can be taken apart");
    assert!(parts.members == members, "{:?}", parts.members.iter().map(Vec::len).collect::<Vec<_>>());
    assert!(views_of(artifact, &limits).shows(&parts));
    program
}

#[test]
fn a_tar_shows_its_files_whatever_it_is_compressed_with() {
    let files =
        [("a", text(1, 5000)), ("b/c", noise(2, 700)), ("empty", Vec::new()), ("d", text(3, 100_000))];
    let plain = tar(&files);
    let members: Vec<_> =
        files.iter().map(|(_, bytes)| bytes.as_slice()).filter(|bytes| !bytes.is_empty()).collect();
    let program = check(&plain, &members);
    assert!(matches!(program.ops.as_slice(), [Op::Tar(4), Op::Frames(1024)]));
    assert_eq!(program.frames, 2 + 4 * 512 + 1024);
    for level in 1..=9 {
        check(&gzip(&plain, level), &members);
    }
    check(&bzip2(&plain, 9), &members);
    check(&bzip2(&plain, 1), &members);
    check(&zstd(&plain, 3), &members);
    for (preset, block) in [(6, 0), (0, 0), (6 | 1 << 31, 0), (6, 40_000)] {
        check(&xz(&plain, preset, block), &members);
    }
}

#[test]
fn a_zip_shows_its_files() {
    let files =
        [("a.py", text(1, 5000)), ("b.bin", noise(2, 700)), ("c.py", text(2, 9000)), ("d/", Vec::new())];
    let members: Vec<_> =
        files.iter().map(|(_, bytes)| bytes.as_slice()).filter(|bytes| !bytes.is_empty()).collect();
    for has_descriptors in [false, true] {
        let artifact = zip(&files, 6, has_descriptors);
        let program = check(&artifact, &members);
        assert_eq!(program.encoders.len(), 1);
        let runs = program.ops.iter().filter(|op| matches!(op, Op::Zip { .. })).count();
        assert_eq!(runs, usize::from(!has_descriptors));
    }
}

#[test]
fn packages_are_seen_through_to_the_innermost_files() {
    let (control, data, module) = (text(1, 3000), text(2, 50_000), text(3, 40_000));
    let inner = [("./control", control.clone())];
    let outer = [("./data", data.clone()), ("./module.ko.xz", xz(&module, 6, 0)), ("./tail", noise(4, 10))];
    let deb = ar(&[
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", gzip(&tar(&inner), 9)),
        ("data.tar.xz", xz(&tar(&outer), 6, 0)),
    ]);
    let program = check(&deb, &[b"2.0\n", &control, &data, &module, &noise(4, 10)]);
    let summary = program.summary();
    assert_eq!(summary.size, deb.len() as u64);
    let plain: Vec<_> = summary.encoders.iter().map(|(_, plain)| *plain).collect();
    assert!(summary.rebuild_time().unwrap() > std::time::Duration::from_millis(30), "{summary:?}");
    assert_eq!(plain, [tar(&inner).len() as u64, (tar(&outer).len() + module.len()) as u64]);

    let gpkg = tar(&[
        ("gpkg-1", Vec::new()),
        ("metadata.tar.gz", gzip(&tar(&inner), 6)),
        ("image.tar.xz", xz(&tar(&outer), 6, 0)),
    ]);
    check(&gpkg, &[&control, &data, &module, &noise(4, 10)]);

    let wheel = zip(&[("a.gz", gzip(&data, 6)), ("b.txt", control.clone())], 6, false);
    check(&tar(&[("a.whl", wheel)]), &[&data, &control]);
}

#[test]
fn an_initramfs_is_a_sequence_of_archives() {
    let (early, late, more) = (text(1, 3000), text(2, 50_000), text(3, 5000));
    let mut artifact = cpio(&[("kernel/x86/microcode", early.clone())]);
    artifact.resize(artifact.len().next_multiple_of(512), 0);
    artifact.extend(gzip(&cpio(&[("init", late.clone()), ("etc", Vec::new())]), 6));
    artifact.extend([0; 64]);
    artifact.extend(xz(&cpio(&[("more", more.clone())]), 6, 0));
    check(&artifact, &[&early, &late, &more]);
}

#[test]
fn an_image_of_a_kernel_shows_its_payload() {
    let kernel = text(1, 50_000);
    let payload = [gzip(&kernel, 9), 50_000u32.to_le_bytes().to_vec()].concat();
    let mut artifact = noise(2, 3000);
    artifact[0x1f1] = 1;
    artifact[0x1fe..0x208].copy_from_slice(b"\x55\xaa\xeb\x6aHdrS\x0f\x02");
    artifact[0x248..0x24c].copy_from_slice(&(3000u32 - 1024).to_le_bytes());
    artifact[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    let setup = artifact.clone();
    artifact.extend(payload);
    artifact.extend(noise(3, 5000));
    check(&artifact, &[&setup, &kernel, &noise(3, 5000)]);
}

/// How a test compresses.
type Encode = fn(&[u8]) -> Vec<u8>;

#[test]
fn streams_in_several_pieces_are_one() {
    let plain = tar(&[("a", text(1, 90_000)), ("b", text(2, 90_000))]);
    let (first, second) = plain.split_at(70_001);
    let members: [&[u8]; 2] = [&text(1, 90_000), &text(2, 90_000)];
    let codings: [Encode; 4] = [
        |plain| gzip(plain, 6),
        |plain| bzip2(plain, 9),
        |plain| zstd(plain, 3),
        |plain| xz(plain, 6, 20_000),
    ];
    for encode in codings {
        check(&[encode(first), encode(second)].concat(), &members);
    }
}

#[test]
fn pax_and_gnu_headers_are_frames() {
    let long = format!("{}\0", "n/".repeat(100));
    let mut artifact = tar_header("././@LongLink", long.len() as u64, b'L').to_vec();
    artifact.extend(long.as_bytes());
    artifact.resize(1024, 0);
    artifact.extend(tar_header("pax", 30, b'x'));
    artifact.extend(b"30 mtime=1700000000.123456789\n");
    artifact.resize(2048, 0);
    artifact.extend(tar(&[("n", text(1, 3000))]));
    let program = check(&artifact, &[&text(1, 3000)]);
    assert_eq!(program.ops.first(), Some(&Op::Tar(3)));
}

#[test]
fn what_cannot_be_encoded_again_stays_as_it_is() {
    // A stream that ends in an empty stored block: no encoder at hand writes that after so little.
    let limits = Limits { dictionary_encode_max: 1 << 20, ..Limits::default() };
    let (kept, seen) = (xz(&text(1, 30_000), 6, 0), text(2, 9000));
    let artifact = tar(&[("kept.xz", kept.clone()), ("seen.gz", gzip(&seen, 6))]);
    let (_, parts) = apart(&artifact, &limits).unwrap();
    assert_eq!(parts.members, [kept.clone(), seen.clone()]);
    // The view sees through what the program cannot, and has both as they are besides.
    let views = views_of(&artifact, &limits).members;
    let within = &views[1];
    assert!(within.len() + 100 > kept.len() && kept.windows(within.len()).any(|bytes| bytes == within));
    assert_eq!(views, [text(1, 30_000), within.clone(), seen.clone(), deflate(&seen, 6)]);
    // Where that is all there is, there is nothing.
    assert!(apart(&xz(&text(1, 30_000), 6, 0), &limits).is_none());
}

#[test]
fn what_follows_from_the_header_of_a_tar_is_not_in_the_frames() {
    let sums: [fn(u64) -> String; 4] = [
        |sum| format!("{sum:06o}\0 "),
        |sum| format!("{sum:06o} \0"),
        |sum| format!("{sum:07o}\0"),
        |sum| format!("{sum:>6o} \0"),
    ];
    for (number, sum_field) in sums.iter().enumerate() {
        for padding in [0, b'x'] {
            let mut artifact = Vec::new();
            for (name, bytes) in [("a", text(1, 3000)), ("b.gz", gzip(&text(2, 3000), 6))] {
                let mut header = tar_header(name, bytes.len() as u64, b'0');
                header[148..156].fill(b' ');
                let sum = header.iter().map(|byte| u64::from(*byte)).sum();
                header[148..156].copy_from_slice(sum_field(sum).as_bytes());
                artifact.extend(header);
                artifact.extend(bytes);
                artifact.resize(artifact.len().next_multiple_of(512), padding);
            }
            let (program, parts) = apart(&artifact, &Limits::default()).unwrap();
            assert_eq!(parts.members, [text(1, 3000), text(2, 3000)]);
            // The count and the types of both headers, and six fields of them.
            let sum = 2 + 2 + 2 * (100 + 3 * 8 + 2 * 12);
            let is_abridged = parts.frames[sum..sum + 6] == [0; 6];
            assert_eq!(is_abridged, number < 2, "{sum_field:?}");
            let is_padded = program.frames != 2 + 2 * 512 + 15 + 8;
            assert_eq!(is_padded, padding != 0, "{}", program.frames);
            assert!(views_of(&artifact, &Limits::default()).shows(&parts));
        }
    }
}

#[test]
fn headers_of_a_tar_stand_in_blocks_before_what_follows_them() {
    // So many that two blocks do not hold them, and between two of them more than waits for a block.
    let mut artifact = Vec::new();
    for number in 0..20_000 {
        artifact.extend(tar_header(&format!("d-1/{number}"), 1, b'0'));
        artifact.push(b'a');
        artifact.resize(artifact.len().next_multiple_of(512), 0);
        if number == 100 {
            artifact.extend(tar_header("d-1/x", 3 << 20, b'x'));
            artifact.extend(noise(1, 3 << 20));
        }
    }
    artifact.resize(artifact.len() + 1024, 0);
    let (program, parts) = apart(&artifact, &Limits::default()).unwrap();
    assert_eq!(program.ops.first(), Some(&Op::Tar(20_001)));
    assert_eq!(parts.members.len(), 20_000);
    let block = |at: usize| parts.frames[at..].first_chunk().map(|count| u16::from_le_bytes(*count));
    let mut at = 0;
    let mut counts = Vec::new();
    for other in [3 << 20, 0, 0, 0] {
        let count = block(at).unwrap();
        at += 2 + usize::from(count) * 512 + other;
        counts.push(count);
    }
    assert_eq!(counts, [102, 8192, 8192, 3515]);
    assert_eq!(parts.frames.len(), at + 1024);
    assert!(views_of(&artifact, &Limits::default()).shows(&parts));
}

#[test]
fn ordinary_files_are_single_members() {
    for artifact in [Vec::new(), text(1, 5000), noise(2, 5000), b"PK\x03\x04".repeat(300)] {
        assert!(apart(&artifact, &Limits::default()).is_none());
        let parts = views_of(&artifact, &Limits::default());
        let members = Some(artifact).filter(|bytes| !bytes.is_empty());
        assert_eq!(parts, Parts { frames: Vec::new(), members: members.into_iter().collect() });
    }
}

#[test]
fn a_probe_tells_what_is_worth_trying() {
    let tree = [("a", text(1, 5000))];
    for artifact in [
        gzip(&text(1, 5000), 6),
        tar(&tree),
        zip(&tree, 6, false),
        ar(&tree),
        cpio(&tree),
        zstd(&noise(1, 500), 3),
    ] {
        assert!(is_promising(&artifact, artifact.len() as u64));
        assert!(is_promising(&artifact[..artifact.len().min(512)], artifact.len() as u64));
        assert!(!is_promising(&artifact, 100));
    }
    assert!(!is_promising(&text(1, 5000), 5000));
    assert!(!is_promising(b"", 5000));
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), 0u64..100, 0usize..20_000)
        .prop_map(|(is_text, seed, len)| if is_text { text(seed, len) } else { noise(seed, len / 8) })
}

/// Files and archives of files, each in a compression or none.
fn artifact() -> impl Strategy<Value = Vec<u8>> {
    file().prop_recursive(3, 24, 6, |inner| {
        let wrap = (0u8..5, 1u32..10, prop::collection::vec(inner, 0..6));
        wrap.prop_map(|(shape, level, files)| {
            let files: Vec<_> = files.into_iter().map(|bytes| ("name", bytes)).collect();
            match shape {
                0 => zip(&files, level, false),
                1 => gzip(&tar(&files), level),
                2 => xz(&tar(&files), level.min(4), 0),
                3 => bzip2(&cpio(&files), level),
                _ => ar(&files),
            }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_taken_apart_comes_back(artifact in artifact()) {
        let limits = Limits::default();
        let views = views_of(&artifact, &limits);
        if let Some((_, parts)) = apart(&artifact, &limits) {
            prop_assert!(views.shows(&parts));
        }
    }

    #[test]
    fn views_do_not_depend_on_where_streams_wait(artifact in artifact()) {
        let limits = Limits::default();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("artifact");
        std::fs::write(&path, &artifact).unwrap();
        let mut spools = || -> io::Result<Box<dyn Storage>> { Ok(Box::new(tempfile::tempfile()?)) };
        let (mut frames, mut members) = (Vec::new(), Vec::new());
        let source = &mut std::fs::File::open(&path).unwrap();
        let views = decode_views(source, artifact.len() as u64, &limits, &mut spools, &mut frames, &mut members);
        prop_assert_eq!(split(&views.unwrap(), frames, &members), views_of(&artifact, &limits));
    }
}
