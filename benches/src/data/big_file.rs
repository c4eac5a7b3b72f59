//! One large file with scattered edits.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::kept;
use super::pair::Pair;
use super::random::Random;
use crate::bench::Bench;

const MIB: usize = 1 << 20;
/// Edits of this many bytes each.
const EDIT_BYTES: usize = 4096;
const EDITS: u64 = 20;
const INSERTION_BYTES: usize = MIB;
/// The time of both versions; the new one is a day younger.
const MODIFIED: Duration = Duration::from_secs(1_767_225_600);

/// A file of which every other mebibyte compresses, and the same with twenty edits and an insertion.
pub(crate) fn big_file(bench: &Bench) -> Result<Pair> {
    let size = bench.scale.edited_file;
    let directory = kept(bench, &format!("edited-{size}"), |path| {
        let (old, new) = (path.join("old"), path.join("new"));
        fs::create_dir_all(&old)?;
        fs::create_dir_all(&new)?;
        write_old(&old.join("image"), size)?;
        write_new(&old.join("image"), &new.join("image"), size)?;
        set_time(&old.join("image"), MODIFIED)?;
        set_time(&new.join("image"), MODIFIED + Duration::from_secs(86_400))
    })?;
    let (old, new) = (directory.join("old"), directory.join("new"));
    let artifact = Some((old.join("image"), new.join("image")));
    let name = format!("{} MiB, {EDITS} edits, 1 MiB inserted", size >> 20);
    Ok(Pair { artifact, ..Pair::trees(name, old, new) })
}

fn write_old(path: &Path, size: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut random = Random::new(size);
    let mut block = vec![0; MIB];
    for number in 0..size / MIB as u64 {
        random.fill(&mut block);
        if number % 2 == 1 {
            // Four bits of each byte: to be compressed to about half.
            for byte in &mut block {
                *byte = b'a' + (*byte & 15);
            }
        }
        file.write_all(&block)?;
    }
    file.flush().context("writing the file")
}

/// Copies the file with edits at even distances, and bytes inserted at a third of its length.
fn write_new(old: &Path, new: &Path, size: u64) -> Result<()> {
    let mut random = Random::new(size + 1);
    let (mut from, mut to) = (File::open(old)?, BufWriter::new(File::create(new)?));
    let blocks = size / MIB as u64;
    let every = (blocks / EDITS).max(1);
    let mut block = vec![0; MIB];
    for number in 0..blocks {
        from.read_exact(&mut block)?;
        if number % every == every / 2 && number / every < EDITS {
            let start = random.below(MIB - EDIT_BYTES);
            random.fill(&mut block[start..start + EDIT_BYTES]);
        }
        to.write_all(&block)?;
        if number == blocks / 3 {
            let mut inserted = vec![0; INSERTION_BYTES];
            random.fill(&mut inserted);
            to.write_all(&inserted)?;
        }
    }
    to.flush().context("writing the file")
}

fn set_time(path: &Path, time: Duration) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_modified(SystemTime::UNIX_EPOCH + time)
        .with_context(|| format!("setting the time of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_version_is_longer_and_differs_where_it_was_edited() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        let size = 6 * MIB as u64;
        write_old(&old, size).unwrap();
        write_new(&old, &new, size).unwrap();
        let (old, new) = (fs::read(&old).unwrap(), fs::read(&new).unwrap());
        assert_eq!(new.len(), old.len() + INSERTION_BYTES);
        // The insertion follows the block at a third.
        let third = 3 * MIB;
        let differing = |left: &[u8], right: &[u8]| left.iter().zip(right).filter(|(l, r)| l != r).count();
        let before = differing(&old[..third], &new[..third]);
        let after = differing(&old[third..], &new[third + INSERTION_BYTES..]);
        assert!(before > 0 && after > 0 && before + after <= 20 * EDIT_BYTES);
    }
}
