//! Tree ids, held against those that git computes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use smart_sync_store::id::TreeId;
use smart_sync_store::manifest::{
    Attributes, Entry, Fidelity, GitMode, GitTreeHasher, Node, TreePath, TreeSink,
};

use crate::tree::*;

fn tree_id(entries: &[Entry]) -> TreeId {
    // The hasher relies on the rules of a manifest, so what it is given is one.
    let manifest = manifest(Fidelity::Git, entries);
    let mut hasher = GitTreeHasher::new();
    for entry in &manifest {
        hasher.push(&entry.unwrap()).unwrap();
    }
    hasher.finish()
}

/// What was shown: paths with their objects.
#[derive(Default)]
struct Shown(Vec<(Vec<u8>, TreeId, Vec<u8>)>);

impl TreeSink for Shown {
    fn tree(&mut self, path: &[u8], id: TreeId, object: &[u8]) {
        self.0.push((path.to_vec(), id, object.to_vec()));
    }
}

/// A repository that knows nothing of the user's configuration.
struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Self {
        let repository = Self(tempfile::tempdir().unwrap());
        repository.git(&["init", "--quiet", "--bare", "."], b"");
        repository
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn git(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut child = Command::new("git")
            .args(arguments)
            .current_dir(self.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Writes a tree object byte by byte, so that modes stay as they are.
    fn write_tree(&self, entries: &[(GitMode, &[u8], Vec<u8>)]) -> String {
        let mut object = Vec::new();
        for (mode, name, id) in entries {
            object.extend_from_slice(format!("{:o} ", mode.bits()).as_bytes());
            object.extend_from_slice(name);
            object.push(0);
            object.extend_from_slice(id);
        }
        self.git(&["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], &object)
    }
}

/// Writes the trees of sorted entries with git, directory by directory, sorting as git says it does.
fn write_with_git(repository: &Repository, entries: &[Entry], directory: &[u8]) -> String {
    let prefix = if directory.is_empty() { Vec::new() } else { [directory, b"/"].concat() };
    let mut children: Vec<(Vec<u8>, GitMode, Vec<u8>)> = Vec::new();
    for entry in entries {
        let Some(rest) = entry.path.as_bytes().strip_prefix(&prefix[..]).filter(|rest| !rest.is_empty())
        else {
            continue;
        };
        let Attributes::Git(mode) = entry.attributes else { unreachable!("the tree is of git") };
        let name = rest.split(|byte| *byte == b'/').next().unwrap();
        let is_child = name.len() == rest.len();
        let mode = if is_child { mode } else { GitMode::DIRECTORY };
        if children.iter().any(|(known, ..)| known == name) {
            continue;
        }
        let id = match &entry.node {
            Node::File(content) | Node::Symlink(content) if is_child => content.blob.as_bytes().to_vec(),
            Node::Submodule(commit) if is_child => commit.as_bytes().to_vec(),
            _ => {
                let id: TreeId =
                    write_with_git(repository, entries, &[&prefix, name].concat()).parse().unwrap();
                id.as_bytes().to_vec()
            }
        };
        children.push((name.to_vec(), mode, id));
    }
    children.sort_by_key(|(name, mode, _)| [name, &b"/"[..usize::from(mode.is_directory())]].concat());
    let children: Vec<_> = children.iter().map(|(name, mode, id)| (*mode, &name[..], id.clone())).collect();
    repository.write_tree(&children)
}

#[track_caller]
fn check(entries: &[Entry]) {
    let repository = Repository::new();
    assert_eq!(tree_id(entries).to_string(), write_with_git(&repository, entries, b""));
}

#[test]
fn the_empty_tree_has_the_id_that_everybody_knows() {
    assert_eq!(tree_id(&[]).to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
}

#[test]
fn directories_sort_as_if_their_names_ended_in_a_slash() {
    check(&[file("a!", 1), file("a-b", 2), file("a.c", 3), file("a/x", 4), file("a0", 5), file("ab", 6)]);
}

#[test]
fn directories_with_entries_of_their_own_wait_for_their_place() {
    let empty = |path: &str| git_entry(path, 0o040_000, 0);
    let odd = |path: &str| git_entry(path, 0o040_755, 0);
    check(&[empty("a")]);
    check(&[empty("a"), file("a!", 1), empty("a!!"), file("a!!b/c", 2), file("a.c", 3), file("a0", 5)]);
    check(&[odd("a"), odd("a!"), file("a!/x", 1), file("a/x", 2)]);
    check(&[odd("a"), file("a-/q", 1), odd("a/b"), file("a/b-", 2), file("a/b/c", 3)]);
    check(&[empty("deep/er/still"), file("deep/er/stilly", 1), empty("z"), empty("z!")]);
    check(&[odd("a"), odd("a/b"), empty("a/b/c")]);
}

#[test]
fn every_directory_is_shown_after_all_that_are_in_it() {
    let empty = git_entry("a/empty", 0o040_000, 0);
    let entries = [file("a/b/c", 1), file("a/b/d", 2), empty, file("a.b", 3), file("z/y/x", 4)];
    let mut entries = entries.to_vec();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let (manifest, mut shown) = (manifest(Fidelity::Git, &entries), Shown::default());
    let mut hasher = GitTreeHasher::with_sink(&mut shown);
    for entry in &manifest {
        hasher.push(&entry.unwrap()).unwrap();
    }
    let root = hasher.finish();
    let repository = Repository::new();
    let mut paths = Vec::new();
    for (path, id, object) in shown.0 {
        // Git has all that is in it already, or it would not be written.
        let written = repository.git(&["hash-object", "-t", "tree", "-w", "--stdin"], &object);
        assert_eq!(written, id.to_string());
        paths.push(String::from_utf8(path).unwrap());
    }
    assert_eq!(paths, ["a/b", "a/empty", "a", "z/y", "z", ""]);
    assert_eq!(root, tree_id(&entries));
}

#[test]
fn modes_are_hashed_as_they_are() {
    let modes = [
        0o100_600u32,
        0o100_640,
        0o100_664,
        0o100_666,
        0o100_755,
        0o100_777,
        0o120_777,
        0o160_755,
        0o060_000,
    ];
    let entries: Vec<Entry> =
        modes.iter().zip(0..).map(|(mode, n)| git_entry(&format!("m{n}"), *mode, n)).collect();
    check(&entries);
}

#[test]
fn names_are_bytes() {
    let names: [&[u8]; 6] = [b" ", b"\n\x1b[2J", b"\"q\"", b"caf\xe9", b"na\xc3\xafve", b"\xff\xff\xff"];
    let mut entries: Vec<Entry> = names
        .iter()
        .zip(0..)
        .map(|(name, n)| Entry { path: TreePath::new(*name).unwrap(), ..file("x", n) })
        .collect();
    let below = [b"\xff\xff\xff\xff/", &b"\xff"[..]].concat();
    entries.push(Entry { path: TreePath::new(below).unwrap(), ..git_entry("x", 0o040_000, 0) });
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    check(&entries);
}

proptest! {
    // Each case starts git once for every directory.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_tree_has_the_id_that_git_gives_it(entries in git_entries(24)) {
        let repository = Repository::new();
        prop_assert_eq!(tree_id(&entries).to_string(), write_with_git(&repository, &entries, b""));
    }
}
