//! What can go wrong with a repository behind an API, what may help, and what it means for the run.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use smart_sync_store::id::{BlobId, TreeId};
use smart_sync_store::manifest::path::{PathError, Shown};

use crate::failure::{Exit, Failure};

/// Why a repository could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing has this name.
    #[error("{repository} has no branch, tag or commit `{reference}`, or shows none of it to us")]
    NoSuchRef {
        /// The ref.
        reference: String,
        /// The repository.
        repository: String,
    },
    /// The ref names something else than a commit.
    #[error("`{reference}` names a {found}, not a commit")]
    NotACommit {
        /// The ref.
        reference: String,
        /// What it names.
        found: String,
    },
    /// Something that should be there is not.
    #[error("{0} is not there")]
    Absent(String),
    /// The server does not allow it.
    #[error("{url} answered {status}: {message}")]
    Denied {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What the server says, made safe to show.
        message: String,
    },
    /// Too many requests.
    #[error("the rate limit of {host} is used up until {}", local(*until))]
    RateLimited {
        /// The server.
        host: String,
        /// When it counts anew.
        until: Timestamp,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The connection failed.
    #[error("reading {url}")]
    Connection {
        /// What was asked for.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The connection stayed open and brought next to nothing.
    #[error("{url} brought next to nothing for {} seconds", after.as_secs())]
    Stalled {
        /// What was asked for.
        url: String,
        /// For how long.
        after: Duration,
    },
    /// The server has a fault that may pass.
    #[error("{url} answered {status}")]
    Server {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// When to try again, if the server says.
        again_after: Option<Duration>,
    },
    /// More bytes than there can be.
    #[error("{url} sent more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// How many were expected at most.
        limit: u64,
    },
    /// The answer is not one of this API.
    #[error("{url} did not answer as this API does: {found}")]
    NotTheApi {
        /// What was asked for.
        url: String,
        /// What came, made safe to show.
        found: String,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {to}, which is not followed: {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where to, made safe to show.
        to: String,
        /// Why not.
        reason: &'static str,
    },
    /// A listing that cannot be completed.
    #[error("the listing of `{0}` is incomplete, and there is no smaller part to ask for")]
    Incomplete(String),
    /// The listing is not the tree it claims to be.
    #[error("the listing of tree {expected} does not hash to it at `{directory}`")]
    WrongTree {
        /// The tree that was asked for.
        expected: TreeId,
        /// The directory whose hash is wrong.
        directory: String,
    },
    /// A name that no tree may hold.
    #[error("the tree holds `{path}`")]
    UnsafePath {
        /// The path, made safe to show.
        path: String,
        /// Why it is refused.
        source: PathError,
    },
    /// The bytes are not the file they claim to be.
    #[error("what {url} sent for `{path}` is not blob {id}")]
    WrongBlob {
        /// What was asked for.
        url: String,
        /// The file.
        path: String,
        /// What it should be.
        id: BlobId,
    },
    /// Git is needed and not installed.
    #[error("the API cannot be used, and the program `git`, which could be instead, is not installed")]
    GitMissing(#[source] Option<Box<SourceError>>),
    /// Git failed.
    #[error("git {command} failed: {message}")]
    Git {
        /// What it was to do.
        command: &'static str,
        /// What it said, made safe to show.
        message: String,
    },
    /// A file of our own cannot be used.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The HTTP client cannot be set up.
    #[error("setting up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// Whoever takes the files cannot take more.
    #[error("keeping what was downloaded")]
    Sink(#[source] std::io::Error),
}

/// What may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// To try again, after the server's own time if it says one.
    Again(Option<Duration>),
    /// To wait until then.
    Wait(Timestamp),
    /// Nothing.
    None,
}

impl SourceError {
    /// What may help.
    pub(super) const fn remedy(&self) -> Remedy {
        match self {
            Self::Connection { .. } | Self::Stalled { .. } | Self::WrongBlob { .. } => Remedy::Again(None),
            Self::Server { again_after, .. } => Remedy::Again(*again_after),
            Self::RateLimited { until, .. } => Remedy::Wait(*until),
            _ => Remedy::None,
        }
    }

    /// Whether git may get what the API does not give. It cannot help where the network is down, and must not where
    /// what was sent is not what was asked for.
    pub(super) const fn git_may_help(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::Incomplete(_)
                | Self::WrongTree { .. }
                | Self::NotTheApi { .. }
                | Self::TooLarge { .. }
                | Self::Absent(_)
        )
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NoSuchRef { .. } | Self::NotACommit { .. } | Self::Absent(_) | Self::Sink(_) => {
                Exit::General
            }
            Self::Denied { .. } => Exit::Permission,
            Self::WrongTree { .. } | Self::WrongBlob { .. } | Self::UnsafePath { .. } => Exit::Refused,
            Self::GitMissing(_) => Exit::MissingDependency,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Exit::Permission
            }
            Self::Io { .. } | Self::Setup(_) => Exit::General,
            _ => Exit::Network,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoSuchRef { .. } => {
                "check the spelling; a private repository needs a token in GITHUB_TOKEN or ~/.config/github/token"
            }
            Self::Denied { status: 401, .. } => "the token is not valid; have a new one made",
            Self::Denied { .. } => "the token does not cover this repository",
            Self::RateLimited { has_token: false, .. } => {
                "with a token in GITHUB_TOKEN or ~/.config/github/token far more requests are allowed"
            }
            Self::RateLimited { .. } => "run it again after that time",
            Self::NotTheApi { .. } => {
                "is the address that of the API? a login page or a captive portal may be in between"
            }
            Self::WrongBlob { .. } | Self::WrongTree { .. } => {
                "nothing of it was used; if it stays so, something between here and the server changes what it sends"
            }
            Self::GitMissing(_) => "install git, for instance: apt-get install git",
            Self::Connection { .. } | Self::Stalled { .. } => "is the network up, and the address right?",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let (exit, hint) = (error.exit(), error.hint());
        hint.into_iter().fold(Self::new(exit, error), Self::hint)
    }
}

/// The beginning of a text from outside, in one line, as a person may safely see it.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let line = bytes.trim_ascii().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut text: String = Shown(&line[..line.len().min(600)]).to_string().chars().take(200).collect();
    if text.is_empty() {
        text.push_str("nothing");
    }
    text
}

/// A time as the clock on the wall shows it.
fn local(time: Timestamp) -> impl std::fmt::Display {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_shown_in_one_harmless_line() {
        assert_eq!(excerpt(b"  <html>\x1b[2J\n<body>"), r"<html>\u{1b}[2J");
        assert_eq!(excerpt(b""), "nothing");
        assert_eq!(excerpt(&[b'a'; 10_000]).len(), 200);
    }
}
