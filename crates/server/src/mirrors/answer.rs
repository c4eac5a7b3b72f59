//! What the head of an upstream's answer promises. Pure: status and headers in, a verdict out.
//!
//! The size of what is asked for is known beforehand, so an answer that is something else, such as a page that says that
//! the file has moved, is most often told by its head, before a byte of it goes on to anybody.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap, HeaderName};

/// The longest that an upstream may ask to be left alone.
const RETRY_AFTER_MAX: u64 = 24 * 3600;

/// Why an upstream did not give a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not have it.
    Absent,
    /// It cannot be relied on now.
    Down {
        /// What happened.
        reason: String,
        /// How many seconds it asks to be left alone for.
        retry_after: Option<u64>,
    },
    /// What it gives is not what is asked for.
    Wrong(String),
}

impl Fault {
    /// A failure of which the upstream says nothing.
    pub(super) fn down(reason: impl Into<String>) -> Self {
        Self::Down { reason: reason.into(), retry_after: None }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => formatter.write_str("it does not have the file"),
            Self::Down { reason, .. } | Self::Wrong(reason) => formatter.write_str(reason),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// The name of the file.
    pub(super) name: &'a str,
    /// Its size.
    pub(super) size: u64,
    /// Where what is here already ends; a range from there on was asked for unless this is 0.
    pub(super) from: u64,
}

/// How many bytes at the beginning of the body are here already, if the body is what was asked for.
pub(super) fn judge(
    question: Question<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    now: u64,
) -> Result<u64, Fault> {
    let Question { name, size, from } = question;
    let body_size = match status {
        StatusCode::OK => size,
        StatusCode::PARTIAL_CONTENT if from > 0 => size - from,
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Fault::Absent),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return Err(Fault::Wrong("its file is shorter than it has to be".to_owned()));
        }
        _ => {
            let retry_after = text(headers, header::RETRY_AFTER).and_then(|text| retry_after(text, now));
            return Err(Fault::Down { reason: format!("it answered {status}"), retry_after });
        }
    };
    if let Some(encoding) = text(headers, header::CONTENT_ENCODING)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(Fault::Wrong("it compressed the file on the way".to_owned()));
    }
    if let Some(length) = text(headers, header::CONTENT_LENGTH)
        && length.parse() != Ok(body_size)
    {
        return Err(Fault::Wrong(format!("it announced {length} bytes where {body_size} have to come")));
    }
    let is_page = text(headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
    let extension = Path::new(name).extension().unwrap_or_default();
    let may_be_page = extension.eq_ignore_ascii_case("html") || extension.eq_ignore_ascii_case("htm");
    if is_page && !may_be_page {
        return Err(Fault::Wrong("it answered with a page".to_owned()));
    }
    if status == StatusCode::OK {
        return Ok(from);
    }
    let range = text(headers, header::CONTENT_RANGE).unwrap_or_default();
    let is_rest = range
        .strip_prefix(&format!("bytes {from}-{}/", size - 1))
        .is_some_and(|total| total == "*" || total.parse() == Ok(size));
    if is_rest { Ok(0) } else { Err(Fault::Wrong("it answered with another range".to_owned())) }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `Retry-After` (RFC 9110 section 10.2.3): a number of seconds, or a date.
fn retry_after(text: &str, now: u64) -> Option<u64> {
    let seconds = text.parse().ok().or_else(|| {
        let date: SystemTime = httpdate::parse_http_date(text).ok()?;
        let date = date.duration_since(UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs);
        Some(date.saturating_sub(now))
    });
    seconds.map(|seconds: u64| seconds.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn judged(from: u64, status: u16, fields: &[(HeaderName, &'static str)]) -> Result<u64, Fault> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let question = Question { name: "foo-1.tar.gz", size: 1000, from };
        judge(question, StatusCode::from_u16(status).unwrap(), &headers, 784_111_700)
    }

    #[test]
    fn an_answer_that_can_be_the_file_is_read() {
        use header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
        assert_eq!(judged(0, 200, &[]), Ok(0));
        assert_eq!(judged(0, 200, &[(CONTENT_LENGTH, "1000"), (CONTENT_ENCODING, "identity")]), Ok(0));
        assert_eq!(judged(10, 200, &[(CONTENT_LENGTH, "1000")]), Ok(10), "it knows no ranges");
        let rest = (CONTENT_RANGE, "bytes 10-999/1000");
        assert_eq!(judged(10, 206, &[(CONTENT_LENGTH, "990"), rest.clone()]), Ok(0));
        assert_eq!(judged(10, 206, &[(CONTENT_RANGE, "bytes 10-999/*")]), Ok(0));
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html"))]);
        let page = Question { name: "manual.html", size: 5, from: 0 };
        assert_eq!(judge(page, StatusCode::OK, &headers, 0), Ok(0));
    }

    #[test]
    fn an_answer_that_cannot_be_the_file_is_not() {
        use header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
        let is_wrong = |from, status, fields: &[_]| {
            let judged = judged(from, status, fields);
            assert!(matches!(judged, Err(Fault::Wrong(_))), "{from} {status} {fields:?}: {judged:?}");
        };
        is_wrong(0, 200, &[(CONTENT_LENGTH, "999")]);
        is_wrong(0, 200, &[(CONTENT_LENGTH, "18446744073709551616")]);
        is_wrong(0, 200, &[(CONTENT_ENCODING, "gzip")]);
        is_wrong(0, 200, &[(CONTENT_TYPE, "text/html; charset=utf-8")]);
        is_wrong(10, 206, &[]);
        is_wrong(10, 206, &[(CONTENT_RANGE, "bytes 9-999/1000")]);
        is_wrong(10, 206, &[(CONTENT_RANGE, "bytes 10-998/1000")]);
        is_wrong(10, 206, &[(CONTENT_RANGE, "bytes 10-999/1001")]);
        is_wrong(10, 206, &[(CONTENT_LENGTH, "1000"), (CONTENT_RANGE, "bytes 10-999/1000")]);
        is_wrong(10, 416, &[]);
        assert_eq!(judged(0, 404, &[]), Err(Fault::Absent));
        assert_eq!(judged(0, 410, &[]), Err(Fault::Absent));
    }

    #[test]
    fn an_upstream_that_is_down_is_left_alone_for_as_long_as_it_asks() {
        let retry_after = |status, fields: &[_]| match judged(0, status, fields) {
            Err(Fault::Down { retry_after, .. }) => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(retry_after(500, &[]), None);
        assert_eq!(retry_after(206, &[]), None);
        assert_eq!(retry_after(302, &[]), None);
        assert_eq!(retry_after(429, &[(header::RETRY_AFTER, "120")]), Some(120));
        assert_eq!(retry_after(503, &[(header::RETRY_AFTER, "99999999")]), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after(503, &[(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(77));
        assert_eq!(retry_after(503, &[(header::RETRY_AFTER, "soon")]), None);
    }
}
