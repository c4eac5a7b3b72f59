//! From a path to what stands there, through symbolic links as long as they stay within the tree.

use bytes::Bytes;
use futures::TryStreamExt as _;
use smart_sync_store::manifest::{
    Attributes, Child, Content, Entry, Found, Manifest, Node, ReadError, TreePath,
};
use tokio::runtime::Handle;

use super::super::index::Row;
use super::super::problem::Problem;
use super::TreeView;
use super::pages::CachedPages;

/// How many symbolic links are followed on the way to a file.
const LINKS_MAX: usize = 40;
/// The longest target of a symbolic link that is followed.
const LINK_BYTES_MAX: u64 = 4096;
/// The most lines of a directory index. Who needs more has a client of ours.
const ROWS_MAX: usize = 100_000;

/// What a path leads to.
pub(super) enum Resolved {
    File {
        content: Content,
        modified: u64,
        name: Vec<u8>,
        /// Its bytes, where they are at hand.
        bytes: Option<Bytes>,
    },
    Directory {
        rows: Vec<Row>,
        /// Whether all that is there is in the list.
        is_whole: bool,
    },
    /// A directory that was asked for without the slash at its end.
    DirectoryWithoutSlash,
}

impl TreeView {
    /// What a decoded path leads to. On a thread that may block.
    pub(super) fn resolve(&self, manifest: &Manifest<CachedPages>, path: &[u8]) -> Result<Resolved, Problem> {
        let (path, is_slashed) = match path.strip_suffix(b"/") {
            Some(path) => (path, true),
            None => (path, path.is_empty()),
        };
        let path = if path.is_empty() {
            TreePath::root()
        } else {
            TreePath::new(path).map_err(|_| Problem::NotFound)?
        };
        match self.follow(manifest, path)? {
            (_, Found::Entry(Entry { node: Node::File(_), .. })) if is_slashed => Err(Problem::NotFound),
            (path, Found::Entry(entry)) if matches!(entry.node, Node::File(_)) => {
                Ok(self.file_of(&path, &entry)?)
            }
            (path, found) if is_directory(&found) => {
                if !is_slashed {
                    return Ok(Resolved::DirectoryWithoutSlash);
                }
                directory_of(manifest, &path)
            }
            _ => Err(Problem::NotFound),
        }
    }

    /// The file at just this path, if nothing else is there; none if nothing is. An error where that is not known.
    pub(super) fn file_at(
        &self,
        manifest: &Manifest<CachedPages>,
        path: &TreePath,
    ) -> Result<Option<Resolved>, Problem> {
        match manifest.find(path).map_err(read_problem)? {
            Some(Found::Entry(entry)) => self.file_of(path, &entry).map(Some),
            Some(Found::ImpliedDirectory) => Err(Problem::NotFound),
            None => {
                // A link above it would lead elsewhere.
                for directory in ancestors(path) {
                    if manifest
                        .get(&directory?)
                        .map_err(read_problem)?
                        .is_some_and(|entry| is_symlink(&entry))
                    {
                        return Err(Problem::NotFound);
                    }
                }
                Ok(None)
            }
        }
    }

    fn file_of(&self, path: &TreePath, entry: &Entry) -> Result<Resolved, Problem> {
        let Node::File(content) = &entry.node else { return Err(Problem::NotFound) };
        let modified = match &entry.attributes {
            Attributes::System(Some(metadata)) => u64::try_from(metadata.modified.seconds).unwrap_or(0),
            _ => self.modified,
        };
        Ok(Resolved::File { content: *content, modified, name: path.file_name().to_vec(), bytes: None })
    }

    /// Finds what stands at a path, through symbolic links as long as they stay within the tree.
    fn follow(&self, manifest: &Manifest<CachedPages>, path: TreePath) -> Result<(TreePath, Found), Problem> {
        let mut path = path;
        for _ in 0..LINKS_MAX {
            match manifest.find(&path).map_err(read_problem)? {
                Some(Found::Entry(Entry { node: Node::Symlink(target), .. })) => {
                    path = self.link_target(&path, &target)?;
                }
                Some(Found::Entry(Entry { node: Node::Hardlink(target), .. })) => path = target,
                Some(found) => return Ok((path, found)),
                None => path = self.through_parent_link(manifest, &path)?,
            }
        }
        Err(Problem::NotFound)
    }

