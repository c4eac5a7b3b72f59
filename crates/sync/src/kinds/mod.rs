//! Kinds of artifacts: what is looked at, made and kept when a tree of a kind is published.
//!
//! A kind is a module of this one. Nothing else knows it by its name: whoever publishes asks [`find`] whether the
//! channel's kind has something to say, and publishes the tree that it puts together.

mod beside;
pub mod binpkgs;
mod bounded;
pub mod built_on;
mod detached;
pub mod distfiles;
pub mod findings;
pub mod follow;
pub mod kernels;
mod lists;
mod manifests;
mod meta;
mod packages;
pub mod parts;
mod patchfiles;
mod profiles;
pub mod provenance;
mod published;
pub mod pull;
mod repo;
pub mod retired;
pub mod stages;
#[cfg(test)]
mod testing;
pub mod treesnapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use smart_sync_store::manifest::{Content, FileTime, TreePath};

use crate::name::{Kind, RefName};
use crate::openpgp::{KeyRing, SigningKey};
use crate::source::SourceError;
use crate::source::assembled::{AssembledSource, Part};
use crate::source::listed::Listing;
use crate::time::UnixTime;
use built_on::BuiltOn;
use findings::Findings;
use follow::Following;
use pull::PullThrough;

/// The kinds that have something to say.
const ALL: &[&dyn ArtifactKind] = &[
    &binpkgs::Binpkgs,
    &distfiles::Distfiles,
    &kernels::Kernels,
    &meta::Meta,
    &packages::Packages,
    &patchfiles::PatchFiles,
    &profiles::Profiles,
    &repo::Repo,
    &stages::Stages,
    &treesnapshots::TreeSnapshots,
];

/// A kind that has something to say about its trees: it puts them together when they are published, or it judges them
/// as they are.
pub trait ArtifactKind: Sync {
    /// What channels call it.
    fn name(&self) -> &'static str;

    /// Looks at everything that is to be published, refuses what must not be, and says what the tree is. Not asked where
    /// trees are published [as they are](Self::as_it_is).
    fn prepare(&self, _job: Job<'_>) -> Result<Prepared, KindError> {
        Err(KindError::NotPutTogether(self.name()))
    }

    /// What judges its trees, where these are published as they are: whole, with all that the source knows of them, and
    /// in the place of what was published before.
    fn as_it_is(&self) -> Option<&dyn AsItIs> {
        None
    }

    /// Whether it compares what is published with what somebody else has written down.
    fn verifies(&self) -> bool {
        false
    }

    /// Whether it judges what others have signed before it is published.
    fn judges_signatures(&self) -> bool {
        false
    }

    /// Whether it knows an older form of its files, and makes other ones in their place that are signed.
    fn makes_files(&self) -> bool {
        false
    }

    /// Whether only so many of the newest versions of each thing stay published.
    fn keeps_newest(&self) -> bool {
        false
    }

    /// Whether its trees say on which machines their files were built.
    fn says_built_on(&self) -> bool {
        false
    }

    /// The names that the files of a tree have besides their own, for clients that know other ones.
    fn other_names(&self) -> Option<&dyn OtherNames> {
        None
    }

    /// How files come from a mirror of somebody else when they are first asked for, where they can.
    fn pull_through(&self) -> Option<&dyn PullThrough> {
        None
    }

    /// Whether what there was on a day is told by the times of its contents, and not by when they were published: what
    /// comes from somebody else was there before it came.
    fn is_dated_by_content(&self) -> bool {
        false
    }

    /// How its files come from an upstream that is followed.
    fn following(&self) -> Following {
        Following::No
    }

    /// The directories of a tree that are trees of their own as well. They are published before it, so that whoever sees
    /// one in it finds it by itself.
    fn alone(&self, _parts: &BTreeMap<TreePath, Part>) -> Vec<Alone> {
        Vec::new()
    }

    /// Branches that each hold a directory of the tree of the branch `main`. They are published after it.
    fn branches(&self) -> &'static [&'static str] {
        &[]
    }

    /// The directory that such a branch holds, of a tree with these paths; none where it stays as it is.
    fn branch_holds(&self, _branch: &str, _paths: &mut dyn Iterator<Item = &TreePath>) -> Option<TreePath> {
        None
    }
}

