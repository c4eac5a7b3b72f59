//! Why a server could not be asked, and what to do about it.

use reqwest::StatusCode;

use super::download::STALL_BYTES_MIN;
use crate::failure::{Exit, Failure};

/// What to do about an answer that no server of ours gives.
pub const OTHER_ANSWER_HINT: &str =
    "check the address: something else, such as a proxy, may answer in the server's place";

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There was no connection, or it broke.
    #[error("{url} could not be reached")]
    Network {
        /// What was asked for.
        url: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// The answer ends before its end.
    #[error("the answer of {url} broke off")]
    Broken {
        /// What was asked for.
        url: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// The connection brings next to nothing.
    #[error("{url} stopped sending: fewer than {STALL_BYTES_MIN} bytes came in {seconds} s")]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// What was sent is not taken, or not answered.
    #[error("{url} did not take or answer what was sent to it for {seconds} s")]
    Unanswered {
        /// Where it was sent.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The answer is longer than any right one.
    #[error("the answer of {url} is longer than the {limit} bytes that it could have")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The bound.
        limit: u64,
    },
    /// The answer ends early or is another range than was asked for.
    #[error("the answer of {url} is not what was asked for: {reason}")]
    Wrong {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of an export is not there.
    #[error("{url} is not there")]
    Absent {
        /// What was asked for.
        url: String,
    },
    /// A file of an export could not be read.
    #[error("{url} could not be read")]
    File {
        /// What was asked for.
        url: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// An export in a directory was asked for something that has to be computed, or was sent something.
    #[error("{url} is in a directory, which is only read from")]
    OnlyFiles {
        /// What was asked for.
        url: String,
    },
    /// The server says no.
    #[error("{url} answered {status}{}{text}", if text.is_empty() { "" } else { ": " })]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: StatusCode,
        /// The first line of what it says.
        text: String,
    },
}

impl RemoteError {
    /// The status that the server answered with, where it did.
    pub const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Absent { .. } => Some(StatusCode::NOT_FOUND),
            _ => None,
        }
    }

    /// Whether it means that there are only files, and nobody who would compute an answer.
    pub const fn is_of_static_files(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(
                *status,
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
            ),
            Self::OnlyFiles { .. } => true,
            _ => false,
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Broken { .. } | Self::Stalled { .. } | Self::Unanswered { .. } => {
                true
            }
            Self::Status { status, .. } => matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504),
            Self::TooLong { .. }
            | Self::Wrong { .. }
            | Self::Absent { .. }
            | Self::File { .. }
            | Self::OnlyFiles { .. } => false,
        }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        let (exit, hint) = match error.status() {
            Some(StatusCode::UNAUTHORIZED) => {
                (Exit::Permission, Some("a token goes into SMART_SYNC_TOKEN or ~/.config/smart-sync/token"))
            }
            Some(StatusCode::FORBIDDEN) => {
                (Exit::Permission, Some("ask whoever runs the server for a token that allows this"))
            }
            Some(StatusCode::CONFLICT) => (Exit::General, None),
            Some(StatusCode::UNPROCESSABLE_ENTITY) => (Exit::Refused, None),
            Some(StatusCode::INSUFFICIENT_STORAGE) => (
                Exit::Network,
                Some("whoever runs the server has to make room; what it has already is not sent again"),
            ),
            Some(_) => {
                (Exit::Network, Some("check the address; try again later, or another mirror with --server"))
            }
            None if matches!(error, RemoteError::OnlyFiles { .. }) => {
                (Exit::Arguments, Some("name a server with --server URL"))
            }
            None => {
                (Exit::Network, Some("check the address and the network; what was received so far is kept"))
            }
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
