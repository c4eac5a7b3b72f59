//! Artifacts that are taken apart, and programs that put them together.

use std::io::{self, Cursor};

use smart_sync_store::codec::Reader;
use smart_sync_store::unpack::{InMemory, Limits, Program, decode_views, is_promising, rebuild, take_apart};

use crate::{Verdict, check_bytes};

/// Lets a panic go on to where it is caught: one inside the library that corrects deflate streams is an error there.
///
/// The hook of the fuzzer would end the process first. A panic that nothing catches ends it still.
pub fn keep_caught_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let foreign = |file: &str| ["preflate-rs", "cabac", "bitcode"].iter().any(|name| file.contains(name));
        if !info.location().is_some_and(|location| foreign(location.file())) {
            usual(info);
        }
    }));
}

/// Limits that keep a single input from taking long.
fn limits() -> Limits {
    Limits {
        plain_max: 4 << 20,
        ratio_max: 100,
        members_max: 10_000,
        streams_max: 100,
        dictionary_decode_max: 1 << 20,
        dictionary_encode_max: 1 << 20,
        window_log_max: 20,
        // The sanitizer takes a table of the optimal parser, which the levels above use, for one that has left its scope.
        zstd_level_max: 12,
        ..Limits::default()
    }
}

/// A program, whose summary has to be known without running it.
pub fn unpack_program(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, Program::decode, |program| {
        assert_eq!(program.summary().encoders.len(), program.encoders.len());
        program.encode()
    })
}

/// A program, frames and members, the first two with their lengths in front: what comes out is never more than the
/// program's size, and it is all of it where the rebuild says so.
pub fn unpack_rebuild(bytes: &[u8]) -> Verdict {
    let mut reader = Reader::new(bytes);
    let Ok(program) = reader.prefixed("the program", 1 << 20) else { return Verdict::Refused };
    let Ok(frames) = reader.prefixed("the frames", 1 << 20) else { return Verdict::Refused };
    let members = reader.rest();
    let Ok(program) = Program::decode(program) else { return Verdict::Refused };
    if program.size > 16 << 20 {
        return Verdict::Refused;
    }
    let mut out = Vec::new();
    // The library that corrects deflate streams has no bound on what corrections make it allocate.
    let limits = Limits { allows_corrections: false, ..limits() };
    let result = rebuild(&program, &mut &*frames, &mut &*members, program.size, &limits, &mut out);
    assert!(out.len() as u64 <= program.size, "more came out than was declared");
    if result.is_err() {
        return Verdict::Refused;
    }
    assert_eq!(out.len() as u64, program.size);
    Verdict::Accepted
}

/// Any bytes as an artifact: the views are complete and the same each time, and what is taken apart comes back.
pub fn unpack_artifact(bytes: &[u8]) -> Verdict {
    let (limits, size) = (limits(), bytes.len() as u64);
    let views = || {
        let (mut frames, mut members) = (Vec::new(), Vec::new());
        let source = &mut Cursor::new(bytes);
        let views = decode_views(source, size, &limits, &mut InMemory, &mut frames, &mut members);
        let views = views.expect("memory does not fail");
        assert_eq!((views.frames_len, views.members_len()), (frames.len() as u64, members.len() as u64));
        (views, frames, members)
    };
    let first = views();
    assert_eq!(first, views());
    let taken =
        take_apart(&mut Cursor::new(bytes), size, &limits, &mut InMemory).expect("memory does not fail");
    let Some(mut taken) = taken else { return Verdict::Refused };
    assert!(is_promising(bytes, size.max(1 << 10)), "the probe has missed it");
    let read = |storage: &mut dyn io::Read| {
        let mut bytes = Vec::new();
        storage.read_to_end(&mut bytes).expect("memory does not fail");
        bytes
    };
    let (frames, members) = (read(&mut taken.frames), read(&mut taken.members));
    let mut out = Vec::new();
    rebuild(&taken.program, &mut &*frames, &mut &*members, size, &limits, &mut out).expect("it was proven");
    assert_eq!(out, bytes);
    Verdict::Accepted
}
