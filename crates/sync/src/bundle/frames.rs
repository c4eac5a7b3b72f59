//! Frames: what a bundle travels in.
//!
//! A frame is a piece of the stream with a short check in front, enough to find a fault of a disk or a proxy soon, and
//! to know how much of a download that broke off is whole. It is no protection against anybody.

use std::io::{self, Read, Write};

use smart_sync_store::codec::put_number;

/// What a bundle begins with.
pub const MAGIC: &[u8; 5] = b"ssbn\x01";
/// The most bytes of a frame.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
const CHECK_BYTES: usize = 4;
/// The most bytes in front of those of a frame: a number below 2^21, and the check.
const HEADER_BYTES_MAX: usize = 3 + CHECK_BYTES;

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    *blake3::hash(bytes).as_bytes().first_chunk().expect("a hash is longer than a check")
}

/// Puts a stream into frames.
pub struct FrameWriter<W> {
    out: W,
    frame: Vec<u8>,
    written: u64,
}

impl<W: Write> FrameWriter<W> {
    /// Begins a bundle.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self { out, frame: Vec::new(), written: MAGIC.len() as u64 })
    }

    /// Ends the frame at hand, so that a reader has everything that was written so far.
    pub fn end_frame(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        put_number(&mut header, self.frame.len() as u64);
        header.extend_from_slice(&check(&self.frame));
        self.out.write_all(&header)?;
        self.out.write_all(&self.frame)?;
        self.written += (header.len() + self.frame.len()) as u64;
        self.frame.clear();
        Ok(())
    }

    /// Ends the bundle; returns its number of bytes.
    pub fn finish(mut self) -> io::Result<u64> {
        self.end_frame()?;
        self.out.flush()?;
        Ok(self.written)
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(FRAME_BYTES_MAX - self.frame.len());
        self.frame.extend_from_slice(&bytes[..taken]);
        if self.frame.len() == FRAME_BYTES_MAX {
            self.end_frame()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Takes a stream out of its frames.
pub struct FrameReader<R> {
    source: R,
    is_begun: bool,
    frame: Vec<u8>,
    at: usize,
}

impl<R: Read> FrameReader<R> {
    /// Reads a bundle.
    pub const fn new(source: R) -> Self {
        Self { source, is_begun: false, frame: Vec::new(), at: 0 }
    }

    /// Whether nothing follows.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.at == self.frame.len() && !self.next_frame()?)
    }

    /// Reads the next frame; false at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        if !self.is_begun {
            let mut magic = [0; MAGIC.len()];
            self.source.read_exact(&mut magic)?;
            if magic != *MAGIC {
                return Err(invalid("it is not a bundle of a known version"));
            }
            self.is_begun = true;
        }
        let Some(length) = read_length(&mut self.source)? else { return Ok(false) };
        let mut expected = [0; CHECK_BYTES];
        self.source.read_exact(&mut expected)?;
        self.frame.resize(length, 0);
        self.at = 0;
        self.source.read_exact(&mut self.frame)?;
        if check(&self.frame) == expected {
            Ok(true)
        } else {
            self.frame.clear();
            Err(invalid("a frame of the bundle is damaged"))
        }
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.at == self.frame.len() && !bytes.is_empty() && !self.next_frame()? {
            return Ok(0);
        }
        let taken = bytes.len().min(self.frame.len() - self.at);
        bytes[..taken].copy_from_slice(&self.frame[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// How many bytes of a download are whole: its beginning, and frames whose checks are right.
pub fn whole_length(source: impl Read) -> io::Result<u64> {
    let mut reader = FrameReader::new(source);
    let mut length = 0;
    loop {
        match reader.next_frame() {
            Ok(true) => {}
            Ok(false) => return Ok(if reader.is_begun { length.max(MAGIC.len() as u64) } else { 0 }),
            Err(error) if is_torn(&error) => return Ok(length),
            Err(error) => return Err(error),
        }
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        put_number(&mut header, reader.frame.len() as u64);
        length = length.max(MAGIC.len() as u64) + (header.len() + CHECK_BYTES + reader.frame.len()) as u64;
        // Nothing of it is read by anybody.
        reader.at = reader.frame.len();
    }
}

/// Whether an error says that bytes are missing or wrong, and not that they could not be read.
fn is_torn(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

/// The length of the next frame, or nothing at the end. No frame is empty, and a length has one spelling.
fn read_length(source: &mut impl Read) -> io::Result<Option<usize>> {
    let mut length = 0usize;
    for index in 0..3 {
        let mut byte = [0];
        if index == 0 {
            if read_some(source, &mut byte)? == 0 {
                return Ok(None);
            }
        } else {
            source.read_exact(&mut byte)?;
        }
        length |= usize::from(byte[0] & 0x7f) << (7 * index);
        if byte[0] & 0x80 == 0 {
            if length == 0 || length > FRAME_BYTES_MAX || byte[0] == 0 {
                break;
            }
            return Ok(Some(length));
        }
    }
    Err(invalid("a frame of the bundle has an impossible length"))
}

fn read_some(source: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = FrameWriter::new(&mut out).unwrap();
        for piece in pieces {
            writer.write_all(piece).unwrap();
            writer.end_frame().unwrap();
        }
        let written = writer.finish().unwrap();
        assert_eq!(written, out.len() as u64);
        out
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        FrameReader::new(bytes).read_to_end(&mut out)?;
        Ok(out)
    }

    proptest! {
        #[test]
        fn a_stream_comes_back_and_what_is_whole_of_it_is_known(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
            cut: prop::sample::Index,
        ) {
            let bytes = framed(&pieces);
            prop_assert_eq!(read(&bytes).unwrap(), pieces.concat());
            prop_assert_eq!(whole_length(&bytes[..]).unwrap(), bytes.len() as u64);
            let cut = cut.index(bytes.len());
            let whole = usize::try_from(whole_length(&bytes[..cut]).unwrap()).unwrap();
            prop_assert!(whole <= cut);
            if whole > 0 {
                prop_assert!(pieces.concat().starts_with(&read(&bytes[..whole]).unwrap()));
            }
        }
    }

    #[test]
    fn a_long_stream_is_cut_into_frames() {
        let long = vec![7; FRAME_BYTES_MAX * 2 + 5];
        let bytes = framed(std::slice::from_ref(&long));
        assert_eq!(read(&bytes).unwrap(), long);
        assert_eq!(bytes.len(), long.len() + MAGIC.len() + 2 * 7 + 5);
    }

    #[test]
    fn damage_is_found() {
        let bytes = framed(&[vec![1; 200], vec![2; 200]]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_err(), "byte {at}");
        }
        assert!(read(b"ssbn\x02").is_err());
        // Lengths that are too long, of no bytes, and of two spellings.
        for header in [&[0xff, 0xff, 0xff, 1][..], &[0], &[0x80, 0]] {
            assert!(read(&[MAGIC, header, &[0; 64]].concat()).is_err(), "{header:?}");
        }
    }
}
