//! Files of a tree that are looked for upstream without anybody asking for them.
//!
//! A kind says what has to be read upstream to find out what there is, and which files those are. It fetches nothing
//! itself: whoever follows an upstream asks a [`Look`] what it has to know, answers that, and is told in the end what to
//! bring. What was brought is published only after [`prepare`](super::ArtifactKind::prepare) has looked at it, as
//! anything is that somebody publishes; what is judged here already only keeps useless files from being fetched.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::manifest::TreePath;

use super::pull::Expected;
use crate::openpgp::KeyRing;
use crate::time::UnixTime;

/// How the files of a kind come from upstream.
#[derive(Clone, Copy)]
pub enum Following {
    /// They do not.
    No,
    /// The directory upstream is the tree, all of it.
    Whole,
    /// The directory upstream has versions, each of which is published once, as a tree of its own.
    Versions(&'static dyn Versions),
    /// The kind knows what there is by files that say so.
    Known(&'static dyn Follow),
}

/// What a kind knows of an upstream that is followed.
pub trait Follow: Sync {
    /// Begins to look for what is wanted. An error says which of that makes no sense for the kind.
    fn look<'a>(&self, wanted: Wanted<'a>) -> Result<Box<dyn Look + 'a>, String>;
}

/// What a kind knows of an upstream whose files are versions. Which files there are is known already, and what each has
/// to be.
pub trait Versions: Sync {
    /// Says which of what is wanted makes no sense for the kind.
    fn check(&self, wanted: &Wanted<'_>) -> Result<(), String>;

    /// The files of the versions that are wanted: where each has to lie in a directory that is published, and where it
    /// is upstream.
    fn choose(
        &self,
        files: &mut dyn Iterator<Item = &TreePath>,
        wanted: &Wanted<'_>,
        arriving: Arriving,
    ) -> Result<BTreeMap<TreePath, TreePath>, String>;

    /// The version that a file of such a directory, or of a published tree, belongs to.
    fn version_of(&self, path: &TreePath) -> Option<String>;

    /// Why an upstream that had some versions and has others now has lost what it must not; nothing where it has not.
    fn went_back(&self, before: &BTreeSet<String>, now: &BTreeSet<String>) -> Option<String>;
}

/// What becomes of a version that comes from upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arriving {
    /// It is there, and hosts follow it when a person has said so.
    Offered,
    /// It is what hosts follow, where it is the newest.
    Newest,
}

/// What is wanted of an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The architectures, as upstream calls them; all where none is named.
    pub architectures: &'a [String],
    /// The variants of what there is for each of them; all where none is named.
    pub variants: &'a [String],
    /// How many of the newest versions of each; as many as the kind keeps where that is not said.
    pub newest: Option<usize>,
    /// The keys that may have signed, where signatures are judged.
    pub key_ring: Option<&'a KeyRing>,
    /// The time.
    pub now: UnixTime,
}

/// One look at an upstream.
pub trait Look: Send {
    /// What has to be read next; nothing where everything is known. Paths are below the URL of the upstream.
    fn questions(&mut self) -> Vec<Question>;

    /// Takes in what was read. An error ends the look: this upstream says nothing that can be used.
    fn answer(&mut self, question: &Question, answer: Answer<'_>) -> Result<(), String>;

    /// What is to be brought. Asked once, when there are no questions any more.
    fn offer(self: Box<Self>) -> Result<Offer, String>;
}

/// Something that has to be read upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Which names a directory has. The upstream itself is the empty path.
    Listing {
        /// Its path.
        directory: String,
    },
    /// A small file, whole.
    Document {
        /// Its path.
        path: String,
        /// The most bytes that it may have.
        bytes_max: u64,
    },
}

/// What was read.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// The names of a directory.
    Listing(&'a [Listed]),
    /// The bytes of a file.
    Document(&'a [u8]),
    /// There is no such directory or file.
    Absent,
}

/// A name in a directory upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name, without a slash.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its size, where upstream says it exactly.
    pub size: Option<u64>,
}

/// What there is upstream, of what is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// The files, by their paths in the tree.
    pub files: BTreeMap<TreePath, Offered>,
    /// How far upstream is with each thing that it has, by what that is called: a time, or a version as a number. What
    /// upstream says of one of these must not become smaller.
    pub marks: BTreeMap<String, u64>,
}

/// A file upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Where it is, below the URL.
    pub path: String,
    /// What it has to be.
    pub must_be: MustBe,
}

/// What is known of a file before it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MustBe {
    /// All of it: nothing else is kept.
    This(Expected),
    /// Its size.
    Sized(u64),
    /// That it has no more bytes than these.
    AtMost(u64),
    /// These bytes, which were read already.
    Read(Box<[u8]>),
}
