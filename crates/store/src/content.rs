//! One pass over a content: where it is cut, what its chunks are called, and what it is called itself.
//!
//! The machine is pushed, so that it serves files, git objects and network bodies alike, and it computes
//! all digests of a chunk while the chunk is in the processor's cache. A content of one chunk is hashed by BLAKE3
//! once, since the chunk's name is the content's.

use sha1::{Digest, Sha1};

use crate::chunk::{CHUNK_LEN_MAX, ChunkRef, cut};
use crate::id::{BlobId, ContentId, ObjectId};
use crate::manifest::entry::Content;

/// The content had another size than was announced: it changed while it was read, or the source lied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content was announced with {announced} bytes and had {found} when reading stopped")]
pub struct SizeMismatch {
    /// The size that was announced.
    pub announced: u64,
    /// The number of bytes that came, or the number at which reading stopped.
    pub found: u64,
}

/// A content's names and how it was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutContent {
    /// The names.
    pub content: Content,
    /// The chunks in order; none for the empty content.
    pub chunks: Vec<ChunkRef>,
}

/// Takes the bytes of one content in pieces of any size.
///
/// Each chunk is handed to a callback as soon as it is complete, with its bytes; the machine itself keeps less than
/// two chunks of bytes, and the list of the chunks.
#[derive(Debug)]
pub struct ContentHasher {
    size: u64,
    received: u64,
    blob: Sha1,
    /// Hashes the whole; not used while the content may still turn out to be one chunk.
    whole: blake3::Hasher,
    /// Bytes that are not cut yet; those before `start` are done with.
    pending: Vec<u8>,
    start: usize,
    chunks: Vec<ChunkRef>,
    cut_to: u64,
}

impl ContentHasher {
    /// Begins a content of `size` bytes. Git's name of a content begins with its size, so it is needed first.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            received: 0,
            blob: blob_hasher(size),
            whole: blake3::Hasher::new(),
            pending: Vec::new(),
            start: 0,
            chunks: Vec::new(),
            cut_to: 0,
        }
    }

    /// Takes the next bytes, and hands over the chunks that they complete.
    pub fn update(
        &mut self,
        mut bytes: &[u8],
        mut on_chunk: impl FnMut(&ChunkRef, &[u8]),
    ) -> Result<(), SizeMismatch> {
        self.received += bytes.len() as u64;
        if self.received > self.size {
            return Err(self.mismatch());
        }
        let is_last = self.received == self.size;
        while self.pending_len() > 0 {
            bytes = self.top_up(bytes);
            let ahead = &self.pending[self.start..];
            let Some(len) = cut_ahead(ahead, is_last && bytes.is_empty()) else { return Ok(()) };
            let pending = std::mem::take(&mut self.pending);
            self.take_chunk(&pending[self.start..self.start + len], &mut on_chunk);
            self.pending = pending;
            self.start += len;
        }
        self.pending.clear();
        self.start = 0;
        while let Some(len) = cut_ahead(bytes, is_last) {
            let (chunk, rest) = bytes.split_at(len);
            self.take_chunk(chunk, &mut on_chunk);
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the content. Every chunk has been handed over by then.
    pub fn finish(self) -> Result<CutContent, SizeMismatch> {
        if self.received != self.size {
            return Err(self.mismatch());
        }
        let id = match self.chunks[..] {
            [ChunkRef { id, .. }] => ContentId::from_bytes(*id.as_bytes()),
            _ => ContentId::from_bytes(*self.whole.finalize().as_bytes()),
        };
        let blob = BlobId::from_bytes(self.blob.finalize().into());
        Ok(CutContent { content: Content { size: self.size, blob, id }, chunks: self.chunks })
    }

    fn pending_len(&self) -> usize {
        self.pending.len() - self.start
    }

    /// Moves bytes behind those that are pending until there are enough to cut, and returns the others.
    fn top_up<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let wanted = CHUNK_LEN_MAX.saturating_sub(self.pending_len()).min(bytes.len());
        if self.start > CHUNK_LEN_MAX {
            self.pending.drain(..self.start);
            self.start = 0;
        }
        let (taken, rest) = bytes.split_at(wanted);
        self.pending.extend_from_slice(taken);
        rest
    }

    fn take_chunk(&mut self, bytes: &[u8], on_chunk: &mut impl FnMut(&ChunkRef, &[u8])) {
        self.blob.update(bytes);
        if bytes.len() as u64 != self.size {
            self.whole.update(bytes);
        }
        let len = u32::try_from(bytes.len()).expect("a chunk has at most 128 KiB");
        let chunk = ChunkRef { offset: self.cut_to, id: ObjectId::of(bytes), len };
        self.cut_to += u64::from(len);
        on_chunk(&chunk, bytes);
        self.chunks.push(chunk);
    }

    const fn mismatch(&self) -> SizeMismatch {
        SizeMismatch { announced: self.size, found: self.received }
    }
}

/// Finds out what git calls a content, where its other name is known already.
#[derive(Debug)]
pub struct BlobHasher {
    size: u64,
    received: u64,
    blob: Sha1,
}