/// A kind whose trees are published as they are.
pub trait AsItIs: Sync {
    /// Looks at a tree that is to be published, and refuses it where it must not be.
    fn judge(&self, tree: Whole<'_>) -> Result<Judged, KindError>;
}

/// A tree that is judged as it is.
#[derive(Clone, Copy)]
pub struct Whole<'a> {
    /// All of it.
    pub listing: &'a Listing,
    /// What is published now.
    pub before: Option<&'a dyn Before>,
    /// Which signatures it has to have.
    pub signatures: SignaturePolicy<'a>,
    /// The time.
    pub now: UnixTime,
}

/// A tree that may be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// The time of its content, if it says one that has come.
    pub content_time: Option<UnixTime>,
    /// What the publisher should hear of, a line each.
    pub notes: Vec<String>,
    /// Who has signed which of its files, by the fingerprint of the key, where that was judged.
    pub signers: BTreeMap<TreePath, String>,
}

/// A directory of a tree that is published as a tree of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// As what.
    pub reference: RefName,
    /// The directory.
    pub directory: TreePath,
    /// What to do where it was published as another tree, and stays that.
    pub when_other: &'static str,
}

/// How the files of a tree get other names.
pub trait OtherNames: Sync {
    /// What is meant by a path at which nothing stands, whatever the tree holds.
    fn locate(&self, path: &[u8]) -> Option<Located>;

    /// Whether a path is a name that has to be learnt.
    fn is_learnt(&self, path: &[u8]) -> bool;

    /// The file of the tree that such names are learnt from, and the most bytes of it that are read.
    fn learnt_from(&self) -> (&'static str, u64);

    /// Learns them.
    fn read(&self, bytes: &[u8]) -> Option<Box<dyn Names>>;
}

/// Names of the files of one tree that were learnt.
pub trait Names: Send + Sync {
    /// The file that such a name means.
    fn find(&self, path: &[u8]) -> Option<TreePath>;
}

/// What another name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// The file at this path.
    File(TreePath),
    /// These bytes.
    Made(&'static [u8]),
    /// The file of a directory whose name begins so, if it is one.
    Only {
        /// The directory.
        directory: TreePath,
        /// The beginning.
        start: &'static str,
    },
    /// A compressed archive of what lies in a directory.
    Archive {
        /// What the names in the archive begin below.
        directory: TreePath,
        /// The directory below it whose files are in the archive.
        below: &'static str,
    },
}

/// Says the names of files that something else which is kept refers to.
pub type Needed<'a> = &'a dyn Fn() -> Result<BTreeSet<String>, KindError>;

/// What a kind is given.
pub struct Job<'a> {
    /// The directory that somebody wants to publish.
    pub directory: &'a AssembledSource,
    /// What is published now.
    pub before: Option<&'a dyn Before>,
    /// What becomes of what is published now and not in the directory.
    pub absent: Absent,
    /// What was found in these files before. What is found now is added.
    pub findings: &'a mut Findings,
    /// Where it is written what the files have to be, by somebody else than who publishes them.
    pub verify_against: Option<&'a Path>,
    /// Which signatures it has to have.
    pub signatures: SignaturePolicy<'a>,
    /// What is made of the files of the directory.
    pub making: Option<Making<'a>>,
    /// Says which files something else that is kept refers to. It is asked where a file would go; where nobody can be
    /// asked, none does.
    pub needed: Option<Needed<'a>>,
    /// The machine that the files were built on, where that is to be said of those that are new.
    pub built_on: Option<&'a BuiltOn>,
    /// How many of the newest versions of each thing stay; as many as the kind keeps where that is not said.
    pub newest: Option<usize>,
    /// The time.
    pub now: UnixTime,
}

/// How files are made that are published in the place of those of the directory.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    /// The key that signs what is not signed.
    pub key: Option<&'a SigningKey>,
    /// Whether files of an older form become such of the newer one; where there is a key they do in any case.
    pub converts: bool,
    /// A directory that holds nothing else, where what was made is kept for the next time. Parts of the tree that are
    /// [beside](Part::Beside) are in it.
    pub directory: &'a Path,
}

/// What is asked of the signatures of others.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignaturePolicy<'a> {
    /// The keys that may have signed; where there are none given, signatures are not judged.
    pub key_ring: Option<&'a KeyRing>,
    /// What to do with what is not signed, where there are keys.
    pub unsigned: Unsigned,
    /// What to do with files of an older form, which can neither be signed nor checked against digests.
    pub legacy: Legacy,
}

/// What becomes of what is not signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unsigned {
    /// It is refused.
    #[default]
    Refused,
    /// It is published as it is.
    Accepted,
}

