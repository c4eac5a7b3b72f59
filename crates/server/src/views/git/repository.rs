//! A bare repository whose only branch follows a channel.
//!
//! It is a cache of the log and the store. Each publication is a commit that names its leaf, so the branch alone says
//! how far the repository has come: objects are there, durable, before the branch moves, and it moves in one step.
//! A commit is made of nothing but the publication, its tree, and the commit before.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sha1::{Digest as _, Sha1};
use smart_sync_store::Store;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::{CommitId, TreeId};
use smart_sync_store::manifest::Manifest;
use smart_sync_sync::log::merkle::LogHash;

use super::objects::{Objects, is_of_git, objects};
use super::pack::{Kind, PackWriter};
use super::program::{self, GitError, ask, run};
use crate::durable;
use crate::realm::pages::StorePages;
use crate::views::content::write_content;
use crate::views::history::Version;

/// The only branch.
const BRANCH: &str = "refs/heads/main";
/// The line of a commit's message that names the leaf of its publication, and its number.
const LEAF: &str = "Publication: ";
/// Where git reads with which commits the history begins.
const SHALLOW: &str = "shallow";
/// The same, as it was when what is before them was dropped.
const DROPPED: &str = "smart-sync-dropped";
/// How long what is before them stays: longer than any request may take.
const DROP_AFTER: Duration = Duration::from_secs(2 * 3600);
/// As many packs are packed into one.
const PACKS_MAX: usize = 32;

/// Settings of such a repository. It is only ever read by others, by the smart protocol; a request takes one processor
/// and a bounded part of the memory.
const CONFIG: &str = "\
[http]
\tuploadpack = true
\treceivepack = false
\tgetanyfile = false
[uploadpack]
\tallowFilter = false
\tkeepAlive = 5
[pack]
\tthreads = 1
\twindowMemory = 64m
\tdeltaCacheSize = 64m
\twriteBitmaps = false
[repack]
\twriteBitmaps = false
[core]
\tbigFileThreshold = 16m
\tfsync = all
[gc]
\tauto = 0
[maintenance]
\tauto = false
";

/// The newest commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) commit: CommitId,
    /// The leaf of the publication that it is.
    pub(super) leaf: LogHash,
}

/// How long the history is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// As it should be.
    Right,
    /// Longer; it is made shorter when nobody is looking.
    Long,
    /// So long that it does not wait for that.
    TooLong,
}

/// A repository.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    path: PathBuf,
}

impl Repository {
    /// The repository at a path, which may not be there.
    pub(super) const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn exists(&self) -> bool {
        self.path.join("HEAD").exists()
    }

    /// Makes an empty one.
    pub(super) fn create(path: PathBuf, description: &str) -> anyhow::Result<Self> {
        let made = Self { path };
        let arguments =
            ["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--initial-branch=main"];
        run(&made.path, &arguments)?;
        let config = made.path.join("config");
        let mut text = fs::read(&config).with_context(|| format!("reading {}", config.display()))?;
        text.extend_from_slice(CONFIG.as_bytes());
        durable::write(&config, &text)?;
        durable::write(&made.path.join("description"), format!("{description}\n").as_bytes())?;
        Ok(made)
    }

    /// Where the branch is; none where it is not there.
    pub(super) fn tip(&self) -> anyhow::Result<Option<Tip>> {
        let Some(id) = ask(&self.path, &["rev-parse", "--verify", "--quiet", BRANCH])? else {
            return Ok(None);
        };
        let commit: CommitId = id.parse()?;
        let text = run(&self.path, &["cat-file", "commit", &id])?;
        let leaf = text.lines().find_map(|line| line.strip_prefix(LEAF)?.split(' ').nth(1));
        let leaf = leaf.context("the newest commit does not say which publication it is")?.parse()?;
        Ok(Some(Tip { commit, leaf }))
    }

    /// Adds a version after the tip. `base` is a version whose objects are all here already.
    pub(super) fn add(
        &self,
        store: &Arc<Store>,
        domain: &Domain,
        tip: Option<Tip>,
        base: Option<&Version>,
        version: &Version,
    ) -> anyhow::Result<Tip> {
        let pages = StorePages::new(Arc::clone(store), domain.clone());
        let new = Manifest::open(pages.clone(), version.manifest, None)?;
        if !is_of_git(&new) {
            bail!(
                "the tree keeps owners and times, which git does not\n\
                 hint: publish it without --fidelity system, or take the channel out of [git]"
            );
        }
        let old = base.map(|base| Manifest::open(pages, base.manifest, None)).transpose()?;
        let old = old.filter(is_of_git);
        let objects = objects(old.as_ref(), &new)?;
        if let Some(git) = version.publication.git {
            ensure!(
                git.tree == objects.root,
                "the tree is {} to git, and {} was published",
                objects.root,
                git.tree
            );
        }
        let commit = commit_object(version, objects.root, tip.map(|tip| tip.commit));
        let id = commit_id(&commit);
        self.write(store, domain, &objects, &commit)?;
        let before = tip.map_or_else(|| "0".repeat(40), |tip| tip.commit.to_string());
        run(&self.path, &["update-ref", BRANCH, &id.to_string(), &before])?;
        Ok(Tip { commit: id, leaf: version.leaf })
    }

