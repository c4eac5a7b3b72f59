//! What a tree of files is, as a value that can be compared and printed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// One thing in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory {
        /// Its permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its size in bytes.
        size: u64,
        /// BLAKE3 of its content.
        content: blake3::Hash,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as it is written.
        target: PathBuf,
    },
    /// A device, a socket or a pipe.
    Other {
        /// Its type and permission bits.
        mode: u32,
    },
}

/// Everything below a directory, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Snapshot {
    /// Every directory, file, link and their permission bits.
    pub fn of(directory: &Path) -> Self {
        Self::try_of(directory).unwrap_or_else(|error| panic!("reading {}: {error}", directory.display()))
    }

    /// The same, for a tree that may change while it is read.
    pub fn try_of(directory: &Path) -> io::Result<Self> {
        let mut snapshot = Self::default();
        snapshot.add_directory(directory, Path::new(""))?;
        Ok(snapshot)
    }

    /// The same as git would see it: files with their executable bit, links, no directories, nothing in `.git`.
    pub fn as_git(directory: &Path) -> Self {
        let mut snapshot = Self::of(directory);
        snapshot.nodes.retain(|path, node| {
            if let Node::File { mode, .. } = node {
                *mode = if *mode & 0o100 == 0 { 0o644 } else { 0o755 };
            }
            !matches!(node, Node::Directory { .. }) && !path.iter().any(|component| component == ".git")
        });
        snapshot
    }

    /// The paths and what is there, sorted.
    pub fn nodes(&self) -> &BTreeMap<PathBuf, Node> {
        &self.nodes
    }

    /// What one has and the other has not, one line each: `-` for what is here alone, `+` for what is there alone.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, node) in &self.nodes {
            if other.nodes.get(path) != Some(node) {
                lines.push(format!("- {}", Line(path, node)));
            }
        }
        for (path, node) in &other.nodes {
            if self.nodes.get(path) != Some(node) {
                lines.push(format!("+ {}", Line(path, node)));
            }
        }
        lines
    }

    /// Fails the test, naming what differs, unless both are the same.
    #[track_caller]
    pub fn assert_same(&self, other: &Self) {
        let differences = self.differences(other);
        let shown = differences.iter().take(50).cloned().collect::<Vec<_>>().join("\n");
        assert!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
    }

    fn add_directory(&mut self, root: &Path, relative: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(relative))? {
            let entry = entry?;
            let relative = relative.join(entry.file_name());
            let node = node_at(&entry.path())?;
            if matches!(node, Node::Directory { .. }) {
                self.add_directory(root, &relative)?;
            }
            self.nodes.insert(relative, node);
        }
        Ok(())
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, node) in &self.nodes {
            writeln!(formatter, "{}", Line(path, node))?;
        }
        Ok(())
    }
}

fn node_at(path: &Path) -> io::Result<Node> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.permissions().mode() & 0o7777;
    Ok(if metadata.is_dir() {
        Node::Directory { mode }
    } else if metadata.is_symlink() {
        Node::Symlink { target: fs::read_link(path)? }
    } else if metadata.is_file() {
        let content = blake3::Hasher::new().update_reader(fs::File::open(path)?)?.finalize();
        Node::File { mode, size: metadata.size(), content }
    } else {
        Node::Other { mode: metadata.mode() }
    })
}

/// A node as one line.
struct Line<'node>(&'node Path, &'node Node);

impl fmt::Display for Line<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.display();
        match self.1 {
            Node::Directory { mode } => write!(formatter, "{mode:04o} {path}/"),
            Node::File { mode, size, content } => {
                let content = content.to_hex();
                write!(formatter, "{mode:04o} {path} {size} {}", &content[..16])
            }
            Node::Symlink { target } => write!(formatter, "link {path} -> {}", target.display()),
            Node::Other { mode } => write!(formatter, "{mode:06o} {path}"),
        }
    }
}
