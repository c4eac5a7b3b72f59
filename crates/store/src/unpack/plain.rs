//! The plain stream of an artifact: its program, its frames and its members, one after the other.
//!
//! This is how an artifact that was taken apart is stored and sent. It is cut so that each member which is not tiny has
//! chunks of its own, the same as a file with these bytes has, whatever lies around it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt as _;

use super::spool::{BLOCK, fill};
use super::{Dissected, Limits, Program, RebuildError, rebuild};
use crate::chunk::ChunkRef;
use crate::content::ContentHasher;
use crate::id::{ContentId, ContentIdHasher};
use crate::recipe::Plain;

/// A member with fewer bytes shares a chunk with its neighbours.
const ALONE_LEN_MIN: u64 = 2048;

/// The plain stream of an artifact, and how it is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutPlain {
    /// What it is.
    pub plain: Plain,
    /// Its chunks in order.
    pub chunks: Vec<ChunkRef>,
}

/// Writes the plain stream of an artifact, and cuts it.
pub fn write_plain(dissected: Dissected, out: &mut dyn Write) -> io::Result<CutPlain> {
    let members_len = dissected.members_len();
    let Dissected { program, frames, members, streams } = dissected;
    let mut streams = BufReader::with_capacity(BLOCK, streams);
    let mut cutting = Cutting { out, whole: ContentIdHasher::default(), chunks: Vec::new(), at: 0 };
    cutting.run(&mut &program[..], program.len() as u64)?;
    cutting.run(&mut streams, frames)?;
    for length in runs(&members) {
        cutting.run(&mut streams, length)?;
    }
    let plain =
        Plain { id: cutting.whole.finish(), program: program.len() as u64, frames, members: members_len };
    Ok(CutPlain { plain, chunks: cutting.chunks })
}

/// Rebuilds an artifact of `size` bytes from its plain stream, which lies in a file.
pub fn rebuild_from(
    file: &File,
    plain: &Plain,
    size: u64,
    limits: &Limits,
    out: &mut dyn Write,
) -> Result<(), RebuildError> {
    let program = program_of(file, plain)?;
    let unfit = RebuildError::Unfit("it is for a plain stream that is divided otherwise");
    if (program.frames, program.members) != (plain.frames, plain.members) {
        return Err(unfit);
    }
    let members_at = plain.program.saturating_add(plain.frames);
    let frames = Stretch { file, at: plain.program, end: members_at };
    let members = Stretch { file, at: members_at, end: plain.size() };
    let buffered = |stretch| BufReader::with_capacity(4 * BLOCK, stretch);
    rebuild(&program, &mut buffered(frames), &mut buffered(members), size, limits, out)
}

/// The program at the beginning of a plain stream that lies in a file.
pub fn program_of(file: &File, plain: &Plain) -> Result<Program, RebuildError> {
    let length = usize::try_from(plain.program).map_err(|_| RebuildError::OverLimit("bytes of program"))?;
    if length > super::PROGRAM_LEN_MAX {
        return Err(RebuildError::OverLimit("bytes of program"));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).map_err(RebuildError::Frames)?;
    Program::decode(&bytes).map_err(RebuildError::Program)
}

/// The lengths of what is cut on its own: each member that is not tiny, and the tiny ones between two of those as far
/// as it takes them to be no longer tiny together.
fn runs(members: &[u64]) -> Vec<u64> {
    let mut runs = Vec::with_capacity(members.len());
    let mut tiny = 0;
    for length in members {
        if *length >= ALONE_LEN_MIN {
            runs.extend((tiny > 0).then_some(tiny));
            tiny = 0;
            runs.push(*length);
        } else {
            tiny += length;
            if tiny >= ALONE_LEN_MIN {
                runs.push(tiny);
                tiny = 0;
            }
        }
    }
    runs.extend((tiny > 0).then_some(tiny));
    runs
}

struct Cutting<'a> {
    out: &'a mut dyn Write,
    whole: ContentIdHasher,
    chunks: Vec<ChunkRef>,
    at: u64,
}

