//! Deflate streams of encoders that are not built in, as predicted by preflate-rs and corrected.
//!
//! A stream is taken in windows, each with its own corrections, so that memory does not grow with the stream. The
//! library may panic over corrections that are malformed: that is caught here and is an error. It may also go on for
//! ever, at the cost of memory, which nothing here can stop; [`Limits`](super::super::Limits) can rule the method out.
//! To predict a stream ends, and takes no more memory than a window does, but what is made for that takes minutes for a
//! window: a chain of hashes is followed for each of its tokens. The library prints to standard output where it fails.

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use preflate_rs::{ExitCode, PreflateConfig, PreflateStreamProcessor, RecreateStreamProcessor};

use super::super::program::Piece;
use super::super::spool::fill;
use super::Refused;

/// The compressed bytes that are predicted together: larger windows need fewer corrections, but what the library finds
/// out about the encoder from the first window may be too much to be true of any, and then a smaller one will do.
pub(crate) const WINDOWS: [usize; 2] = [1 << 20, 256 << 10];
/// What a window may grow to where its blocks are longer.
const WINDOW_MAX: usize = 4 << 20;
/// The plain bytes of a window.
const PLAIN_MAX: usize = 8 << 20;
/// What the dictionary adds to the library's count of plain bytes.
const DICTIONARY: usize = 64 << 10;
/// The most plain bytes of a window.
pub(crate) const PIECE_MAX: u64 = (PLAIN_MAX + DICTIONARY) as u64;

/// Recreates a stream.
pub(crate) struct Recreator(RecreateStreamProcessor);

impl Recreator {
    pub(crate) fn new() -> Self {
        Self(RecreateStreamProcessor::new())
    }

    /// The compressed bytes of the next window.
    pub(crate) fn recreate(&mut self, plain: &[u8], corrections: &[u8]) -> Result<Vec<u8>, Refused> {
        let recreate = || self.0.recompress(&mut Cursor::new(plain), corrections);
        let result = catch_unwind(AssertUnwindSafe(recreate)).map_err(|_| Refused)?;
        result.map(|(compressed, _)| compressed).map_err(|_| Refused)
    }
}

/// Predicts a stream from its compressed bytes: the windows with their corrections, or nothing where the library fails
/// or `corrections_max` bytes do not suffice.
pub(crate) fn predict(
    source: &mut dyn Read,
    window_len: usize,
    corrections_max: u64,
) -> std::io::Result<Option<Vec<Piece>>> {
    let config = PreflateConfig {
        max_chain_length: 4096,
        plain_text_limit: PLAIN_MAX + DICTIONARY,
        verify_compression: false,
    };
    let mut processor = PreflateStreamProcessor::new(&config);
    let mut window = Vec::new();
    let mut wanted = window_len;
    let (mut pieces, mut sum) = (Vec::new(), 0u64);
    while !processor.is_done() {
        let held = window.len();
        window.resize(wanted.max(held), 0);
        let filled = fill(source, &mut window[held..])?;
        window.truncate(held + filled);
        let outcome = catch_unwind(AssertUnwindSafe(|| processor.decompress(&window)));
        match outcome {
            Ok(Ok(result)) if result.compressed_size > 0 || processor.is_done() => {
                window.drain(..result.compressed_size);
                let plain = processor.plain_text().text().len() as u64;
                sum += result.corrections.len() as u64 + 8;
                pieces.push(Piece { plain, extra: result.corrections });
                processor.shrink_to_dictionary();
                wanted = window_len;
            }
            // A block that is longer than the window is tried again with more of the stream.
            Ok(Err(error)) if error.exit_code() == ExitCode::ShortRead && filled > 0 => {
                wanted = window.len() + window_len;
            }
            _ => return Ok(None),
        }
        if sum > corrections_max || wanted > WINDOW_MAX {
            return Ok(None);
        }
    }
    Ok(window.is_empty().then_some(pieces))
}
