//! One patch file and what stands in its place.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use smart_sync_store::manifest::TreePath;

use super::layers::PatchFile;
use crate::failure::{Exit, Failure};

/// Larger files are said to differ, and not shown.
pub(super) const TEXT_BYTES_MAX: u64 = 1 << 20;
/// What is compared at once.
const BLOCK_BYTES: usize = 64 << 10;
/// Everybody may read it.
const FOR_EVERYBODY: u32 = 0o004;

/// How what is installed differs from a patch file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// It does not.
    None,
    /// Nothing is there.
    Missing,
    /// Something else is there: a directory, for instance.
    Other(&'static str),
    /// One of them is executable.
    Mode,
    /// A symbolic link leads elsewhere.
    Link,
    /// Other bytes.
    Content(Option<Texts>),
}

/// Both texts, where both are texts and not too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) patch: String,
    pub(super) installed: String,
    /// Whether everybody may read what is installed.
    pub(super) is_public: bool,
}

/// The system that is looked at.
#[derive(Debug)]
pub(super) struct System {
    root: OwnedFd,
}

impl System {
    pub(super) fn open(root: &Path) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| {
            Failure::from(std::io::Error::from(error)).context(format!("opening {}", root.display()))
        })?;
        Ok(Self { root })
    }

    /// Compares a patch file with what stands at a path. Links on the way are followed as in the system, and never out
    /// of its root; one at the path itself is what stands there.
    pub(super) fn compare(&self, path: &TreePath, ours: &PatchFile) -> Result<Difference, Failure> {
        let found = match self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Difference::Missing),
            found => found.map_err(std::io::Error::from)?,
        };
        let found = rustix::fs::fstat(&found).map_err(std::io::Error::from)?;
        match (ours.is_symlink, FileType::from_raw_mode(found.st_mode)) {
            (true, FileType::Symlink) => {
                let link =
                    self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW).map_err(std::io::Error::from)?;
                let installed =
                    rustix::fs::readlinkat(&link, c"", Vec::new()).map_err(std::io::Error::from)?;
                let link = fs::read_link(&ours.path)?;
                let is_same = link.as_os_str().as_bytes() == installed.as_bytes();
                Ok(if is_same { Difference::None } else { Difference::Link })
            }
            (false, FileType::RegularFile) => self.compare_files(path, ours),
            (_, FileType::Directory) => Ok(Difference::Other("a directory")),
            (_, FileType::Symlink) => Ok(Difference::Other("a symbolic link")),
            (_, FileType::RegularFile) => Ok(Difference::Other("a file")),
            _ => Ok(Difference::Other("neither a file nor a directory")),
        }
    }

    fn compare_files(&self, path: &TreePath, ours: &PatchFile) -> Result<Difference, Failure> {
        // Should it have become a pipe, nobody waits for it.
        let installed = self.open_at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK);
        let mut installed = File::from(installed.map_err(std::io::Error::from)?);
        let mut wanted = File::open(&ours.path)?;
        let (metadata, other) = (wanted.metadata()?, installed.metadata()?);
        if !other.is_file() {
            return Err(Failure::message(Exit::General, "it was replaced while it was looked at"));
        }
        if metadata.len().max(other.len()) <= TEXT_BYTES_MAX {
            let (one, two) = (bounded(&mut wanted)?, bounded(&mut installed)?);
            if one != two {
                let is_public = other.mode() & FOR_EVERYBODY != 0;
                let texts = text(one).zip(text(two));
                let texts = texts.map(|(patch, installed)| Texts { patch, installed, is_public });
                return Ok(Difference::Content(texts));
            }
        } else if metadata.len() != other.len() || !are_equal(&mut wanted, &mut installed)? {
            return Ok(Difference::Content(None));
        }
        let is_executable = |mode: u32| mode & 0o100 != 0;
        let is_same = is_executable(metadata.mode()) == is_executable(other.mode());
        Ok(if is_same { Difference::None } else { Difference::Mode })
    }

    fn open_at(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match openat2(&self.root, path.as_bytes(), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                // The kernel asks to try again when something was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened,
            }
        }
    }
}