    /// The path with the first of its directories that is a symbolic link replaced by where that leads.
    fn through_parent_link(
        &self,
        manifest: &Manifest<CachedPages>,
        path: &TreePath,
    ) -> Result<TreePath, Problem> {
        let bytes = path.as_bytes();
        for directory in ancestors(path) {
            let directory = directory?;
            let slash = directory.as_bytes().len();
            if let Some(Entry { node: Node::Symlink(target), .. }) =
                manifest.get(&directory).map_err(read_problem)?
            {
                let target = self.link_target(&directory, &target)?;
                let joined =
                    [target.as_bytes(), if target.is_root() { &b""[..] } else { b"/" }, &bytes[slash + 1..]];
                return TreePath::new(joined.concat()).map_err(|_| Problem::NotFound);
            }
        }
        Err(Problem::NotFound)
    }

    fn link_target(&self, link: &TreePath, target: &Content) -> Result<TreePath, Problem> {
        if target.size > LINK_BYTES_MAX {
            return Err(Problem::NotFound);
        }
        let stream = self.store.read_content(&self.domain, *target, 0..target.size);
        let pieces: Vec<Bytes> =
            Handle::current().block_on(stream.try_collect()).map_err(|error| Problem::Fault(error.into()))?;
        resolve_link(link, &pieces.concat()).ok_or(Problem::NotFound)
    }
}

/// The directories above a path, the one at the top first.
fn ancestors(path: &TreePath) -> impl Iterator<Item = Result<TreePath, Problem>> {
    let bytes = path.as_bytes();
    let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.map(|slash| TreePath::new(&bytes[..slash]).map_err(|_| Problem::NotFound))
}

const fn is_symlink(entry: &Entry) -> bool {
    matches!(entry.node, Node::Symlink(_))
}

fn is_directory(found: &Found) -> bool {
    match found {
        Found::ImpliedDirectory => true,
        Found::Entry(entry) => matches!(entry.node, Node::Directory),
    }
}

fn directory_of(manifest: &Manifest<CachedPages>, path: &TreePath) -> Result<Resolved, Problem> {
    let mut children = manifest.children(path, None).map_err(read_problem)?.ok_or(Problem::NotFound)?;
    let mut rows = Vec::new();
    for child in children.by_ref().take(ROWS_MAX) {
        rows.push(row(&child.map_err(read_problem)?));
    }
    Ok(Resolved::Directory { rows, is_whole: children.next().is_none() })
}

fn row(child: &Child) -> Row {
    let name = child.name();
    let row = match child.entry.as_ref().map(|entry| &entry.node) {
        None | Some(Node::Directory) => Row::directory(name),
        Some(Node::File(content)) => Row::file(name, content.size),
        Some(Node::Symlink(_)) => Row::other(name, "link"),
        Some(Node::Hardlink(_)) => Row::other(name, "hard link"),
        Some(Node::Submodule(commit)) => Row::other(name, &format!("submodule {commit}")),
        Some(Node::Device { .. } | Node::Fifo | Node::Socket) => Row::other(name, "special file"),
    };
    row.at(match child.entry.as_ref().map(|entry| &entry.attributes) {
        Some(Attributes::System(Some(metadata))) => Some(metadata.modified.seconds),
        _ => None,
    })
}

/// Where a symbolic link leads, if that is inside of the tree.
fn resolve_link(link: &TreePath, target: &[u8]) -> Option<TreePath> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut names: Vec<&[u8]> = link.components().collect();
    names.pop();
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    if names.is_empty() { Some(TreePath::root()) } else { TreePath::new(names.join(&b'/')).ok() }
}

pub(super) fn read_problem(error: ReadError) -> Problem {
    Problem::Fault(anyhow::Error::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(link: &str, target: &str, expected: Option<&str>) {
        let link = TreePath::new(link.as_bytes()).unwrap();
        let found = resolve_link(&link, target.as_bytes());
        let expected = expected.map(|path| match path {
            "" => TreePath::root(),
            path => TreePath::new(path.as_bytes()).unwrap(),
        });
        assert_eq!(found, expected, "{link} -> {target}");
    }

    #[test]
    fn links_are_followed_within_the_tree_only() {
        check("a/link", "b", Some("a/b"));
        check("a/link", "../b", Some("b"));
        check("a/link", "..", Some(""));
        check("a/link", "./b//c/", Some("a/b/c"));
        check("link", "../etc/passwd", None);
        check("a/link", "../../etc/passwd", None);
        check("a/link", "/etc/passwd", None);
        check("a/link", "../.git/config", None);
    }
}
