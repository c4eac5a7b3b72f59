//! The modules of a kernel: out of an archive or a directory of the tree, to where the kernel looks for them.
//!
//! They are written beside their place and moved there as a whole. What an archive says is not believed: members lie
//! below `lib/modules/VERSION`, links stay inside, and links are made last, so that nothing is ever written through one.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use smart_sync_store::id::{ContentId, ContentIdHasher};
use smart_sync_store::manifest::{Fidelity, FileTime, TreePath};
use smart_sync_sync::apply::tree_dir::TreeDir;
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::source::tar::{TarOptions, TarSource, spool_file};
use smart_sync_sync::source::{Contents, Handle, SourceNode, TreeSource};

use super::super::shown;
use super::release::Release;

/// The most bytes of an archive, decompressed.
const ARCHIVE_BYTES_MAX: u64 = 2 << 30;
/// The longest link.
const LINK_BYTES_MAX: usize = 4096;
/// What a file takes beside its bytes.
const FILE_OVERHEAD: u64 = 4096;
/// What modules are called until they are whole, with their version behind it.
const BESIDE: &str = ".smart-sync-";
/// In a directory of modules: the id of what was placed there.
const STAMP: &str = ".smart-sync";
/// Links to the sources of a kernel, which are those of the machine that built it.
const OF_THE_BUILDER: [&[u8]; 2] = [b"build", b"source"];

/// Modules that were read, and not written anywhere yet.
pub(super) struct Modules {
    files: Vec<Member>,
    links: Vec<(TreePath, Vec<u8>)>,
    contents: Arc<dyn Contents>,
    /// What they are.
    pub(super) id: ContentId,
    /// The room that they take, or more.
    pub(super) bytes: u64,
}

struct Member {
    /// Where it is in its source.
    path: TreePath,
    /// Where it goes.
    to: TreePath,
    handle: Handle,
}

impl Modules {
    /// Reads the modules of a kernel, if it has some.
    pub(super) fn read(
        release: &Release,
        from: &Path,
        tree: &TreeDir,
        spool: &Path,
    ) -> Result<Option<Self>, String> {
        let Some(path) = &release.modules else { return Ok(None) };
        let failed = |error: &dyn std::fmt::Display| format!("the modules of {}: {error}", release.version);
        let exclusions = Exclusions::new([]).expect("no pattern is wrong");
        let (mut source, prefixes): (Box<dyn TreeSource>, Vec<Vec<u8>>) = if path.ends_with('/') {
            let options = DirectoryOptions {
                fidelity: Fidelity::Git,
                exclusions,
                now: FileTime { seconds: 0, nanoseconds: 0 },
            };
            let source = DirectorySource::open(&from.join(path), options, ContentCache::default());
            (Box::new(source.map_err(|error| failed(&error))?), vec![Vec::new()])
        } else {
            let archive = tree.open_file(path.as_bytes()).map_err(|error| failed(&error))?;
            let spool = spool_file(spool).map_err(|error| failed(&error))?;
            let options = TarOptions { fidelity: Fidelity::Git, exclusions };
            let source = TarSource::read(bounded(archive), spool, &options);
            let source = source.map_err(|error| failed(&chain(&error)))?;
            let below = format!("lib/modules/{}/", release.version);
            (Box::new(source), vec![below.clone().into_bytes(), format!("usr/{below}").into_bytes()])
        };
        Self::collect(&mut *source, &prefixes).map(Some).map_err(|reason| failed(&reason))
    }