impl BlobHasher {
    /// Begins a content of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self { size, received: 0, blob: blob_hasher(size) }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        self.blob.update(bytes);
    }

    /// Ends the content.
    pub fn finish(self) -> Result<BlobId, SizeMismatch> {
        if self.received == self.size {
            Ok(BlobId::from_bytes(self.blob.finalize().into()))
        } else {
            Err(SizeMismatch { announced: self.size, found: self.received })
        }
    }
}

/// Cuts and names a content that is in memory as a whole.
pub fn cut_content(bytes: &[u8], on_chunk: impl FnMut(&ChunkRef, &[u8])) -> CutContent {
    let mut hasher = ContentHasher::new(bytes.len() as u64);
    hasher.update(bytes, on_chunk).and_then(|()| hasher.finish()).expect("the size is that of the bytes")
}

/// Names a content that is in memory as a whole, without cutting it.
pub fn name_content(bytes: &[u8]) -> Content {
    let mut blob = blob_hasher(bytes.len() as u64);
    blob.update(bytes);
    Content {
        size: bytes.len() as u64,
        blob: BlobId::from_bytes(blob.finalize().into()),
        id: ContentId::of(bytes),
    }
}

/// The length of the next chunk, once enough bytes are there to tell.
fn cut_ahead(ahead: &[u8], is_all: bool) -> Option<usize> {
    let is_enough = ahead.len() >= CHUNK_LEN_MAX || is_all && !ahead.is_empty();
    is_enough.then(|| cut(ahead))
}

fn blob_hasher(size: u64) -> Sha1 {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {size}\0"));
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::noise;
    use proptest::prelude::*;

    fn cut_in_pieces(bytes: &[u8], pieces: &[usize]) -> (CutContent, Vec<u8>) {
        let mut hasher = ContentHasher::new(bytes.len() as u64);
        let mut joined = Vec::new();
        let mut rest = bytes;
        let mut pieces = pieces.iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*pieces.next().unwrap_or(&1)));
            hasher
                .update(piece, |chunk, bytes| {
                    assert_eq!(chunk.offset, joined.len() as u64);
                    assert_eq!(chunk.id, ObjectId::of(bytes));
                    joined.extend_from_slice(bytes);
                })
                .unwrap();
            rest = after;
        }
        (hasher.finish().unwrap(), joined)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn how_the_bytes_arrive_does_not_matter(
            seed: u64,
            len in 0usize..900_000,
            pieces in proptest::collection::vec(1usize..400_000, 1..5),
        ) {
            let bytes = noise(seed, len);
            let whole = cut_content(&bytes, |_, _| ());
            let (in_pieces, joined) = cut_in_pieces(&bytes, &pieces);
            prop_assert_eq!(&in_pieces, &whole);
            prop_assert_eq!(joined, &bytes[..]);
            prop_assert_eq!(whole.content, name_content(&bytes));
            let ends: Vec<u64> = whole.chunks.iter().map(|chunk| chunk.offset + u64::from(chunk.len)).collect();
            prop_assert_eq!(ends.last().copied().unwrap_or(0), len as u64);
        }
    }

    #[test]
    fn names_are_those_that_git_and_blake3_give() {
        let check = |bytes: &[u8], blob: &str, chunks: usize| {
            let cut = cut_content(bytes, |_, _| ());
            assert_eq!(cut.content.blob.to_string(), blob);
            assert_eq!(cut.content.id, ContentId::of(bytes));
            assert_eq!(cut.chunks.len(), chunks);
        };
        check(b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", 0);
        check(b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a", 1);
    }

    #[test]
    fn a_content_of_another_size_than_announced_is_refused() {
        let mut hasher = ContentHasher::new(3);
        assert!(hasher.update(b"ab", |_, _| ()).is_ok());
        assert_eq!(hasher.finish().unwrap_err(), SizeMismatch { announced: 3, found: 2 });
        let mut hasher = ContentHasher::new(3);
        assert_eq!(hasher.update(b"abcd", |_, _| ()), Err(SizeMismatch { announced: 3, found: 4 }));
    }

    #[test]
    fn an_insertion_changes_the_chunks_around_it_alone() {
        let old = noise(3, 2_000_000);
        let mut new = old.clone();
        new.splice(1_000_000..1_000_000, *b"inserted");
        let ids = |bytes: &[u8]| -> std::collections::HashSet<ObjectId> {
            cut_content(bytes, |_, _| ()).chunks.iter().map(|chunk| chunk.id).collect()
        };
        let (old, new) = (ids(&old), ids(&new));
        assert!(new.difference(&old).count() <= 3, "{} of {}", new.difference(&old).count(), new.len());
    }

    #[test]
    fn git_names_are_the_same_however_they_are_found() {
        for len in [0, 1, 100_000] {
            let bytes = noise(3, len);
            let mut hasher = BlobHasher::new(len as u64);
            bytes.chunks(777).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish().unwrap(), name_content(&bytes).blob);
        }
        let mismatch = SizeMismatch { announced: 2, found: 0 };
        assert_eq!(BlobHasher::new(2).finish().unwrap_err(), mismatch);
    }
}
