//! Artifacts that are damaged, absurd or made to hurt: none is an error, and none costs more than its limits.

use super::make::wrap_gzip;
use super::*;

fn check_all(artifact: &[u8]) -> Parts {
    let limits = Limits::default();
    apart(artifact, &limits);
    let parts = views_of(artifact, &limits);
    assert_eq!(parts, views_of(artifact, &limits));
    parts
}

fn samples() -> Vec<Vec<u8>> {
    let files = [("a", text(1, 3000)), ("b", noise(2, 300)), ("c", gzip(&text(3, 2000), 6))];
    let deb = ar(&[("control", gzip(&tar(&files), 9)), ("data", xz(&tar(&files), 0, 0))]);
    let plain = tar(&files);
    vec![
        deb,
        zip(&files, 6, true),
        zip(&files, 6, false),
        cpio(&files),
        bzip2(&plain, 1),
        zstd(&plain, 3),
        xz(&plain, 1, 3000),
        plain,
    ]
}

#[test]
fn whatever_is_cut_off_is_no_error() {
    for sample in samples() {
        let step = (sample.len() / 40).max(1);
        for len in (0..sample.len()).step_by(step) {
            check_all(&sample[..len]);
        }
    }
}

#[test]
fn whatever_is_damaged_is_no_error() {
    for sample in samples() {
        let step = (sample.len() / 40).max(1);
        for at in (0..sample.len()).step_by(step) {
            let mut damaged = sample.clone();
            damaged[at] ^= 0x41;
            check_all(&damaged);
        }
    }
}

#[test]
fn what_is_blown_up_beyond_its_ratio_stays_compressed() {
    let bomb = gzip(&vec![0; 20 << 20], 9);
    assert!(20 << 20 > bomb.len() * 250);
    assert_eq!(check_all(&bomb).members, std::slice::from_ref(&bomb));
    // Once more compressed, the layer that is not absurd is seen through.
    let nested = gzip(&bomb, 9);
    assert_eq!(check_all(&nested).members, [bomb]);
}

#[test]
fn a_stream_may_begin_with_much_of_nothing() {
    let plain = [vec![0; 6 << 20], noise(1, 40_000)].concat();
    let artifact = gzip(&plain, 6);
    assert_eq!(check_all(&artifact).members, std::slice::from_ref(&plain));
    // What follows on a bomb is not its own.
    let bomb = [gzip(&vec![0; 6 << 20], 9), noise(1, 40_000)].concat();
    assert_eq!(check_all(&bomb).members, std::slice::from_ref(&bomb));
}

#[test]
fn the_plain_bytes_of_all_streams_together_are_limited() {
    let limits = Limits { plain_max: 250_000, ..Limits::default() };
    let file = gzip(&text(1, 100_000), 6);
    let artifact = tar(&[("a", file.clone()), ("b", file.clone()), ("c", file.clone())]);
    let parts = views_of(&artifact, &limits);
    let taken = apart(&artifact, &limits).unwrap().1;
    assert_eq!(taken.members, [text(1, 100_000), text(1, 100_000), file]);
    assert!(parts.shows(&taken));
}

#[test]
fn members_and_streams_are_counted() {
    let files: Vec<_> = (0..10).map(|seed| ("name", gzip(&text(seed, 2000), 6))).collect();
    let limits = Limits { members_max: 5, ..Limits::default() };
    assert_eq!(apart(&tar(&files), &limits).unwrap().1.members.len(), 6);
    let limits = Limits { streams_max: 3, ..Limits::default() };
    let parts = apart(&tar(&files), &limits).unwrap().1;
    assert_eq!(parts.members[2], text(2, 2000));
    assert_eq!(parts.members[3], files[3].1);
}

#[test]
fn nesting_ends_at_its_depth() {
    let mut artifact = text(1, 5000);
    let mut layers = vec![artifact.clone()];
    for _ in 0..9 {
        // Stored blocks, so that each layer is long enough to be looked into.
        artifact = wrap_gzip(&artifact, &deflate(&artifact, 6));
        layers.push(artifact.clone());
    }
    assert_eq!(check_all(&artifact).members.first(), Some(&layers[3]));
    let limits = Limits { depth_max: 2, ..Limits::default() };
    assert_eq!(views_of(&artifact, &limits).members.first(), Some(&layers[7]));
}

#[test]
fn a_dictionary_of_4_gib_is_not_allocated() {
    let mut artifact = xz(&text(1, 5000), 6, 0);
    // The property of LZMA2 in the header of the first block, whose check nobody asks for here.
    assert_eq!(artifact[14..17], [0x21, 1, 22]);
    artifact[16] = 40;
    assert_eq!(check_all(&artifact).members, std::slice::from_ref(&artifact));
    // 128 MiB are refused by the limit alone.
    artifact[16] = 30;
    assert_eq!(check_all(&artifact).members, std::slice::from_ref(&artifact));
}

#[test]
fn a_window_of_zstd_over_the_limit_is_not_allocated() {
    let mut artifact = zstd(&text(1, 50_000), 3);
    assert_eq!(artifact[4] & 0x20, 0, "the frame has a window");
    artifact[5] = (31 - 10) << 3;
    assert_eq!(check_all(&artifact).members, std::slice::from_ref(&artifact));
}

#[test]
fn sizes_that_no_archive_can_have_end_it() {
    let check_tar = |field: &[u8; 12]| {
        let mut artifact = tar(&[("a", text(1, 3000))]);
        artifact.truncate(artifact.len() - 1024);
        let mut header = tar_header("b", 0, b'0');
        header[124..136].copy_from_slice(field);
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        artifact.extend(header);
        artifact.extend(noise(1, 6000));
        let parts = check_all(&artifact);
        assert_eq!(parts.members.len(), 2);
        assert_eq!(parts.members[1][512..], noise(1, 6000));
    };
    check_tar(b"77777777777\0");
    check_tar(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    check_tar(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    check_tar(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
}

#[test]
fn overlapping_entries_of_a_zip_are_seen_once() {
    let mut artifact = zip(&[("a", text(1, 5000))], 6, false);
    let directory = artifact.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let end = artifact.windows(4).position(|bytes| bytes == b"PK\x05\x06").unwrap();
    let entry = artifact[directory..end].to_vec();
    // The directory names the same entry a thousand times over.
    let tail = artifact.split_off(end);
    (0..1000).for_each(|_| artifact.extend(&entry));
    artifact.extend(tail);
    assert_eq!(check_all(&artifact).members, [text(1, 5000), deflate(&text(1, 5000), 6)]);
}

#[test]
fn a_size_that_is_not_that_of_the_source_is_an_error_of_the_source() {
    let artifact = tar(&[("a", text(1, 3000))]);
    let size = artifact.len() as u64 + 1;
    let views = decode_views(
        &mut Cursor::new(&artifact),
        size,
        &Limits::default(),
        &mut InMemory,
        &mut io::sink(),
        &mut io::sink(),
    );
    assert_eq!(views.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

proptest! {
    #[test]
    fn noise_behind_a_magic_number_is_no_error(which in 0usize..8, bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let sample = &samples()[which];
        let keep = sample.len().min(40 * which);
        check_all(&[&sample[..keep], &bytes].concat());
    }
}