    fn collect(source: &mut dyn TreeSource, prefixes: &[Vec<u8>]) -> Result<Self, String> {
        let contents = source.contents();
        let (mut files, mut links, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut hasher = ContentIdHasher::default();
        while let Some(entry) = source.next_entry().map_err(|error| chain(&error))? {
            let SourceNode::Content { is_symlink, size, handle, .. } = entry.node else { continue };
            let inside = prefixes.iter().find_map(|prefix| entry.path.as_bytes().strip_prefix(&prefix[..]));
            let to = inside.and_then(|inside| TreePath::new(inside).ok()).filter(|to| !to.is_root());
            let Some(to) = to else { return Err(format!("{} is not one of them", entry.path)) };
            if is_symlink && OF_THE_BUILDER.contains(&to.as_bytes()) {
                continue;
            }
            hasher.update(&(to.as_bytes().len() as u64).to_le_bytes());
            hasher.update(to.as_bytes());
            hasher.update(&[u8::from(is_symlink)]);
            hasher.update(&size.to_le_bytes());
            let mut link = Vec::new();
            let read = contents.reader().read(&entry.path, &handle, &mut |bytes| {
                hasher.update(bytes);
                if is_symlink && link.len() <= LINK_BYTES_MAX {
                    link.extend_from_slice(bytes);
                }
                Ok(())
            });
            read.map_err(|error| chain(&error))?;
            bytes += size + FILE_OVERHEAD;
            if !is_symlink {
                files.push(Member { path: entry.path, to, handle });
            } else if stays_inside(&to, &link) {
                links.push((to, link));
            } else {
                return Err(format!("{to} is a link that leads out of them"));
            }
        }
        Ok(Self { files, links, contents, id: hasher.finish(), bytes })
    }

    /// Whether these are what is at a place.
    pub(super) fn are_at(&self, place: &Path) -> bool {
        fs::read(place.join(STAMP)).is_ok_and(|stamp| stamp == self.id.to_string().as_bytes())
    }

    /// Writes them, and moves them to their place, durably.
    pub(super) fn put(&self, directory: &Path, version: &str) -> Result<(), String> {
        let beside = directory.join(format!("{BESIDE}{version}"));
        let place = directory.join(version);
        let put = || -> io::Result<()> {
            remove_all(&beside)?;
            make(&beside)?;
            self.write(&beside)?;
            fs::write(beside.join(STAMP), self.id.to_string())?;
            let opened = File::open(directory)?;
            syncfs(&opened)?;
            if place.symlink_metadata().is_ok() {
                renameat_with(CWD, &beside, CWD, &place, RenameFlags::EXCHANGE)?;
            } else {
                fs::rename(&beside, &place)?;
            }
            opened.sync_all()?;
            remove_all(&beside)
        };
        put().map_err(|error| format!("{} cannot be written: {error}", shown(&place)))
    }

    fn write(&self, beside: &Path) -> io::Result<()> {
        let mut reader = self.contents.reader();
        for member in &self.files {
            let path = ready(beside, &member.to)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
            let mut written = Ok(());
            let read = reader.read(&member.path, &member.handle, &mut |bytes| {
                if written.is_ok() {
                    written = file.write_all(bytes);
                }
                Ok(())
            });
            written?;
            read.map_err(|error| io::Error::other(chain(&error)))?;
        }
        for (to, link) in &self.links {
            symlink(OsStr::from_bytes(link), ready(beside, to)?)?;
        }
        Ok(())
    }
}

/// Makes the directories that lead to a path, and returns where it is.
fn ready(beside: &Path, to: &TreePath) -> io::Result<PathBuf> {
    let path = beside.join(OsStr::from_bytes(to.as_bytes()));
    make(path.parent().unwrap_or(beside))?;
    Ok(path)
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory)
}

/// Removes a directory with what is in it, if it is there.
pub(super) fn remove_all(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes modules that a run which was killed has left half written.
pub(super) fn remove_left(directory: &Path) -> Result<(), String> {
    for entry in fs::read_dir(directory).into_iter().flatten().map_while(Result::ok) {
        if entry.file_name().as_bytes().starts_with(BESIDE.as_bytes()) {
            let path = entry.path();
            remove_all(&path).map_err(|error| format!("{} cannot be removed: {error}", shown(&path)))?;
        }
    }
    Ok(())
}

/// Whether a link in a directory leads to something in it.
fn stays_inside(path: &TreePath, link: &[u8]) -> bool {
    if link.is_empty() || link.len() > LINK_BYTES_MAX || link.starts_with(b"/") || link.contains(&0) {
        return false;
    }
    let mut depth = path.as_bytes().split(|byte| *byte == b'/').count() - 1;
    link.split(|byte| *byte == b'/').all(|component| match component {
        b"" | b"." => true,
        b".." => match depth.checked_sub(1) {
            Some(less) => {
                depth = less;
                true
            }
            None => false,
        },
        _ => {
            depth += 1;
            true
        }
    })
}

/// A decompressed archive, which ends with an error where it is too long.
fn bounded(archive: File) -> impl Read {
    Bounded { inner: MultiGzDecoder::new(archive), left: ARCHIVE_BYTES_MAX }
}

struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(format!("it holds more than {} GiB", ARCHIVE_BYTES_MAX >> 30)))?;
        Ok(read)
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_are_refused() {
        let stays =
            |path: &str, link: &str| stays_inside(&TreePath::new(path.as_bytes()).unwrap(), link.as_bytes());
        assert!(stays("kernel/a.ko", "../kernel/b.ko"));
        assert!(stays("a", "./b/../c"));
        assert!(!stays("kernel/a.ko", "../../b"));
        assert!(!stays("a", "b/../../c"));
        assert!(!stays("a", "/etc/passwd"));
        assert!(!stays("a", ""));
    }
}
