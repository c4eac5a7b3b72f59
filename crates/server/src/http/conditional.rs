//! Conditional and range requests, as RFC 9110 sections 13 and 14 have them.
//!
//! Pure: headers in, a decision out. The one choice made here is that several ranges in one request are answered
//! with the whole representation, which section 14.2 allows; no client of plain files needs more than one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use axum::http::header::{self, HeaderName};

/// What is known of a representation before it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Validators {
    /// A strong entity tag, with its quotes.
    pub(crate) etag: String,
    /// Last change, in seconds since 1970.
    pub(crate) modified: u64,
    /// Number of bytes.
    pub(crate) size: u64,
}

/// How a GET or HEAD is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200, everything.
    Whole,
    /// 206, bytes from `start` up to but not including `end`.
    Part {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    RangeNotSatisfiable,
}

/// Decides, in the order of RFC 9110 section 13.2.2.
pub(crate) fn evaluate(headers: &HeaderMap, validators: &Validators) -> Answer {
    if let Some(tags) = text(headers, header::IF_MATCH) {
        if !lists_tag(tags, &validators.etag, Comparison::Strong) {
            return Answer::PreconditionFailed;
        }
    } else if let Some(since) = date(headers, header::IF_UNMODIFIED_SINCE)
        && validators.modified > since
    {
        return Answer::PreconditionFailed;
    }
    if let Some(tags) = text(headers, header::IF_NONE_MATCH) {
        if lists_tag(tags, &validators.etag, Comparison::Weak) {
            return Answer::NotModified;
        }
    } else if let Some(since) = date(headers, header::IF_MODIFIED_SINCE)
        // The same time, not an earlier one: a branch that moved back has older files, which are news all the same.
        && validators.modified == since
    {
        return Answer::NotModified;
    }
    match text(headers, header::RANGE) {
        Some(range) if range_still_applies(headers, validators) => parse_range(range, validators.size),
        _ => Answer::Whole,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(text(headers, name)?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().as_ref().map(Duration::as_secs)
}

/// Whether a list of entity tags holds this one. A tag may itself hold commas, so the list is read tag by tag.
fn lists_tag(list: &str, etag: &str, comparison: Comparison) -> bool {
    let mut rest = list.trim();
    if rest == "*" {
        return true;
    }
    while !rest.is_empty() {
        let (is_weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let Some(end) = tag.strip_prefix('"').and_then(|tag| tag.find('"')) else {
            return false;
        };
        let (tag, after) = tag.split_at(end + 2);
        if tag == etag && !(is_weak && comparison == Comparison::Strong) {
            return true;
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    false
}

/// `If-Range` (section 13.1.5): a range of another version of the file must not be mixed with this one.
fn range_still_applies(headers: &HeaderMap, validators: &Validators) -> bool {
    match text(headers, header::IF_RANGE) {
        None => true,
        Some(tag) if tag.starts_with('"') => tag == validators.etag,
        Some(tag) if tag.starts_with("W/") => false,
        Some(_) => date(headers, header::IF_RANGE) == Some(validators.modified),
    }
}

fn parse_range(range: &str, size: u64) -> Answer {
    let Some(spec) = range.strip_prefix("bytes=") else {
        return Answer::Whole;
    };
    let spec = spec.trim();
    if spec.contains(',') {
        return Answer::Whole;
    }
    let Some((first, last)) = spec.split_once('-') else {
        return Answer::Whole;
    };
    let number = |digits: &str| -> Option<u64> {
        (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            // A number beyond 64 bits is beyond every file.
            .then(|| digits.parse().unwrap_or(u64::MAX))
    };
    match (first, number(first), last, number(last)) {
        ("", None, _, Some(suffix)) if suffix > 0 && size > 0 => {
            Answer::Part { start: size.saturating_sub(suffix), end: size }
        }
        (_, Some(start), "", None) if start < size => Answer::Part { start, end: size },
        ("", None, _, Some(_)) | (_, Some(_), "", None) => Answer::RangeNotSatisfiable,
        (_, Some(start), _, Some(last)) if start <= last => {
            if start < size {
                Answer::Part { start, end: last.saturating_add(1).min(size) }
            } else {
                Answer::RangeNotSatisfiable
            }
        }
        _ => Answer::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const MODIFIED: u64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    #[track_caller]
    fn check(fields: &[(HeaderName, &'static str)], expected: Answer) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let validators = Validators { etag: "\"a,b\"".into(), modified: MODIFIED, size: 1000 };
        assert_eq!(evaluate(&headers, &validators), expected, "{fields:?}");
    }

    #[test]
    fn ranges() {
        use header::RANGE;
        check(&[], Answer::Whole);
        check(&[(RANGE, "bytes=0-0")], Answer::Part { start: 0, end: 1 });
        check(&[(RANGE, "bytes=500-")], Answer::Part { start: 500, end: 1000 });
        check(&[(RANGE, "bytes=990-2000")], Answer::Part { start: 990, end: 1000 });
        check(&[(RANGE, "bytes=-10")], Answer::Part { start: 990, end: 1000 });
        check(&[(RANGE, "bytes=-5000")], Answer::Part { start: 0, end: 1000 });
        check(&[(RANGE, "bytes=1000-")], Answer::RangeNotSatisfiable);
        check(&[(RANGE, "bytes=99999999999999999999999-")], Answer::RangeNotSatisfiable);
        check(&[(RANGE, "bytes=-0")], Answer::RangeNotSatisfiable);
        for ignored in
            ["bytes=5-4", "bytes=a-b", "bytes=0-1,5-6", "lines=0-1", "bytes=", "bytes=-", "bytes=+1-2"]
        {
            check(&[(RANGE, ignored)], Answer::Whole);
        }
    }

    #[test]
    fn conditions() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
        const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        check(&[(IF_NONE_MATCH, "\"a,b\"")], Answer::NotModified);
        check(&[(IF_NONE_MATCH, "\"x\", W/\"a,b\"")], Answer::NotModified);
        check(&[(IF_NONE_MATCH, "*")], Answer::NotModified);
        check(&[(IF_NONE_MATCH, "\"a\"")], Answer::Whole);
        check(&[(IF_MODIFIED_SINCE, THEN)], Answer::NotModified);
        check(&[(IF_MODIFIED_SINCE, EARLIER)], Answer::Whole);
        check(&[(IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:38 GMT")], Answer::Whole);
        check(&[(IF_MODIFIED_SINCE, "yesterday")], Answer::Whole);
        check(&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, THEN)], Answer::Whole);
        check(&[(IF_MATCH, "\"x\"")], Answer::PreconditionFailed);
        check(&[(IF_MATCH, "W/\"a,b\"")], Answer::PreconditionFailed);
        check(&[(IF_UNMODIFIED_SINCE, EARLIER)], Answer::PreconditionFailed);
        let part = Answer::Part { start: 0, end: 10 };
        check(&[(RANGE, "bytes=0-9"), (IF_RANGE, "\"a,b\"")], part);
        check(&[(RANGE, "bytes=0-9"), (IF_RANGE, THEN)], part);
        check(&[(RANGE, "bytes=0-9"), (IF_RANGE, "W/\"a,b\"")], Answer::Whole);
        check(&[(RANGE, "bytes=0-9"), (IF_RANGE, EARLIER)], Answer::Whole);
    }
}
