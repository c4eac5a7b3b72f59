//! Points in time as records hold them: whole seconds since 1970, UTC.
//!
//! Nothing here asks what time it is: whoever decides is given the time by the shell around it.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A point in time, from 1970 to the end of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The last second of the year 9999: every time up to here can be written as a date.
    pub const MAX: Self = Self(253_402_300_799);
    /// The first second of 1970.
    pub const EPOCH: Self = Self(0);

    /// Takes seconds since 1970 where they are not after [`Self::MAX`].
    pub const fn new(seconds: u64) -> Option<Self> {
        if seconds <= Self::MAX.0 { Some(Self(seconds)) } else { None }
    }

    /// The seconds since 1970.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// This many seconds later, at most [`Self::MAX`].
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds)).min(Self::MAX)
    }

    /// How many seconds this is after `earlier`; 0 where it is before.
    pub const fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads what a person types after the `@` of a ref: `2026-11-01`, which is the last second of that day, or an
    /// RFC 3339 time such as `2026-11-01T12:00:00Z`.
    pub fn parse_typed(text: &str) -> Option<Self> {
        let is_date = |text: &[u8]| {
            text.len() == 10
                && text.iter().enumerate().all(|(at, byte)| match at {
                    4 | 7 => *byte == b'-',
                    _ => byte.is_ascii_digit(),
                })
        };
        let (date, time) = text.as_bytes().split_at_checked(10)?;
        if !is_date(date) {
            return None;
        }
        let seconds = if time.is_empty() {
            let day: Date = text.parse().ok()?;
            day.at(23, 59, 59, 0).to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()
        } else if matches!(time[0], b'T' | b't') {
            text.parse::<jiff::Timestamp>().ok()?.as_second()
        } else {
            return None;
        };
        u64::try_from(seconds).ok().and_then(Self::new)
    }
}

/// As RFC 3339 writes it, in UTC.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        match jiff::Timestamp::from_second(seconds) {
            Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%dT%H:%M:%SZ")),
            // The last hours of 9999 are beyond what the calendar library can move between time zones.
            Err(_) => write!(f, "{seconds} seconds since 1970"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(UnixTime::parse_typed(text).map(|time| time.to_string()).as_deref(), expected, "{text}");
    }

    #[test]
    fn a_bare_date_is_the_end_of_that_day_and_times_need_an_offset() {
        check("2026-11-01", Some("2026-11-01T23:59:59Z"));
        check("2026-11-01T12:00:00Z", Some("2026-11-01T12:00:00Z"));
        check("2026-11-01T12:00:00.75+02:00", Some("2026-11-01T10:00:00Z"));
        check("2026-11-01T12:00:00", None);
        check("2026-11-01 12:00:00Z", None);
        check("2026-11-1", None);
        check("2026-13-01", None);
        check("2026-02-29", None);
        check("1969-12-30", None);
        check("20261101", None);
        check("v2.1", None);
        check("2026-11-01é", None);
        check("", None);
    }

    #[test]
    fn every_time_can_be_shown() {
        assert!(UnixTime::MAX.to_string().starts_with(['9', '2']));
        assert_eq!(UnixTime::new(UnixTime::MAX.seconds() + 1), None);
        assert_eq!(UnixTime::MAX.plus(u64::MAX), UnixTime::MAX);
    }
}
