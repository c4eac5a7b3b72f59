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
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return Err(Fault::Wrong("its file is shorter than it has to be".to_owned()));
        }
        status => return Err(refused(status, headers, now)),
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
    refuse_page(name, headers)?;
    if status == StatusCode::OK {
        return Ok(from);
    }
    let range = text(headers, header::CONTENT_RANGE).unwrap_or_default();
    let is_rest = range
        .strip_prefix(&format!("bytes {from}-{}/", size - 1))
        .is_some_and(|total| total == "*" || total.parse() == Ok(size));
    if is_rest { Ok(0) } else { Err(Fault::Wrong("it answered with another range".to_owned())) }
}

/// What the answer to a question for something is whose size is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// It comes; so many bytes at its beginning are here already.
    Coming(u64),
    /// It is the version that is here already.
    Same,
}

/// What is asked for, where its size is not known.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenQuestion<'a> {
    /// The name of the file; none where a page is what is asked for.
    pub(super) name: Option<&'a str>,
    /// The most bytes that it may have.
    pub(super) bytes_max: u64,
    /// Where what is here already ends.
    pub(super) from: u64,
    /// Whether it was asked for unless it is the version that is here.
    pub(super) is_conditional: bool,
}

/// Judges the answer to such a question.
pub(super) fn judge_open(
    question: OpenQuestion<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    now: u64,
) -> Result<Open, Fault> {
    let OpenQuestion { name, bytes_max, from, is_conditional } = question;
    let skip = match status {
        StatusCode::NOT_MODIFIED if is_conditional => return Ok(Open::Same),
        StatusCode::OK => from,
        StatusCode::PARTIAL_CONTENT if from > 0 => {
            let range = text(headers, header::CONTENT_RANGE).unwrap_or_default();
            let total = range.strip_prefix(&format!("bytes {from}-")).and_then(is_rest);
            let total = total.ok_or_else(|| Fault::Wrong("it answered with another range".to_owned()))?;
            refuse_longer(total, bytes_max)?;
            0
        }
        // All of it may be here.
        StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
            return Err(Fault::Wrong("its file is shorter than what is here".to_owned()));
        }
        status => return Err(refused(status, headers, now)),
    };
    if text(headers, header::CONTENT_ENCODING).is_some_and(|it| !it.eq_ignore_ascii_case("identity")) {
        return Err(Fault::Wrong("it compressed the file on the way".to_owned()));
    }
    if let Some(length) = text(headers, header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok()) {
        refuse_longer(length.saturating_add(from - skip), bytes_max)?;
    }
    match name {
        Some(name) => refuse_page(name, headers)?,
        None if is_page(headers) => {}
        None => return Err(Fault::Wrong("it has no page that says what is there".to_owned())),
    }
    Ok(Open::Coming(skip))
}

/// The size of the whole, where a range such as `99/100` ends with it.
fn is_rest(range: &str) -> Option<u64> {
    let (last, total) = range.split_once('/')?;
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    (total == "*" || total.parse() == Ok(end)).then_some(end)
}

fn refuse_longer(bytes: u64, bytes_max: u64) -> Result<(), Fault> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(Fault::Wrong(format!("it announced {bytes} bytes where at most {bytes_max} may come")))
}

/// A status that gives nothing.
fn refused(status: StatusCode, headers: &HeaderMap, now: u64) -> Fault {
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
        return Fault::Absent;
    }
    let retry_after = text(headers, header::RETRY_AFTER).and_then(|text| retry_after(text, now));
    Fault::Down { reason: format!("it answered {status}"), retry_after }
}

fn is_page(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"))
}

/// Refuses a page in the place of a file that is none.
fn refuse_page(name: &str, headers: &HeaderMap) -> Result<(), Fault> {
    let extension = Path::new(name).extension().unwrap_or_default();
    let may_be_page = extension.eq_ignore_ascii_case("html") || extension.eq_ignore_ascii_case("htm");
    if is_page(headers) && !may_be_page {
        return Err(Fault::Wrong("it answered with a page".to_owned()));
    }
    Ok(())
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
    fn an_answer_of_any_size_is_judged_by_what_it_may_have_at_most() {
        use header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
        let judged =
            |name: Option<&str>, from, is_conditional, status, fields: &[(HeaderName, &'static str)]| {
                let fields =
                    fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
                let question = OpenQuestion { name, bytes_max: 1000, from, is_conditional };
                judge_open(question, StatusCode::from_u16(status).unwrap(), &fields.collect(), 0)
            };
        let file = Some("a.tar.xz");
        let page = (CONTENT_TYPE, "text/html; charset=utf-8");
        assert_eq!(judged(file, 0, false, 200, &[(CONTENT_LENGTH, "1000")]), Ok(Open::Coming(0)));
        assert_eq!(judged(file, 10, false, 200, &[]), Ok(Open::Coming(10)), "it knows no ranges");
        assert_eq!(judged(file, 0, true, 304, &[]), Ok(Open::Same));
        assert_eq!(judged(None, 0, false, 200, std::slice::from_ref(&page)), Ok(Open::Coming(0)));
        let rest = |range| judged(file, 10, false, 206, &[(CONTENT_RANGE, range)]);
        assert_eq!(
            (rest("bytes 10-99/100"), rest("bytes 10-99/*")),
            (Ok(Open::Coming(0)), Ok(Open::Coming(0)))
        );
        for range in
            ["bytes 9-99/100", "bytes 10-98/100", "bytes 10-1000/1001", "bytes 10-18446744073709551615/*", ""]
        {
            assert!(matches!(rest(range), Err(Fault::Wrong(_))), "{range}");
        }
        for (name, from, status, fields) in [
            (file, 0, 200, vec![(CONTENT_LENGTH, "1001")]),
            (file, 10, 206, vec![(CONTENT_LENGTH, "991"), (CONTENT_RANGE, "bytes 10-999/1000")]),
            (file, 0, 200, vec![(CONTENT_ENCODING, "gzip")]),
            (file, 0, 200, vec![page]),
            (file, 10, 416, vec![]),
            (None, 0, 200, vec![(CONTENT_TYPE, "text/plain")]),
        ] {
            let judged = judged(name, from, false, status, &fields);
            assert!(matches!(judged, Err(Fault::Wrong(_))), "{status} {fields:?}: {judged:?}");
        }
        assert!(
            matches!(judged(file, 0, false, 304, &[]), Err(Fault::Down { .. })),
            "nobody has asked for that"
        );
        assert_eq!(judged(file, 0, true, 404, &[]), Err(Fault::Absent));
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
