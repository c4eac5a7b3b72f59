//! What a status means: the one place that judges answers.
//!
//! Pure: status, headers and the time now go in, a verdict comes out. The rules are those that GitHub documents for
//! its primary and secondary rate limits.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How long to wait where the server limits without saying how long: at least a minute, as GitHub asks for.
const UNSTATED_WAIT: Duration = Duration::from_secs(60);

/// The longest wait that is believed. What is above it is a mistake, not a limit.
const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The body is the answer.
    Success,
    /// What is cached is the answer.
    NotModified,
    /// The answer is elsewhere.
    Redirect,
    /// There is no such thing, or not for this token.
    Absent,
    /// Too many requests; the next one counts from then on.
    Limited(Timestamp),
    /// A fault that may pass, and perhaps how long it takes to.
    Transient(Option<Duration>),
    /// Not for this token, or not without one.
    Denied,
    /// Nothing that this API answers.
    Unexpected,
}

/// Judges an answer. `message` is the beginning of the body of an error.
pub(super) fn judge(status: u16, headers: &HeaderMap, message: &str, now: Timestamp) -> Verdict {
    match status {
        200 => Verdict::Success,
        304 => Verdict::NotModified,
        301 | 302 | 303 | 307 | 308 => Verdict::Redirect,
        // 409 is how an empty repository answers, 422 a commit that is not there.
        404 | 409 | 410 | 422 => Verdict::Absent,
        403 | 429 => limit(status, headers, message, now).map_or(Verdict::Denied, Verdict::Limited),
        401 => Verdict::Denied,
        408 | 500..=599 => Verdict::Transient(seconds(headers, RETRY_AFTER.as_str()).map(bounded)),
        _ => Verdict::Unexpected,
    }
}

/// When a limit ends, if the answer is one.
fn limit(status: u16, headers: &HeaderMap, message: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(wait) = seconds(headers, RETRY_AFTER.as_str()) {
        return Some(later(now, bounded(wait)));
    }
    if seconds(headers, "x-ratelimit-remaining") == Some(0) {
        let reset = seconds(headers, "x-ratelimit-reset").and_then(|at| i64::try_from(at).ok());
        let reset = reset.and_then(|at| Timestamp::from_second(at).ok());
        let reset = reset.unwrap_or_else(|| later(now, UNSTATED_WAIT));
        // The clocks of the two machines may differ by a little; one second more is cheaper than one more refusal.
        return Some(later(reset.clamp(now, later(now, WAIT_MAX)), Duration::from_secs(1)));
    }
    let is_limit = status == 429 || message.to_ascii_lowercase().contains("rate limit");
    is_limit.then(|| later(now, UNSTATED_WAIT))
}

fn seconds(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn bounded(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(WAIT_MAX)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_798_760_000;

    #[track_caller]
    fn check(status: u16, headers: &[(&'static str, &str)], message: &str, expected: Verdict) {
        let map =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let now = Timestamp::from_second(NOW).unwrap();
        assert_eq!(judge(status, &map, message, now), expected, "{status} {headers:?} {message}");
    }

    fn until(seconds: i64) -> Verdict {
        Verdict::Limited(Timestamp::from_second(NOW + seconds).unwrap())
    }

    #[test]
    fn a_limit_is_told_from_a_denial() {
        let used_up = ("x-ratelimit-remaining", "0");
        check(403, &[used_up, ("x-ratelimit-reset", "1798760002")], "", until(3));
        check(429, &[used_up, ("x-ratelimit-reset", "1798760002")], "", until(3));
        check(403, &[("retry-after", "30")], "", until(30));
        check(403, &[], "You have exceeded a secondary rate limit.", until(60));
        check(429, &[], "", until(60));
        check(403, &[("x-ratelimit-remaining", "12")], "Resource not accessible", Verdict::Denied);
        check(401, &[], "Bad credentials", Verdict::Denied);
    }

    #[test]
    fn headers_that_make_no_sense_do_not_make_the_client_wait_for_ever() {
        let used_up = ("x-ratelimit-remaining", "0");
        check(403, &[used_up, ("x-ratelimit-reset", "5")], "", until(1));
        check(403, &[used_up, ("x-ratelimit-reset", "soon")], "", until(61));
        check(403, &[used_up, ("x-ratelimit-reset", "18446744073709551615")], "", until(61));
        let longest = i64::try_from(WAIT_MAX.as_secs()).unwrap();
        check(403, &[used_up, ("x-ratelimit-reset", "99999999999")], "", until(longest + 1));
        check(429, &[("retry-after", "99999999999999")], "", until(longest));
    }

    #[test]
    fn other_statuses_are_what_they_say() {
        check(200, &[], "", Verdict::Success);
        check(304, &[], "", Verdict::NotModified);
        check(302, &[], "", Verdict::Redirect);
        check(404, &[], "", Verdict::Absent);
        check(503, &[("retry-after", "7")], "", Verdict::Transient(Some(Duration::from_secs(7))));
        check(500, &[], "", Verdict::Transient(None));
        check(204, &[], "", Verdict::Unexpected);
    }
}
