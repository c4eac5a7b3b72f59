//! Answers that are not what was asked for: a status and one line of text.

use std::io;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use smart_sync_store::error::{Fault, StoreError};

use crate::realm::peers::BehindPeer;

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum Problem {
    /// 400: the request is malformed.
    Malformed(String),
    /// 401: a token is needed, or the one that came is not valid.
    Unauthorized(&'static str),
    /// 403: the token does not allow this.
    Forbidden(String),
    /// 301: a directory was asked for without the slash at its end.
    MovedToDirectory(String),
    /// 404: not here, or not for this caller.
    NotFound,
    /// 409: somebody else was first.
    Conflict(String),
    /// 413: longer than it may be.
    TooLarge,
    /// 422: understood, looked at, and refused.
    Refused(String),
    /// 429: too many requests.
    TooMany {
        /// When to try again.
        retry_after_seconds: u64,
    },
    /// 503: a mirror has more of the log than this server, which signs nothing until it is whole again.
    Behind(BehindPeer),
    /// 503: busy, or stopping.
    Busy(&'static str),
    /// 502, or 503 where it is known when to ask again: no upstream gave the file as it has to be.
    Upstream {
        /// When to try again.
        retry_after_seconds: Option<u64>,
    },
    /// 507 where the disk is full, else 500: a fault on this side. The log has the details; the answer does not.
    Fault(anyhow::Error),
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::Fault(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, text) = match &self {
            Self::Malformed(text) => (StatusCode::BAD_REQUEST, text.as_str()),
            Self::Unauthorized(text) => (StatusCode::UNAUTHORIZED, *text),
            Self::Forbidden(text) => (StatusCode::FORBIDDEN, text.as_str()),
            Self::MovedToDirectory(_) => {
                (StatusCode::MOVED_PERMANENTLY, "moved: a directory ends in a slash")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not found"),
            Self::Conflict(text) => (StatusCode::CONFLICT, text.as_str()),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too large"),
            Self::Refused(text) => (StatusCode::UNPROCESSABLE_ENTITY, text.as_str()),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too many requests"),
            Self::Busy(text) => (StatusCode::SERVICE_UNAVAILABLE, *text),
            Self::Upstream { retry_after_seconds: None } => (
                StatusCode::BAD_GATEWAY,
                "no upstream gave the file as it has to be; the server's log says how",
            ),
            Self::Upstream { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no upstream can be asked now"),
            Self::Behind(error) => {
                tracing::error!(%error, "not signed");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "this server was restored from an older backup and signs nothing",
                )
            }
            Self::Fault(error) if is_out_of_room(error) => {
                tracing::error!(error = format!("{error:#}"), "there is no room");
                (StatusCode::INSUFFICIENT_STORAGE, "the server has no room left on its disk")
            }
            Self::Fault(error) => {
                tracing::error!(error = format!("{error:#}"), "a request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says how")
            }
        };
        let mut response = (status, format!("{text}\n")).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Unauthorized(_) => {
                // Both schemes take the same token; wget and Portage only know Basic.
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                headers
                    .append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"smart-sync\""));
            }
            Self::MovedToDirectory(path) => {
                if let Ok(path) = HeaderValue::try_from(path) {
                    headers.insert(header::LOCATION, path);
                }
            }
            Self::TooMany { retry_after_seconds }
            | Self::Upstream { retry_after_seconds: Some(retry_after_seconds) } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
            }
            Self::Busy(_) | Self::Behind(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}

/// Whether a full disk is what an error goes back to.
fn is_out_of_room(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let is_full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        let is_full_database =
            |error: &rusqlite::Error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        cause.downcast_ref().is_some_and(is_full)
            || cause.downcast_ref().is_some_and(is_full_database)
            || cause.downcast_ref().is_some_and(|error: &StoreError| error.fault() == Fault::Full)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_faults() {
        let status = |error: anyhow::Error| Problem::from(error).into_response().status();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let store = StoreError::Io { operation: "writing", path: "pack".to_owned(), source: full() };
        let database =
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        for error in [anyhow::Error::from(full()).context("writing the log"), store.into(), database.into()] {
            assert_eq!(status(error), StatusCode::INSUFFICIENT_STORAGE);
        }
        let other = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(status(other.into()), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
