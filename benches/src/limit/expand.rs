//! What a version consists of: the files of a tree, or what is inside an artifact.
//!
//! An artifact is opened as far as it goes: compression is undone, archives are taken apart into their members and one
//! stream of their headers, and members that are compressed are opened in turn.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::bench::prepare;

/// Archives in archives beyond this are taken as they are.
const DEPTH_MAX: u32 = 6;
const BLOCK: usize = 512;

/// A named content.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) name: Vec<u8>,
    pub(super) size: u64,
    pub(super) hash: blake3::Hash,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// A piece of a file.
    File {
        path: PathBuf,
        start: u64,
    },
    Bytes(Vec<u8>),
}

impl Item {
    pub(super) fn of_bytes(name: Vec<u8>, bytes: Vec<u8>) -> Self {
        let hash = blake3::hash(&bytes);
        Self { name, size: bytes.len() as u64, hash, content: Content::Bytes(bytes) }
    }

    fn of_file(name: Vec<u8>, path: PathBuf, start: u64, size: u64) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut open(&path, start, size)?, &mut hasher)
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { name, size, hash: hasher.finalize(), content: Content::File { path, start } })
    }

    /// Writes the bytes from `start`, at most `size` of them.
    pub(super) fn write(&self, start: u64, size: u64, to: &mut impl io::Write) -> Result<()> {
        match &self.content {
            Content::Bytes(bytes) => {
                let bytes = usize::try_from(start).ok().and_then(|start| bytes.get(start..)).unwrap_or(&[]);
                let end = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
                to.write_all(&bytes[..end])?;
            }
            Content::File { path, start: first } => {
                let size = size.min(self.size.saturating_sub(start));
                io::copy(&mut open(path, first + start, size)?, to)
                    .with_context(|| format!("copying {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn open(path: &Path, start: u64, size: u64) -> Result<io::Take<File>> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    file.seek(SeekFrom::Start(start)).with_context(|| format!("reading {}", path.display()))?;
    Ok(file.take(size))
}

/// Every file and link of a tree, by path.
pub(super) fn tree(directory: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(relative) = left.pop() {
        let path = directory.join(&relative);
        for entry in fs::read_dir(&path).with_context(|| format!("reading {}", path.display()))? {
            let entry = entry?;
            let (relative, path) = (relative.join(entry.file_name()), entry.path());
            let name = relative.as_os_str().as_bytes().to_vec();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(relative);
            } else if kind.is_symlink() {
                items.push(Item::of_bytes(name, fs::read_link(&path)?.as_os_str().as_bytes().to_vec()));
            } else {
                let size = entry.metadata()?.len();
                items.push(Item::of_file(name, path, 0, size)?);
            }
        }
    }
    items.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(items)
}

/// Everything inside an artifact. What is decompressed lies below `work`.
pub(super) fn artifact(path: &Path, work: &Path) -> Result<Vec<Item>> {
    fs::create_dir_all(work).with_context(|| format!("creating {}", work.display()))?;
    let mut expansion = Expansion { work, files: 0, items: Vec::new() };
    let size = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len();
    let piece = Piece { path: path.to_owned(), start: 0, size };
    // The artifact's own name says its version, which a receiver knows already.
    expansion.add(Vec::new(), piece, 0)?;
    let mut items = expansion.items;
    items.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(items)
}

/// A content that may be an archive.
struct Piece {
    path: PathBuf,
    start: u64,
    size: u64,
}

struct Expansion<'work> {
    work: &'work Path,
    files: u32,
    items: Vec<Item>,
}

impl Expansion<'_> {
    fn add(&mut self, name: Vec<u8>, piece: Piece, depth: u32) -> Result<()> {
        let mut head = [0; BLOCK];
        let read = open(&piece.path, piece.start, piece.size)?.read(&mut head)?;
        match Form::of(&head[..read]) {
            Some(form) if depth < DEPTH_MAX => match form {
                Form::Compressed(program) => self.add_compressed(name, &piece, depth, program),
                Form::Tar => self.add_tar(&name, &piece, depth),
                Form::Ar => self.add_ar(&name, &piece, depth),
                Form::Zip => self.add_zip(&name, &piece, depth),
            },
            _ => {
                self.items.push(Item::of_file(name, piece.path, piece.start, piece.size)?);
                Ok(())
            }
        }
    }

    fn new_path(&mut self) -> PathBuf {
        self.files += 1;
        self.work.join(format!("{}", self.files))
    }

    fn add_compressed(&mut self, name: Vec<u8>, piece: &Piece, depth: u32, program: &str) -> Result<()> {
        let (input, output) = (self.new_path(), self.new_path());
        io::copy(&mut open(&piece.path, piece.start, piece.size)?, &mut File::create(&input)?)?;
        let status = Command::new(program)
            .args(["--decompress", "--stdout"])
            .stdin(File::open(&input)?)
            .stdout(File::create(&output)?)
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("running {program}"))?;
        if !status.success() {
            // It only looked compressed: it is a content like any other.
            self.items.push(Item::of_file(name, input, 0, piece.size)?);
            return Ok(());
        }
        fs::remove_file(&input)?;
        let size = fs::metadata(&output)?.len();
        self.add(name, Piece { path: output, start: 0, size }, depth + 1)
    }

    fn add_tar(&mut self, name: &[u8], piece: &Piece, depth: u32) -> Result<()> {
        let mut headers = Vec::new();
        let mut at = 0;
        let mut long_name: Option<Vec<u8>> = None;
        while at + BLOCK as u64 <= piece.size {
            let mut block = [0; BLOCK];
            open(&piece.path, piece.start + at, BLOCK as u64)?.read_exact(&mut block)?;
            headers.extend_from_slice(&block);
            at += BLOCK as u64;
            let Some(header) = TarHeader::of(&block) else { continue };
            if header.size > piece.size - at {
                bail!("{} holds a truncated archive", piece.path.display());
            }
            let member = Piece { path: piece.path.clone(), start: piece.start + at, size: header.size };
            if header.is_file() {
                let own = long_name.take().unwrap_or(header.name);
                self.add([name, b"/", &own].concat(), member, depth + 1)?;
            } else {
                // Long names and extended headers belong to the headers.
                let start = headers.len();
                open(&member.path, member.start, member.size)?.read_to_end(&mut headers)?;
                if header.kind == b'L' {
                    let text = &headers[start..];
                    long_name = Some(text.split(|byte| *byte == 0).next().unwrap_or(text).to_vec());
                }
            }
            at += header.size.next_multiple_of(BLOCK as u64);
        }
        self.items.push(Item::of_bytes([name, b"/(headers)"].concat(), headers));
        Ok(())
    }

    fn add_ar(&mut self, name: &[u8], piece: &Piece, depth: u32) -> Result<()> {
        const HEADER: usize = 60;
        let mut at = 8;
        while at + HEADER as u64 <= piece.size {
            let mut header = [0; HEADER];
            open(&piece.path, piece.start + at, HEADER as u64)?.read_exact(&mut header)?;
            at += HEADER as u64;
            let size: u64 = std::str::from_utf8(&header[48..58])
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .filter(|size| *size <= piece.size - at)
                .with_context(|| format!("{} holds a malformed archive", piece.path.display()))?;
            // `data.tar.xz` in one version and `data.tar.zst` in the next are the same member.
            let own = header[..16].split(|byte| *byte == b'/' || *byte == b' ').next().unwrap_or(&[]);
            let own = own.strip_suffix(b".xz").or_else(|| own.strip_suffix(b".zst")).unwrap_or(own);
            let member = Piece { path: piece.path.clone(), start: piece.start + at, size };
            self.add([name, b"/", own].concat(), member, depth + 1)?;
            at += size.next_multiple_of(2);
        }
        Ok(())
    }

    fn add_zip(&mut self, name: &[u8], piece: &Piece, depth: u32) -> Result<()> {
        let (input, output) = (self.new_path(), self.new_path());
        io::copy(&mut open(&piece.path, piece.start, piece.size)?, &mut File::create(&input)?)?;
        prepare(Command::new("unzip").args(["-qq", "-o"]).arg(&input).arg("-d").arg(&output))?;
        for (own, path) in crate::data::files_below(&output)? {
            let size = fs::metadata(&path)?.len();
            let name = [name, b"/", own.as_os_str().as_bytes()].concat();
            self.add(name, Piece { path, start: 0, size }, depth + 1)?;
        }
        Ok(())
    }
}

