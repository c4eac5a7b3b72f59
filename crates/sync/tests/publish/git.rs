//! Git repositories as sources, made with git itself.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use smart_sync_store::id::TreeId;
use smart_sync_store::manifest::Node;
use smart_sync_sync::ingest::{IngestError, IngestOptions, Ingested, ingest};
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::git::{GitError, GitRepository, ReferenceKind};
use smart_sync_sync::source::{SourceError, Warning};

use crate::destination::{Memory, noise};

/// A repository that knows nothing of the user's configuration.
struct Repository {
    directory: tempfile::TempDir,
}

impl Repository {
    fn new(arguments: &[&str]) -> Self {
        let repository = Self { directory: tempfile::tempdir().unwrap() };
        repository.git(&[&["init", "--quiet", "--initial-branch=main"], arguments].concat());
        repository
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.git_with(arguments, b"")
    }

    fn git_with(&self, arguments: &[&str], input: &[u8]) -> String {
        git_in(self.path(), arguments, input)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn commit(&self) -> String {
        self.git(&["add", "--all", "--force"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "next"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Writes a tree object byte by byte.
    fn write_tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut object = Vec::new();
        for (mode, name, id) in entries {
            let id: TreeId = id.parse().unwrap();
            object.extend_from_slice(&[mode.as_bytes(), b" ", name, b"\0", id.as_bytes()].concat());
        }
        self.git_with(&["hash-object", "-w", "-t", "tree", "--literally", "--stdin"], &object)
    }

    fn commit_tree(&self, tree: &str) -> String {
        self.git(&["commit-tree", tree, "-m", "made by hand"])
    }

    fn blob(&self, bytes: &[u8]) -> String {
        self.git_with(&["hash-object", "-w", "--stdin"], bytes)
    }
}

fn git_in(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(["-c", "protocol.file.allow=always", "-c", "core.autocrlf=false"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.org")])
        .envs([("GIT_COMMITTER_NAME", "A"), ("GIT_COMMITTER_EMAIL", "a@example.org")])
        .envs([("GIT_AUTHOR_DATE", "1700000000 +0100"), ("GIT_COMMITTER_DATE", "1700000001 +0100")])
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

fn publish(path: &Path, revision: &str) -> (Memory, Ingested) {
    try_publish(path, revision).unwrap()
}

fn try_publish(path: &Path, revision: &str) -> Result<(Memory, Ingested), IngestError> {
    let repository = GitRepository::open(path).map_err(SourceError::from)?;
    let commit = repository.resolve(revision).map_err(SourceError::from)?;
    let mut source = repository.tree(&commit, ContentCache::default())?;
    let mut memory = Memory::default();
    let ingested = ingest(&mut source, &mut memory, IngestOptions::default())?;
    assert_eq!(ingested.git_tree, Some(commit.tree));
    Ok((memory, ingested))
}

fn ordinary() -> Repository {
    let repository = Repository::new(&[]);
    repository.write("README", "hello\n");
    repository.write("a!", "before the directory");
    repository.write("a/b/c d", "spaces");
    repository.write("a.c", "between");
    repository.write("crlf.txt", "one\r\ntwo\r\n");
    repository.write("empty", "");
    let tool = repository.write("bin/tool", "#!/bin/sh\n");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../nowhere", repository.path().join("bin/link")).unwrap();
    repository.commit();
    repository
}

#[test]
fn what_git_holds_is_published_as_git_holds_it() {
    let repository = ordinary();
    let (memory, ingested) = publish(repository.path(), "main");
    let tree = memory.tree(&ingested);
    let listed = repository.git(&["ls-tree", "-r", "--format=%(path) %(objectmode) %(objectname)", "main"]);
    let expected: Vec<String> = listed.lines().map(str::to_owned).collect();
    let mut found: Vec<String> = memory
        .entries(&ingested)
        .iter()
        .map(|entry| {
            let mode = tree[&entry.path.to_string()].0.split(' ').next_back().unwrap().to_owned();
            format!("{} {mode} {}", entry.path, entry.content().unwrap().blob)
        })
        .collect();
    found.sort();
    let mut expected_sorted = expected;
    expected_sorted.sort();
    assert_eq!(found, expected_sorted);
    assert_eq!(tree["crlf.txt"].1, b"one\r\ntwo\r\n");
    assert_eq!(tree["bin/link"], ("link 120000".into(), b"../nowhere".to_vec()));
}

#[test]
fn packed_bare_linked_shallow_and_borrowing_repositories_give_the_same_tree() {
    let repository = ordinary();
    repository.write("a/b/c d", "changed, so that a delta is worth it");
    repository.commit();
    let expected = publish(repository.path(), "HEAD").1.manifest;
    let elsewhere = tempfile::tempdir().unwrap();
    let at = |name: &str| elsewhere.path().join(name);
    let source = repository.path().to_str().unwrap();
    let url = format!("file://{source}");
    git_in(elsewhere.path(), &["clone", "--quiet", "--bare", source, "bare"], b"");
    git_in(elsewhere.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"], b"");
    git_in(elsewhere.path(), &["clone", "--quiet", "--shared", "--no-checkout", source, "borrowing"], b"");
    repository.git(&["worktree", "add", "--quiet", at("linked").to_str().unwrap(), "-b", "side"]);
    for name in ["bare", "shallow", "borrowing", "linked"] {
        assert_eq!(publish(&at(name), "HEAD").1.manifest, expected, "{name}");
    }
    repository.git(&["gc", "--quiet", "--aggressive", "--prune=now"]);
    assert_eq!(publish(repository.path(), "main").1.manifest, expected);
}

#[test]
fn revisions_are_found_by_every_name_they_have() {
    let repository = ordinary();
    let id = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["tag", "light"]);
    repository.git(&["tag", "--annotate", "--message", "release", "v1", "HEAD"]);
    repository.git(&["tag", "--annotate", "--message", "of a tag", "v1-again", "v1"]);
    let blob = repository.blob(b"key");
    repository.git(&["tag", "key", &blob]);
    let opened = GitRepository::open(repository.path()).unwrap();
    for name in ["HEAD", "main", "refs/heads/main", "light", "v1", "refs/tags/v1", "v1-again", &id, &id[..9]]
    {
        let commit = opened.resolve(name).unwrap();
        assert_eq!((commit.id.to_string(), commit.time), (id.clone(), 1_700_000_001), "{name}");
    }
    let wrong = |name: &str| opened.resolve(name).unwrap_err();
    assert!(matches!(wrong("nothing"), GitError::NoSuchRevision(_)));
    assert!(matches!(wrong("key"), GitError::NotACommit(_, kind) if kind == "blob"));
    assert!(matches!(wrong(&"0".repeat(40)), GitError::NoSuchRevision(_)));
    assert!(matches!(wrong("../main"), GitError::NoSuchRevision(_)));
    assert_eq!(opened.checked_out().unwrap().as_deref(), Some(&b"main"[..]));
    let references = opened.references().unwrap();
    let names: Vec<(ReferenceKind, &str)> = references
        .iter()
        .map(|reference| (reference.kind, std::str::from_utf8(&reference.name).unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            (ReferenceKind::Branch, "main"),
            (ReferenceKind::Tag, "light"),
            (ReferenceKind::Tag, "v1"),
            (ReferenceKind::Tag, "v1-again")
        ]
    );
}

#[test]
fn unusual_trees_keep_their_ids() {
    let repository = Repository::new(&[]);
    let blob = repository.blob(b"content");
    let empty = repository.write_tree(&[]);
    let only_empty = repository.write_tree(&[("40000", b"e", &empty)]);
    let inner = repository.write_tree(&[("120000", b"odd\nlink", &blob), ("100664", b"old", &blob)]);
    let root = repository.write_tree(&[
        ("40000", b"a", &empty),
        ("100644", b"a!", &blob),
        ("40755", b"b", &inner),
        ("100644", b"b.c", &blob),
        ("40000", b"b0", &only_empty),
        ("100664", b"caf\xe9", &blob),
        ("160000", b"module", &"1".repeat(40)),
    ]);
    // Git sorts a directory as if its name ended in a slash.
    let sorted = repository.write_tree(&[
        ("100644", b"a!", &blob),
        ("40000", b"a", &empty),
        ("100644", b"b.c", &blob),
        ("40755", b"b", &inner),
        ("40000", b"b0", &only_empty),
        ("100664", b"caf\xe9", &blob),
        ("160000", b"module", &"1".repeat(40)),
    ]);
    let commit = repository.commit_tree(&sorted);
    let (memory, ingested) = publish(repository.path(), &commit);
    assert_eq!(ingested.git_tree.unwrap().to_string(), sorted);
    let paths: Vec<String> = memory.tree(&ingested).into_keys().collect();
    assert_eq!(paths, ["a", "a!", "b", "b.c", "b/odd\\nlink", "b/old", "b0/e", "caf\\xe9", "module"]);
    let submodules =
        memory.entries(&ingested).iter().filter(|entry| matches!(entry.node, Node::Submodule(_))).count();
    assert_eq!(submodules, 1);

    let commit = repository.commit_tree(&root);
    let error = try_publish(repository.path(), &commit).err().unwrap();
    assert!(matches!(error, IngestError::Source(SourceError::WrongTree { .. })), "{error:?}");
    let (_, empty) = publish(repository.path(), &repository.commit_tree(&empty));
    assert_eq!(
        (empty.manifest.entries, empty.git_tree.unwrap().to_string().as_str()),
        (0, "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    );
}

#[test]
fn trees_that_must_not_be_published_are_refused_by_name() {
    let repository = Repository::new(&[]);
    let blob = repository.blob(b"content");
    let check = |entries: &[(&str, &[u8], &str)], expected: &str| {
        let tree = repository.write_tree(&[("40000", b"d", &repository.write_tree(entries))]);
        let error = try_publish(repository.path(), &repository.commit_tree(&tree)).err().unwrap();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {source}");
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
    };
    check(&[("100644", b"..", &blob)], "d/.. cannot be published");
    check(&[("100644", b".GIT", &blob)], "d/.GIT cannot be published");
    check(&[("100644", b"", &blob)], "d/ cannot be published");
    check(&[("100644", b"a/b", &blob)], "a name holds a slash");
    check(&[("0100644", b"a", &blob)], "mode");
    check(&[("100644", b"a", &blob), ("100644", b"a", &blob)], "d/a is there twice");
    check(&[("100644", b"a", &"2".repeat(40))], "(d/a)");
    check(&[("40000", b"a", &blob)], "should be a tree");
    check(&[("100644", &[b'n'; 4095], &blob)], "longer than 4096 bytes");
}

#[test]
fn replacements_have_no_say() {
    let repository = ordinary();
    let expected = publish(repository.path(), "main").1.manifest;
    let original = repository.git(&["rev-parse", "main:README"]);
    let other = repository.blob(b"something else");
    repository.git(&["replace", &original, &other]);
    assert_eq!(publish(repository.path(), "main").1.manifest, expected);
}

#[test]
fn pointers_of_lfs_stay_pointers_and_are_named() {
    let repository = ordinary();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    repository.write("large.bin", pointer);
    repository.commit();
    let opened = GitRepository::open(repository.path()).unwrap();
    let commit = opened.resolve("main").unwrap();
    let mut memory = Memory::default();
    let mut cache = ContentCache::default();
    for _ in 0..2 {
        let mut source = opened.tree(&commit, cache).unwrap();
        let ingested = memory.ingest(&mut source);
        assert_eq!(memory.tree(&ingested)["large.bin"].1, pointer.as_bytes());
        assert!(
            matches!(&ingested.warnings[..], [Warning::LfsPointer(path)] if path.as_bytes() == b"large.bin")
        );
        cache = source.into_cache();
    }
}

#[test]
fn known_blobs_are_not_read_again_unless_the_destination_lacks_them() {
    let repository = ordinary();
    repository.write("large", noise(1, 700_000));
    repository.commit();
    let opened = GitRepository::open(repository.path()).unwrap();
    let commit = opened.resolve("main").unwrap();
    let mut memory = Memory::default();
    let mut source = opened.tree(&commit, ContentCache::default()).unwrap();
    let first = memory.ingest(&mut source);
    assert_eq!(first.statistics.contents_known, 0);
    let packs = memory.packs.len();

    let mut source = opened.tree(&commit, source.into_cache()).unwrap();
    let again = memory.ingest(&mut source);
    assert_eq!(again.manifest, first.manifest);
    assert_eq!((again.statistics.contents_read, memory.packs.len()), (0, packs));
    assert_eq!(again.statistics.contents_known, first.statistics.contents_read);

    memory.keeps_manifests = true;
    let mut source = opened.tree(&commit, source.into_cache()).unwrap();
    let unwalked = memory.ingest(&mut source);
    assert_eq!((unwalked.manifest, unwalked.git_tree), (first.manifest, Some(commit.tree)));
    assert_eq!(unwalked.statistics.contents_known, 0);

    let mut elsewhere = Memory::default();
    let mut source = opened.tree(&commit, source.into_cache()).unwrap();
    let moved = elsewhere.ingest(&mut source);
    assert_eq!(moved.manifest, first.manifest);
    assert_eq!(elsewhere.tree(&moved), memory.tree(&first));
}

#[test]
fn a_damaged_blob_is_found() {
    let repository = ordinary();
    let id = repository.git(&["rev-parse", "main:README"]);
    let other = repository.git(&["rev-parse", "main:a.c"]);
    let object = |id: &str| repository.path().join(".git/objects").join(&id[..2]).join(&id[2..]);
    fs::remove_file(object(&id)).unwrap();
    fs::copy(object(&other), object(&id)).unwrap();
    let error = try_publish(repository.path(), "main").err().unwrap();
    assert!(
        matches!(&error, IngestError::Source(SourceError::WrongBlob(path)) if path.as_bytes() == b"README"),
        "{error:?}"
    );
}

#[test]
fn sha_256_repositories_are_refused_in_words() {
    let repository = Repository::new(&["--object-format=sha256"]);
    let error = GitRepository::open(repository.path()).err().unwrap();
    assert!(matches!(error, GitError::Sha256(_)), "{error:?}");
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(GitRepository::open(nothing.path()).err().unwrap(), GitError::Open { .. }));
}
