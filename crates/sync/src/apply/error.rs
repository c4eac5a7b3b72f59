//! What can go wrong while a tree is applied.
//!
//! An error names what was being done and to which path, and keeps its cause, so that the shell can tell a
//! refusal from a full disk and say what to do.

use std::io;

use smart_sync_store::id::ContentId;

use super::lock::Holder;
use super::plan::Problem;

/// Why applying stopped.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file system refused something.
    #[error("{operation} {path}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which path, written so that a terminal can show it.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
    /// Another run works on the target.
    #[error("the target is being worked on by {0}")]
    Locked(Holder),
    /// What is being applied cannot be applied here; nothing was changed.
    #[error("the tree cannot be applied here: {}", summary(.0))]
    Refused(Vec<Problem>),
    /// A manifest breaks a rule that every manifest keeps.
    #[error("the manifest is not one that can be applied: {0}")]
    Manifest(String),
    /// Bytes were offered as a content that they are not.
    #[error("the bytes received are not content {expected}: {found}")]
    WrongContent {
        /// What was asked for.
        expected: ContentId,
        /// How they differ.
        found: String,
    },
    /// A content has to be staged before the tree can be flipped.
    #[error("content {0} has not been staged")]
    MissingContent(ContentId),
    /// A file changed between the look at the target and the making of its next version.
    #[error("{0} was changed while the next version was made")]
    ChangedMeanwhile(String),
    /// A directory that shall hold versions holds something else.
    #[error("{path} cannot keep versions: {reason}")]
    NotForVersions {
        /// The directory.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file system that is mounted below what readers see, who are to be switched to another version.
    #[error("another file system is mounted at {0}, and would not be in the version that is switched to")]
    MountedBelow(String),
    /// A program that this target needs is not installed.
    #[error("the program `{0}` is not installed, or not in PATH")]
    MissingProgram(&'static str),
    /// A snapshot that shall go is held by somebody else.
    #[error("the snapshot {snapshot} is held by `{hold}` too, and stays")]
    HeldSnapshot {
        /// Its whole name.
        snapshot: String,
        /// What the other hold is called.
        hold: String,
    },
    /// Something that an overlay cannot keep stands where it would place something.
    #[error("{path}: {kind} stands there")]
    InTheWay {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A path that leads through something else than directories.
    #[error("{path}: {link} is {kind}, and is not followed")]
    BehindLink {
        /// The path.
        path: String,
        /// What is on the way.
        link: String,
        /// What that is.
        kind: &'static str,
    },
    /// A path at which somebody else placed something.
    #[error("{path}: {owner} placed something there")]
    PlacedByAnother {
        /// The path.
        path: String,
        /// Who did.
        owner: String,
    },
    /// A content that was kept is needed and cannot be had.
    #[error("{path}: the content {content} that was kept for it is gone or damaged")]
    LostContent {
        /// Where it is needed.
        path: String,
        /// Which.
        content: ContentId,
    },
    /// A version that is not kept.
    #[error("{0} is not kept here")]
    NoVersion(String),
    /// The journal of an earlier run cannot be read. It is kept: only it knows what was under way.
    #[error("the journal {path} is damaged: {reason}")]
    DamagedJournal {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The record of what this target holds cannot be read.
    #[error("the record {path} is damaged: {reason}")]
    DamagedRecord {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ApplyError {
    /// The kind of the file system's answer, where it was the file system that refused.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

fn summary(problems: &[Problem]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<_> = problems.iter().take(SHOWN).map(ToString::to_string).collect();
    if problems.len() > SHOWN {
        text.push(format!("and {} more", problems.len() - SHOWN));
    }
    text.join("; ")
}
