//! What GNU gzip makes: streams that only corrections can give again, and programs for them that are made to do harm.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::process::{Command, Stdio};

use smart_sync_store::unpack::{Op, Program};

use crate::noise::noise;
use crate::skip::skipped;

/// What GNU gzip makes of some bytes, or nothing where there is no gzip.
pub fn gnu_gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let started = Command::new("gzip").arg("-n").stdin(file(plain)).stdout(Stdio::piped()).spawn();
    let Ok(child) = started else {
        skipped("there is no gzip");
        return None;
    };
    let output = child.wait_with_output().expect("gzip is waited for");
    assert!(output.status.success(), "gzip has ended with {}", output.status);
    Some(output.stdout)
}

/// A file that has no name, from its beginning.
fn file(bytes: &[u8]) -> File {
    let written = tempfile::tempfile().and_then(|mut file| {
        file.write_all(bytes)?;
        file.rewind()?;
        Ok(file)
    });
    written.expect("a temporary file can be written")
}

/// Lines that have an end in common, and nothing else.
pub fn lines(seed: &str, count: usize) -> Vec<u8> {
    let noise = noise(seed, 30 * count);
    let line = |(number, noise): (usize, &[u8])| {
        let end = format!("the same {}\n", number % 7);
        [noise, end.as_bytes()].concat()
    };
    noise.chunks(30).enumerate().flat_map(line).collect()
}

/// A program for a stream of gzip, changed so that its corrections are worked on without an end.
pub fn endless(program: &Program) -> Program {
    let mut program = program.clone();
    let pieces = program.ops.iter_mut().find_map(|op| match op {
        Op::Encode { pieces, .. } => pieces.first_mut(),
        _ => None,
    });
    let corrections = &mut pieces.expect("the program has corrections").extra;
    // After so many tokens gzip ends a block; blocks that end after none are never enough.
    let at = corrections.windows(2).position(|pair| pair == [0xff, 0x7f]);
    let at = at.expect("the parameters of the encoder are gzip's");
    corrections[at..at + 2].fill(0);
    program
}