/// What becomes of files of an older form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Legacy {
    /// They are refused.
    #[default]
    Refused,
    /// They are published as they are.
    Accepted,
}

/// What becomes of what is published and is not in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It stays: several publish to one channel, each of them a part.
    Stays,
    /// It goes: the directory is all there is to be.
    Goes,
}

/// The tree that is published now.
pub trait Before {
    /// Its files, by their paths.
    fn files(&self) -> Result<BTreeMap<TreePath, Content>, KindError>;

    /// One of them.
    fn file(&self, path: &TreePath) -> Result<Option<Content>, KindError> {
        Ok(self.files()?.get(path).copied())
    }

    /// The bytes of some of them, each at most as long as is said.
    fn read(&self, contents: &[Content], bytes_max: u64) -> Result<Vec<Vec<u8>>, KindError>;
}

/// A tree that can be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What it is put together of.
    pub parts: BTreeMap<TreePath, Part>,
    /// The time of its content, before which it is not published.
    pub content_time: UnixTime,
    /// What the publisher should hear of, a line each.
    pub notes: Vec<String>,
    /// Who has signed which of its files, by the fingerprint of the key, where that was judged.
    pub signers: BTreeMap<TreePath, String>,
}

/// Why a tree is not published.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// The directory could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Files that must not be published.
    #[error("{}", refusal_lines(.0).join("; "))]
    Refused(Vec<Refusal>),
    /// What is published now is not what a tree of this kind is.
    #[error("what is published now cannot be gone on from: {0}")]
    Before(String),
    /// What is published now could not be read.
    #[error("reading what is published now: {0}")]
    Unread(String),
    /// What the files were to be compared with could not be read.
    #[error("{0}")]
    Reference(String),
    /// Trees of this kind are published as they are.
    #[error("trees of the kind {0} are published as they are, and not put together")]
    NotPutTogether(&'static str),
    /// What is made for a tree could not be written.
    #[error("writing {}", path.display())]
    Unwritten {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
}

/// How many refusals are shown one by one.
const REFUSALS_SHOWN: usize = 20;

/// A file that must not be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where it is in the directory.
    pub path: TreePath,
    /// Why, with all causes.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl Refusal {
    /// A refusal that no error has caused.
    pub fn new(path: &TreePath, reason: &str) -> Self {
        Self { path: path.clone(), reason: reason.to_owned(), hint: None }
    }

    /// A refusal for an error and its causes. A cause that the message before it ends with is not said twice.
    pub fn of(path: &TreePath, error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !reason.ends_with(&text) {
                reason = format!("{reason}: {text}");
            }
            cause = error.source();
        }
        Self::new(path, &reason)
    }
}

/// What is said of files that must not be published: a line for each of the first ones, and how many more there are.
pub fn refusal_lines(refused: &[Refusal]) -> Vec<String> {
    let line = |refusal: &Refusal| format!("{}: {}", refusal.path, refusal.reason);
    let mut lines: Vec<String> = refused.iter().take(REFUSALS_SHOWN).map(line).collect();
    if let Some(more) = refused.len().checked_sub(REFUSALS_SHOWN).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// What is said of things that a kind does not know and publishes all the same.
fn said_of_others(others: &[String], shown_max: usize) -> Option<String> {
    let is = if others.len() == 1 { "it is" } else { "they are" };
    let names = names_said(others, shown_max)?;
    Some(format!("not known here, and published as {is}: {names}"))
}

/// Names one after the other, the first ones where there are many; none where there are none.
fn names_said(names: &[String], shown_max: usize) -> Option<String> {
    let (first, rest) = names.split_at(names.len().min(shown_max));
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    (!first.is_empty()).then(|| format!("{}{more}", first.join(", ")))
}

/// A time as file systems keep it.
fn file_time(time: UnixTime) -> FileTime {
    FileTime { seconds: i64::try_from(time.seconds()).unwrap_or(i64::MAX), nanoseconds: 0 }
}

/// Whether trees of this kind are dated by their contents.
pub fn is_dated_by_content(kind: &Kind) -> bool {
    find(kind).is_some_and(ArtifactKind::is_dated_by_content)
}

/// The kind of this name, where it has something to say.
pub fn find(kind: &Kind) -> Option<&'static dyn ArtifactKind> {
    ALL.iter().copied().find(|known| known.name() == kind.as_str())
}