fn bounded(file: &mut File) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0') && text.len() as u64 <= TEXT_BYTES_MAX)
}

fn are_equal(one: &mut impl Read, other: &mut impl Read) -> Result<bool, Failure> {
    let (mut left, mut right) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    loop {
        let (read, expected) = (fill(one, &mut left)?, fill(other, &mut right)?);
        if left[..read] != right[..expected] {
            return Ok(false);
        }
        if read < BLOCK_BYTES {
            return Ok(true);
        }
    }
}

/// Reads as much as there is, up to the length of a block.
fn fill(file: &mut impl Read, block: &mut [u8]) -> Result<usize, Failure> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    struct Scene {
        directory: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            for name in ["patch", "root/etc", "root/usr/lib"] {
                fs::create_dir_all(directory.path().join(name)).unwrap();
            }
            Self { directory }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        #[track_caller]
        fn check(&self, at: &str, name: &str, expected: &Difference) {
            let system = System::open(&self.path("root")).unwrap();
            let path = self.path("patch").join(name);
            let ours = PatchFile { is_symlink: path.is_symlink(), path };
            let found = system.compare(&TreePath::new(at.as_bytes()).unwrap(), &ours).unwrap();
            assert_eq!(found, *expected, "{at}");
        }
    }

    #[test]
    fn what_differs_is_told_apart() {
        let scene = Scene::new();
        fs::write(scene.path("patch/text"), "a\n").unwrap();
        symlink("target", scene.path("patch/link")).unwrap();
        fs::write(scene.path("patch/large"), vec![b'x'; 2 << 20]).unwrap();
        fs::write(scene.path("root/etc/same"), "a\n").unwrap();
        fs::write(scene.path("root/etc/other"), "b\n").unwrap();
        fs::write(scene.path("root/etc/binary"), b"\0").unwrap();
        fs::write(scene.path("root/etc/large"), vec![b'x'; 2 << 20]).unwrap();
        let mut other = vec![b'x'; 2 << 20];
        other[1_500_000] = b'y';
        fs::write(scene.path("root/etc/large-other"), other).unwrap();
        symlink("target", scene.path("root/etc/link")).unwrap();
        symlink("elsewhere", scene.path("root/etc/link-other")).unwrap();
        let texts = |is_public| {
            Difference::Content(Some(Texts {
                patch: "a\n".to_owned(),
                installed: "b\n".to_owned(),
                is_public,
            }))
        };
        scene.check("etc/same", "text", &Difference::None);
        scene.check("etc/other", "text", &texts(true));
        fs::set_permissions(scene.path("root/etc/other"), fs::Permissions::from_mode(0o640)).unwrap();
        scene.check("etc/other", "text", &texts(false));
        scene.check("etc/binary", "text", &Difference::Content(None));
        scene.check("etc/none", "text", &Difference::Missing);
        scene.check("etc/same/below", "text", &Difference::Missing);
        scene.check("usr/lib", "text", &Difference::Other("a directory"));
        scene.check("etc/link", "text", &Difference::Other("a symbolic link"));
        scene.check("etc/same", "link", &Difference::Other("a file"));
        scene.check("etc/link", "link", &Difference::None);
        scene.check("etc/link-other", "link", &Difference::Link);
        scene.check("etc/large", "large", &Difference::None);
        scene.check("etc/large-other", "large", &Difference::Content(None));
        fs::set_permissions(scene.path("root/etc/same"), fs::Permissions::from_mode(0o755)).unwrap();
        scene.check("etc/same", "text", &Difference::Mode);
    }

    #[test]
    fn links_lead_nowhere_out_of_the_root() {
        let scene = Scene::new();
        fs::write(scene.path("patch/text"), "a\n").unwrap();
        fs::write(scene.path("outside"), "a\n").unwrap();
        fs::write(scene.path("root/usr/lib/here"), "a\n").unwrap();
        // As a merged /usr has it, and as it is written in a system that is looked at from outside.
        symlink("/usr/lib", scene.path("root/lib")).unwrap();
        symlink("../../..", scene.path("root/out")).unwrap();
        scene.check("lib/here", "text", &Difference::None);
        scene.check("out/outside", "text", &Difference::Missing);
    }
}
