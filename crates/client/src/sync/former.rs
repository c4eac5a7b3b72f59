//! Chunks that are at hand in the files which are replaced.
//!
//! A large file that changes keeps most of its chunks. Its former version is cut as publishers cut, so the same bytes
//! are the same chunks wherever they moved in it, and what is found is compared with its id again when it is used.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use smart_sync_store::chunk::{self, CHUNK_LEN_MAX};
use smart_sync_store::id::ObjectId;
use smart_sync_store::object::{ObjectKey, VerifiedObject};
use smart_sync_sync::wire::fetch_map::{ContentParts, FrameChunk};

use crate::failure::{Exit, Failure};

const BUFFER_BYTES: usize = 1 << 20;

/// A chunk of a content, by the index of the content.
type Key = (usize, ObjectId);

/// Where the chunks of contents lie in the files that these replace.
#[derive(Debug, Default)]
pub(super) struct FormerVersions {
    places: HashMap<Key, Place>,
    contents: HashSet<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u32,
}

impl FormerVersions {
    /// Looks for the chunks of a content in the file that it replaces. One that cannot be read to its end has few.
    pub(super) fn look(&mut self, index: usize, content: &ContentParts, chunks: &[&FrameChunk], file: File) {
        let wanted: HashSet<ObjectId> =
            content.chunks.iter().map(|ordinal| chunks[*ordinal as usize].id).collect();
        let outcome = cut(file, |offset, bytes| {
            let id = ObjectId::of(bytes);
            if wanted.contains(&id) {
                let length = u32::try_from(bytes.len()).expect("a chunk is at most 128 KiB");
                self.places.insert((index, id), Place { offset, length });
                self.contents.insert(index);
            }
        });
        if let Err(error) = outcome {
            tracing::debug!(%error, "the former version of a file could not be read to its end");
        }
    }

    /// Whether any chunk of a content is at hand.
    pub(super) fn has_any(&self, content: usize) -> bool {
        self.contents.contains(&content)
    }

    /// Whether this chunk of a content is.
    pub(super) fn has(&self, content: usize, chunk: ObjectId) -> bool {
        self.places.contains_key(&(content, chunk))
    }

    /// A chunk of a content, from the file that it replaces.
    pub(super) fn read(
        &self,
        content: usize,
        chunk: ObjectId,
        file: Option<&File>,
    ) -> Result<Bytes, Failure> {
        let place = self.places.get(&(content, chunk)).zip(file);
        let bytes = place.and_then(|(place, file)| {
            let mut bytes = vec![0; place.length as usize];
            file.read_exact_at(&mut bytes, place.offset).ok()?;
            Some(Bytes::from(bytes))
        });
        let verified = bytes.and_then(|bytes| VerifiedObject::verify(ObjectKey::chunk(chunk), bytes).ok());
        verified.map(VerifiedObject::into_bytes).ok_or_else(|| {
            Failure::message(Exit::General, "a file of the target was changed while it was read")
                .hint("run it again; what was fetched is not fetched twice")
        })
    }
}

/// Cuts a file as contents are cut.
fn cut(mut file: impl Read, mut take: impl FnMut(u64, &[u8])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut filled, mut offset, mut is_end) = (0, 0, false);
    loop {
        while !is_end && filled < buffer.len() {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => is_end = true,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut start = 0;
        while start < filled && (is_end || filled - start >= CHUNK_LEN_MAX) {
            let length = chunk::cut(&buffer[start..filled]);
            take(offset, &buffer[start..start + length]);
            start += length;
            offset += length as u64;
        }
        if is_end {
            return Ok(());
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_store::content::cut_content;

    #[test]
    fn a_file_is_cut_as_its_publisher_cut_it() {
        for length in [0, 1, 100_000, BUFFER_BYTES, 3 * BUFFER_BYTES + 12_345] {
            let mut state = 7u32;
            let noise = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_le_bytes()[3]
            };
            let bytes: Vec<u8> = std::iter::repeat_with(noise).take(length).collect();
            let mut published = Vec::new();
            cut_content(&bytes, |chunk, _| published.push((chunk.offset, chunk.id)));
            let mut found = Vec::new();
            cut(&bytes[..], |offset, bytes| found.push((offset, ObjectId::of(bytes)))).unwrap();
            assert_eq!(found, published, "{length} bytes");
        }
    }
}
