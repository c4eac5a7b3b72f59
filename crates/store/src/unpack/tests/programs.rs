//! Programs that do not fit, and the bytes that each encoder has to give for ever.

use super::*;

fn sample() -> (Vec<u8>, Program, Vec<u8>, Vec<u8>) {
    let artifact = gzip(&tar(&[("a", text(1, 3000)), ("b", text(2, 3000))]), 6);
    let (program, parts) = apart(&artifact, &Limits::default()).unwrap();
    (artifact, program, parts.frames, parts.members.concat())
}

fn run(program: &Program, frames: &[u8], members: &[u8]) -> Result<Vec<u8>, RebuildError> {
    let mut out = Vec::new();
    let (mut frames, mut members) = (frames, members);
    rebuild(program, &mut frames, &mut members, program.size, &Limits::default(), &mut out).map(|()| out)
}

#[test]
fn another_version_of_an_encoder_is_told_apart() {
    let (artifact, mut program, frames, members) = sample();
    assert_eq!(run(&program, &frames, &members).unwrap(), artifact);
    program.encoders[0].version = b"zlib 1.2.11".to_vec();
    let again = Program::decode(&program.encode()).unwrap();
    assert!(
        matches!(run(&again, &frames, &members), Err(RebuildError::OtherEncoder(other)) if other == program.encoders[0])
    );
    for view in [VIEW_VERSION - 1, VIEW_VERSION + 1] {
        let other = Program { view, ..program.clone() };
        assert!(
            matches!(run(&other, &frames, &members), Err(RebuildError::OtherView(found)) if found == view)
        );
    }
    program.encoders[0].method = 200;
    assert!(matches!(run(&program, &frames, &members), Err(RebuildError::OtherEncoder(_))));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let (_, program, frames, members) = sample();
    let refused = |change: &dyn Fn(&mut Program)| {
        let mut program = program.clone();
        change(&mut program);
        run(&program, &frames, &members).unwrap_err()
    };
    assert!(matches!(refused(&|program| program.frames -= 1), RebuildError::Unfit(_)));
    assert!(matches!(refused(&|program| program.frames += 1), RebuildError::Unfit(_)));
    assert!(matches!(refused(&|program| program.members -= 1), RebuildError::Unfit(_)));
    assert!(matches!(refused(&|program| program.size += 1), RebuildError::Unfit(_)));
    assert!(matches!(refused(&|program| program.size -= 1), RebuildError::Output(_)));
    let plain = |program: &mut Program, by: i64| {
        for op in &mut program.ops {
            if let Op::Encode { plain, .. } = op {
                *plain = plain.checked_add_signed(by).unwrap();
            }
        }
    };
    assert!(matches!(refused(&|program| plain(program, 1)), RebuildError::Output(_)));
    assert!(matches!(refused(&|program| plain(program, -1)), RebuildError::Output(_)));
    assert!(matches!(
        refused(&|program| program.encoders[0].parameters.clear()),
        RebuildError::Parameters(_)
    ));
    assert!(matches!(run(&program, &frames[1..], &members), Err(RebuildError::Unfit(_))));
    // A block of headers that says of itself that there are none, too many, or more than are wanted.
    let at = frames.iter().position(|byte| *byte == 2).unwrap();
    for count in [0, 3, 8193] {
        let mut frames = frames.clone();
        frames[at..at + 2].copy_from_slice(&u16::to_le_bytes(count));
        assert!(run(&program, &frames, &members).is_err(), "{count}");
    }
    assert!(matches!(run(&program, &frames[..9], &members), Err(RebuildError::Frames(_))));
    assert!(matches!(run(&program, &frames, &members[1..]), Err(RebuildError::Members(_))));
}

#[test]
fn a_program_is_limited_in_depth_entries_and_dictionary() {
    let encoder = Encoder { method: 1, version: b"zlib 1.4".to_vec(), parameters: vec![6] };
    let program = |ops: Vec<Op>, encoders: Vec<Encoder>| Program {
        view: VIEW_VERSION,
        size: 100,
        frames: 0,
        members: 0,
        encoders,
        ops,
    };
    let open = Op::Encode { encoder: 0, plain: 1000, pieces: Vec::new() };
    let deep = [vec![open; 7], vec![Op::End; 7]].concat();
    let error = run(&program(deep, vec![encoder]), b"", b"").unwrap_err();
    assert!(matches!(error, RebuildError::OverLimit("nesting")));
    let error = run(&program(vec![Op::Tar(u64::MAX)], Vec::new()), b"", b"").unwrap_err();
    assert!(matches!(error, RebuildError::OverLimit("entries")));
    let xz = Encoder { method: 5, version: b"liblzma 5.8.4".to_vec(), parameters: vec![6, 0, 0, 40] };
    let error = run(&program(Vec::new(), vec![xz]), b"", b"").unwrap_err();
    assert!(matches!(error, RebuildError::OverLimit("dictionary")));
    let corrected = Encoder { method: 4, version: b"preflate-rs 0.7.6".to_vec(), parameters: Vec::new() };
    let limits = Limits { allows_corrections: false, ..Limits::default() };
    let program = program(Vec::new(), vec![corrected]);
    let error =
        rebuild(&program, &mut io::empty(), &mut io::empty(), 100, &limits, &mut io::sink()).unwrap_err();
    assert!(matches!(error, RebuildError::OverLimit("corrections")));
}

