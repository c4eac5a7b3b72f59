//! A directory of a tree as a compressed archive, and files that are found by the beginning of their names.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::{Buf as _, Bytes};
use flate2::{Compression, GzBuilder};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use smart_sync_store::error::StoreError;
use smart_sync_store::id::ObjectId;
use smart_sync_store::manifest::{Child, Content, Manifest, Node, TreePath};
use tar::{Builder, EntryType, Header};
use tokio::runtime::Handle;

use super::super::problem::Problem;
use super::TreeView;
use super::pages::CachedPages;
use super::resolve::read_problem;

/// The most files of an archive, and their bytes.
const FILES_MAX: usize = 200_000;
const BYTES_MAX: u64 = 4 << 30;
/// The most names of a directory that are looked at for one that begins in a certain way.
const NAMES_MAX: usize = 1000;
/// The time of everything in an archive, since a tree has none: the first that all archivers know, 1980-01-01.
const MODIFIED: u64 = 315_532_800;
/// Begins what an archive is known by, and changes with how archives are written.
const FORMAT: &[u8] = b"tar.gz 1\n";

/// A file of an archive: its name there, and its content.
type Member = (Vec<u8>, Content);

/// The only file of a directory whose name begins in a certain way. On a thread that may block.
pub(super) fn only(
    manifest: &Manifest<CachedPages>,
    directory: &TreePath,
    start: &str,
) -> Result<TreePath, Problem> {
    let children = manifest.children(directory, None).map_err(read_problem)?.ok_or(Problem::NotFound)?;
    let mut found = None;
    for child in children.take(NAMES_MAX) {
        let child = child.map_err(read_problem)?;
        let is_file =
            |child: &Child| child.entry.as_ref().is_some_and(|entry| matches!(entry.node, Node::File(_)));
        if is_file(&child) && child.name().starts_with(start.as_bytes()) {
            let path = child.entry.map(|entry| entry.path).ok_or(Problem::NotFound)?;
            if found.replace(path).is_some() {
                return Err(Problem::NotFound);
            }
        }
    }
    found.ok_or(Problem::NotFound)
}

impl TreeView {
    /// Answers with the archive of what lies below a directory.
    pub(super) async fn archive(
        self,
        directory: TreePath,
        below: &'static str,
        name: &[u8],
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let members = self.read_with(move |_, manifest| members(manifest, &directory, below)).await?;
        let view = self.clone();
        let key = key(&self.domain.to_string(), &members);
        let made = self.archives.get(key, move |out| {
            let runtime = Handle::current();
            write(&members, out, |content| Streamed {
                stream: view.store.read_content(&view.domain, *content, 0..content.size).boxed(),
                piece: Bytes::new(),
                runtime: runtime.clone(),
            })
        });
        let archive =
            made.await.map_err(|error| Problem::Fault(anyhow::anyhow!("making an archive: {error:#}")))?;
        let (id, size) = (archive.id, archive.size);
        Ok(self.answer_with((id, size), self.modified, name, headers, |range| {
            Body::from_stream(archive.bytes(range))
        }))
    }
}

/// What an archive is known by: who may read it, and what is in it. A private channel shares none with others.
fn key(domain: &str, members: &[Member]) -> ObjectId {
    let mut text = FORMAT.to_vec();
    text.extend_from_slice(domain.as_bytes());
    for (name, content) in members {
        text.extend_from_slice(&(name.len() as u64).to_le_bytes());
        text.extend_from_slice(name);
        text.extend_from_slice(content.id.as_bytes());
        text.extend_from_slice(&content.size.to_le_bytes());
    }
    ObjectId::of(&text)
}

/// The files below a directory, by their names from another one that it lies in.
fn members(
    manifest: &Manifest<CachedPages>,
    directory: &TreePath,
    below: &str,
) -> Result<Vec<Member>, Problem> {
    let home = if directory.is_root() { Vec::new() } else { [directory.as_bytes(), b"/"].concat() };
    let prefix = [&home[..], below.as_bytes(), b"/"].concat();
    let (mut members, mut bytes) = (Vec::new(), 0_u64);
    for entry in manifest.iter_from(&prefix).map_err(read_problem)? {
        let entry = entry.map_err(read_problem)?;
        if !entry.path.as_bytes().starts_with(&prefix) {
            break;
        }
        let Node::File(content) = &entry.node else { continue };
        bytes = bytes.saturating_add(content.size);
        members.push((entry.path.as_bytes()[home.len()..].to_vec(), *content));
        if members.len() > FILES_MAX || bytes > BYTES_MAX {
            return Err(Problem::NotFound);
        }
    }
    if members.is_empty() { Err(Problem::NotFound) } else { Ok(members) }
}

/// Writes an archive. The same members are the same bytes.
fn write<R: Read>(
    members: &[Member],
    out: &mut dyn Write,
    open: impl Fn(&Content) -> R,
) -> anyhow::Result<()> {
    let gzip = GzBuilder::new().mtime(0).write(io::BufWriter::new(out), Compression::default());
    let mut archive = Builder::new(gzip);
    let mut directories = BTreeSet::new();
    for (name, content) in members {
        let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for directory in slashes.map(|at| &name[..=at]) {
            if directories.insert(directory) {
                append(&mut archive, directory, EntryType::Directory, 0, io::empty())?;
            }
        }
        let reader = open(content);
        append(&mut archive, name, EntryType::Regular, content.size, reader)
            .with_context(|| format!("archiving {}", String::from_utf8_lossy(name)))?;
    }
    let mut out = archive.into_inner()?.finish()?;
    Ok(out.flush()?)
}

fn append(
    archive: &mut Builder<impl Write>,
    name: &[u8],
    kind: EntryType,
    size: u64,
    reader: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MODIFIED);
    header.set_size(size);
    archive.append_data(&mut header, Path::new(OsStr::from_bytes(name)), reader)
}

/// A content that is read piece by piece, on a thread that may block.
struct Streamed {
    stream: BoxStream<'static, Result<Bytes, StoreError>>,
    piece: Bytes,
    runtime: Handle,
}

impl Read for Streamed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let len = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_store::content::name_content;

    fn archive(members: &[(&str, &str)]) -> Vec<u8> {
        let contents: Vec<Member> = members
            .iter()
            .map(|(name, text)| (name.as_bytes().to_vec(), name_content(text.as_bytes())))
            .collect();
        let mut out = Vec::new();
        let text = |content: &Content| {
            let found = members.iter().find(|(_, text)| name_content(text.as_bytes()) == *content);
            io::Cursor::new(found.map(|(_, text)| text.as_bytes().to_vec()).unwrap_or_default())
        };
        write(&contents, &mut out, text).unwrap();
        out
    }

    #[test]
    fn an_archive_holds_directories_and_files_and_is_the_same_each_time() {
        let long = format!("lib/modules/6.9.1/{}/b.ko", "directory/".repeat(20));
        let members = [("lib/modules/6.9.1/a.ko", "a module"), (&*long, "another one")];
        let bytes = archive(&members);
        assert_eq!(bytes, archive(&members));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!(entry.header().mtime().unwrap(), MODIFIED);
            if entry.header().entry_type().is_file() {
                found.push((path, text));
            } else {
                assert_eq!(entry.header().mode().unwrap(), 0o755);
            }
        }
        let expected = members.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn who_may_read_an_archive_is_a_part_of_what_it_is_known_by() {
        let members = vec![(b"lib/modules/a".to_vec(), name_content(b"a"))];
        assert_ne!(key("one", &members), key("other", &members));
        assert_ne!(key("one", &members), key("one", &[]));
    }
}
