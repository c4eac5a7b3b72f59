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
    assert!(matches!(run(&program, &frames[..9], &members), Err(RebuildError::Frames(_))));
    assert!(matches!(run(&program, &frames, &members[1..]), Err(RebuildError::Members(_))));
}

#[test]
fn a_program_is_limited_in_depth_entries_and_dictionary() {
    let encoder = Encoder { method: 1, version: b"zlib 1.4".to_vec(), parameters: vec![6] };
    let program = |ops: Vec<Op>, encoders: Vec<Encoder>| Program {
        view: 1,
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