impl Cutting<'_> {
    /// Copies the next bytes, and cuts them as a content of their own.
    fn run(&mut self, source: &mut dyn Read, length: u64) -> io::Result<()> {
        let mut hasher = ContentHasher::new(length);
        let mut buffer = vec![0; BLOCK.min(usize::try_from(length).unwrap_or(BLOCK))];
        let mut left = length;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let bytes = &mut buffer[..wanted];
            if fill(source, bytes)? < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.out.write_all(bytes)?;
            self.whole.update(bytes);
            let (chunks, at) = (&mut self.chunks, self.at);
            let cut =
                |chunk: &ChunkRef, _: &[u8]| chunks.push(ChunkRef { offset: at + chunk.offset, ..*chunk });
            hasher.update(bytes, cut).map_err(io::Error::other)?;
            left -= wanted as u64;
        }
        self.at += length;
        Ok(())
    }
}

/// A stretch of a file, read from its beginning, whatever else reads the file.
#[derive(Debug)]
pub struct Stretch<'a> {
    /// The file.
    pub file: &'a File,
    /// What is read next.
    pub at: u64,
    /// Where it ends.
    pub end: u64,
}

impl Read for Stretch<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let filled = self.file.read_at(&mut buffer[..length], self.at)?;
        self.at += filled as u64;
        Ok(filled)
    }
}

/// Passes bytes on and finds out what they are called.
pub struct Named<W> {
    out: W,
    hasher: ContentIdHasher,
}

impl<W: Write> Named<W> {
    /// Nothing was passed on yet.
    pub fn new(out: W) -> Self {
        Self { out, hasher: ContentIdHasher::default() }
    }

    /// What was passed on.
    pub fn finish(self) -> (ContentId, W) {
        (self.hasher.finish(), self.out)
    }
}

impl<W: Write> Write for Named<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::content::cut_content;
    use crate::test_data::noise;
    use crate::unpack::tests::make::{gzip, tar};
    use crate::unpack::{InMemory, take_apart};

    #[test]
    fn tiny_members_are_cut_together_and_others_alone() {
        assert_eq!(runs(&[]), [0; 0]);
        assert_eq!(runs(&[5, 6, 3000, 7]), [11, 3000, 7]);
        assert_eq!(runs(&[2000, 100, 1, 2]), [2100, 3]);
        assert_eq!(runs(&[2048, 2048]), [2048, 2048]);
    }

    #[test]
    fn a_member_has_the_chunks_that_the_same_file_has_and_the_artifact_comes_back() {
        let (large, small) = (noise(1, 300_000), noise(2, 5000));
        let files = [("large", large.clone()), ("tiny", b"tiny".to_vec()), ("small", small.clone())];
        let artifact = gzip(&tar(&files), 6);
        let size = artifact.len() as u64;
        let taken = take_apart(&mut Cursor::new(&artifact), size, &Limits::default(), &mut InMemory);
        let mut file = tempfile::tempfile().unwrap();
        let cut = write_plain(taken.unwrap().unwrap().into(), &mut file).unwrap();
        let in_plain: Vec<_> = cut.chunks.iter().map(|chunk| chunk.id).collect();
        for bytes in [&large, &small] {
            let of_file = cut_content(bytes, |_, _| ()).chunks;
            assert!(of_file.iter().all(|chunk| in_plain.contains(&chunk.id)), "{} bytes", bytes.len());
        }
        let ends: Vec<_> = cut.chunks.iter().map(|chunk| chunk.offset + u64::from(chunk.len)).collect();
        assert!(ends.is_sorted());
        assert_eq!(ends.last(), Some(&cut.plain.size()));
        let mut out = Named::new(Vec::new());
        rebuild_from(&file, &cut.plain, size, &Limits::default(), &mut out).unwrap();
        let (id, rebuilt) = out.finish();
        assert_eq!(rebuilt, artifact);
        assert_eq!(id, ContentId::of(&artifact));
    }
}