#[test]
fn programs_are_decoded_strictly() {
    let (_, program, _, _) = sample();
    let bytes = program.encode();
    let refused = |bytes: &[u8]| Program::decode(bytes).is_err();
    for len in 0..bytes.len() {
        assert!(refused(&bytes[..len]), "{len} bytes of a program");
    }
    assert!(refused(&[bytes.as_slice(), &[0]].concat()), "an end too many");
    assert!(refused(&[bytes.as_slice(), &[1, 0]].concat()), "no frames");
    assert!(refused(&[bytes.as_slice(), &[9]].concat()), "an unknown step");
    assert!(refused(&[bytes.as_slice(), &[6, 1, 0, 0, 0]].concat()), "an encoder that is not listed");
}

/// Words at random: enough for encoders to differ.
fn prose() -> Vec<u8> {
    let words = "a an as at be by do for from go he if in is it may no not of on or set so that the then this to up we when with";
    let words: Vec<_> = words.split(' ').collect();
    let pick =
        |byte: &u8| format!("{}{}", words[usize::from(byte & 31)], if *byte < 224 { ' ' } else { '\n' });
    noise(7, 400).iter().map(pick).collect::<String>().into_bytes()
}

/// The artifacts were made by zlib 1.2.13, miniz_oxide 0.9.1, zlib-rs 0.6.8, zlib flushed in the middle, xz 5.4, bzip2
/// 1.0.8 and zstd 1.5.7. A library that gives other bytes is another version, and a program that reads differently is
/// another format.
#[test]
fn every_method_gives_the_bytes_of_its_golden_files() {
    let check = |name: &str, version: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/unpack");
        let artifact = std::fs::read(format!("{folder}/{name}")).unwrap();
        let golden = std::fs::read(format!("{folder}/{name}.program")).unwrap();
        let (program, parts) = apart(&artifact, &Limits::default()).unwrap();
        assert_eq!(parts.members, [prose()]);
        assert_eq!(program.encode(), golden, "{name}");
        assert_eq!(program.encoders[0].version, version.as_bytes());
        let golden = Program::decode(&golden).unwrap();
        assert_eq!(run(&golden, &parts.frames, &prose()).unwrap(), artifact);
    };
    check("zlib.gz", "zlib 1.4");
    check("miniz.gz", "miniz_oxide 0.9.1");
    check("zlib-rs.gz", "zlib-rs 0.6.8");
    check("corrected.gz", "preflate-rs 0.7.6");
    check("lzma2.xz", "liblzma 5.8.4");
    check("x86.xz", "liblzma 5.8.4");
    check("bzip2.bz2", "libbz2-rs 0.2.6");
    check("zstd.zst", "zstd 1.5.7");
}

/// An entry that is one of many, one that is looked into, one that describes another, and one that is filled up with
/// something else than zeros.
#[test]
fn frames_of_a_tar_are_those_of_its_golden_file() {
    let mut artifact = tar_header("pax", 30, b'x').to_vec();
    artifact.extend(b"30 mtime=1700000000.123456789\n");
    artifact.resize(1024, 0);
    artifact.extend(tar(&[("a", text(1, 600)), ("b.gz", gzip(&text(2, 3000), 6)), ("c", text(3, 600))]));
    let filled = artifact.len() - 1024 - 200;
    artifact[filled..filled + 100].fill(b'x');
    let (program, parts) = apart(&artifact, &Limits::default()).unwrap();
    assert_eq!(parts.members, [text(1, 600), text(2, 3000), text(3, 600)]);
    let golden = include_bytes!("../../../tests/golden/unpack/tar.frames-and-program");
    assert_eq!([parts.frames, program.encode()].concat(), golden);
}

#[test]
fn corrections_that_make_no_sense_are_an_error() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/unpack");
    let artifact = std::fs::read(format!("{folder}/corrected.gz")).unwrap();
    let (program, parts) = apart(&artifact, &Limits::default()).unwrap();
    let change = |at: usize| {
        let mut program = program.clone();
        let pieces = program.ops.iter_mut().find_map(|op| match op {
            Op::Encode { pieces, .. } => Some(pieces),
            _ => None,
        });
        let byte = pieces.unwrap()[0].extra.get_mut(at)?;
        *byte ^= 0x55;
        Some(run(&program, &parts.frames, &prose()).ok())
    };
    // What the library panics over is an error; what it takes gives other bytes, but for parameters without effect.
    let results: Vec<_> = (0..).map_while(change).collect();
    let wrong = results.iter().filter(|result| result.as_ref() != Some(&artifact)).count();
    assert!(wrong > results.len() / 2, "{wrong} of {}", results.len());
}