    /// Writes objects as one pack, which git checks and makes durable before it gives it a name.
    fn write(
        &self,
        store: &Arc<Store>,
        domain: &Domain,
        objects: &Objects,
        commit: &[u8],
    ) -> anyhow::Result<()> {
        let arguments = ["index-pack", "--stdin", "--threads=1"];
        let mut command = program::command(&self.path, &arguments);
        let mut child =
            command.stdin(Stdio::piped()).spawn().map_err(|error| program::run_error(&arguments, error))?;
        let stdin = child.stdin.take().context("the pipe to git")?;
        let written = write_pack(stdin, store, domain, objects, commit);
        let output = child.wait_with_output().map_err(|error| program::run_error(&arguments, error))?;
        match (written, program::checked(output, &arguments)) {
            // Whoever stops reading says why.
            (Err(error), Err(_)) if !is_broken_pipe(&error) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (written, Ok(_)) => written,
        }
    }

    /// Takes the branch away: the channel has no tree any more.
    pub(super) fn withdraw(&self) -> anyhow::Result<()> {
        run(&self.path, &["update-ref", "-d", BRANCH])?;
        Ok(())
    }

    /// Whether there are so many commits that the oldest ones are to go, or that they have to.
    pub(super) fn length(&self, commits: u64) -> anyhow::Result<Length> {
        let count: u64 = run(&self.path, &["rev-list", "--count", BRANCH])?.parse()?;
        Ok(match count {
            count if count > commits.saturating_mul(3) => Length::TooLong,
            count if count > commits.saturating_add(commits / 2) => Length::Long,
            _ => Length::Right,
        })
    }

    /// Lets the history begin with the newest commits. What is before them is still there, for requests that have begun.
    pub(super) fn shorten(&self, commits: u64) -> anyhow::Result<()> {
        let skip = format!("--skip={}", commits.saturating_sub(1));
        let oldest = run(&self.path, &["rev-list", "--first-parent", "--max-count=1", &skip, BRANCH])?;
        let oldest: CommitId = oldest.parse()?;
        durable::write(&self.path.join(SHALLOW), format!("{oldest}\n").as_bytes())
    }

    /// Packs what has come in many packs, and drops what no request can need any more; whether there was anything. A
    /// request finds what it reads in the pack that holds it now.
    pub(super) fn tidy(&self) -> anyhow::Result<bool> {
        let shallow = self.path.join(SHALLOW);
        if let Ok(metadata) = fs::metadata(&shallow) {
            let begin = fs::read(&shallow).with_context(|| format!("reading {}", shallow.display()))?;
            let is_dropped = fs::read(self.path.join(DROPPED)).is_ok_and(|dropped| dropped == begin);
            let is_settled = metadata.modified()?.elapsed().is_ok_and(|age| age > DROP_AFTER);
            if !is_dropped && is_settled {
                run(&self.path, &["repack", "-a", "-d", "-q"])?;
                durable::write(&self.path.join(DROPPED), &begin)?;
                return Ok(true);
            }
        }
        let is_scattered = self.packs()? > PACKS_MAX;
        if is_scattered {
            self.repack()?;
        }
        Ok(is_scattered)
    }

    /// Packs everything into one pack, with the differences that make it small and quick to send.
    pub(super) fn repack(&self) -> anyhow::Result<()> {
        run(&self.path, &["repack", "-a", "-d", "-k", "-q"])?;
        Ok(())
    }

    fn packs(&self) -> anyhow::Result<usize> {
        let directory = self.path.join("objects/pack");
        let entries = fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
        Ok(entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"))
            .count())
    }

    /// Reads everything again; an error says what is damaged.
    pub(super) fn check(&self) -> Result<(), GitError> {
        run(&self.path, &["fsck", "--full", "--no-dangling", "--no-progress"]).map(|_| ())
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref()
            .is_some_and(|error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn write_pack(
    out: impl Write,
    store: &Arc<Store>,
    domain: &Domain,
    objects: &Objects,
    commit: &[u8],
) -> anyhow::Result<()> {
    let count =
        u32::try_from(objects.blobs.len() + objects.trees.len() + 1).context("there are too many files")?;
    let mut pack = PackWriter::new(std::io::BufWriter::with_capacity(1 << 16, out), count)?;
    pack.object(Kind::Commit, commit.len() as u64, |out| Ok(out.write_all(commit)?))?;
    for tree in &objects.trees {
        pack.object(Kind::Tree, tree.len() as u64, |out| Ok(out.write_all(tree)?))?;
    }
    for content in &objects.blobs {
        pack.object(Kind::Blob, content.size, |out| write_content(store, domain, *content, out))?;
    }
    pack.finish()?;
    Ok(())
}

/// A commit: the same bytes for the same publication of the same tree after the same commit.
fn commit_object(version: &Version, tree: TreeId, parent: Option<CommitId>) -> Vec<u8> {
    let publication = &version.publication;
    let parent = parent.map_or_else(String::new, |parent| format!("parent {parent}\n"));
    let (origin, time) = (&publication.origin, publication.time.seconds());
    let who = format!("{origin} <smart-sync@{origin}> {time} +0000");
    let (channel, number) = (&publication.channel, publication.seq);
    format!(
        "tree {tree}\n{parent}author {who}\ncommitter {who}\n\n\
         {channel} {number}\n\n\
         {LEAF}{number} {}\nManifest: blake3:{}\n",
        version.leaf, version.manifest
    )
    .into_bytes()
}

fn commit_id(object: &[u8]) -> CommitId {
    let mut hash = Sha1::new();
    hash.update(format!("commit {}\0", object.len()));
    hash.update(object);
    CommitId::from_bytes(hash.finalize().into())
}