/// What a content looks like from its beginning.
enum Form {
    Compressed(&'static str),
    Tar,
    Ar,
    Zip,
}

impl Form {
    fn of(head: &[u8]) -> Option<Self> {
        let compressed: [(&[u8], &str); 4] = [
            (b"\x1f\x8b\x08", "gzip"),
            (b"\xfd7zXZ\0", "xz"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"BZh9", "bzip2"),
        ];
        if let Some((_, program)) = compressed.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Some(Self::Compressed(program));
        }
        if head.starts_with(b"!<arch>\n") {
            return Some(Self::Ar);
        }
        if head.starts_with(b"PK\x03\x04") {
            return Some(Self::Zip);
        }
        (head.get(257..262) == Some(b"ustar")).then_some(Self::Tar)
    }
}

struct TarHeader {
    name: Vec<u8>,
    size: u64,
    kind: u8,
}

impl TarHeader {
    /// The header in a block; none in the blocks at the end.
    fn of(block: &[u8; BLOCK]) -> Option<Self> {
        if block.get(257..262) != Some(b"ustar") {
            return None;
        }
        let text = |range: std::ops::Range<usize>| {
            let field = &block[range];
            field.split(|byte| *byte == 0).next().unwrap_or(field)
        };
        let digits: String =
            text(124..136).iter().map(|byte| char::from(*byte)).filter(char::is_ascii_digit).collect();
        let size = u64::from_str_radix(&digits, 8).ok()?;
        let (prefix, name) = (text(345..500), text(0..100));
        // GNU's own form keeps other things where the prefix is.
        let whole = if prefix.is_empty() || block[263] == b' ' {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        };
        let kind = block[156];
        // Only files, long names and extended headers are followed by bytes.
        let size = if matches!(kind, b'0' | 0 | b'7' | b'L' | b'K' | b'x' | b'g') { size } else { 0 };
        Some(Self { name: whole, size, kind })
    }

    fn is_file(&self) -> bool {
        matches!(self.kind, b'0' | 0 | b'7')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_archive_is_taken_apart() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/one"), "first").unwrap();
        fs::write(tree.join("two"), vec![b'x'; 2000]).unwrap();
        let archive = directory.path().join("tree.tar");
        crate::data::tar(&tree, ".", &archive).unwrap();
        prepare(Command::new("gzip").arg(&archive)).unwrap();
        let items = artifact(&directory.path().join("tree.tar.gz"), &directory.path().join("work")).unwrap();
        let names: Vec<_> = items.iter().map(|item| String::from_utf8_lossy(&item.name)).collect();
        assert_eq!(names, ["/(headers)", "/./sub/one", "/./two"]);
        let mut content = Vec::new();
        items[1].write(0, u64::MAX, &mut content).unwrap();
        assert_eq!(content, b"first");
        content.clear();
        items[1].write(2, 2, &mut content).unwrap();
        assert_eq!(content, b"rs");
    }

    #[test]
    fn a_tree_has_its_links_too() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("file", directory.path().join("link")).unwrap();
        let items = tree(directory.path()).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!((items[1].name.as_slice(), items[1].size), (&b"link"[..], 4));
    }
}
