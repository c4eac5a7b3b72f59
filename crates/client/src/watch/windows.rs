//! Maintenance windows: when a host may be changed.
//!
//! A window is `[DAYS ]HH:MM-HH:MM` in the host's time zone, such as `02:00-05:00`, `Sat,Sun 00:00-24:00` or
//! `Mon-Fri 22:00-04:00`; one that ends before it begins goes on into the next day. Without any, every time is right.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::{Date, Time, Weekday};
use jiff::{ToSpan as _, Zoned};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

const EXPECTED: &str = "a window is days and times, such as `02:00-05:00` or `Mon-Fri 22:00-04:00`";
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];
const DAY_MINUTES: i64 = 24 * 60;

/// Some hours of some days of each week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// By the number of the day, from Monday.
    days: [bool; 7],
    /// The minute of the day at which it begins.
    start: i64,
    /// How many minutes it lasts.
    length: i64,
}

impl FromStr for Window {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (days, hours) = match text.trim().rsplit_once(char::is_whitespace) {
            Some((days, hours)) => (parse_days(days.trim())?, hours),
            None => ([true; 7], text.trim()),
        };
        let (start, end) = hours.split_once('-').ok_or(EXPECTED)?;
        let (start, end) = (parse_minute(start)?, parse_minute(end)?);
        let length = (end - start).rem_euclid(DAY_MINUTES);
        if start == DAY_MINUTES || start == end {
            return Err(EXPECTED);
        }
        Ok(Self { days, start, length: if length == 0 { DAY_MINUTES } else { length } })
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn parse_days(text: &str) -> Result<[bool; 7], &'static str> {
    let number = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        DAYS.iter().position(|(day, _)| *day == name).ok_or(EXPECTED)
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (number(first)?, number(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % 7;
            days[day] = true;
        }
    }
    Ok(days)
}

fn parse_minute(text: &str) -> Result<i64, &'static str> {
    let (hours, minutes) = text.split_once(':').ok_or(EXPECTED)?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse::<i64>().map_err(|_| EXPECTED) } else { Err(EXPECTED) }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    if minutes < 60 && minute <= DAY_MINUTES { Ok(minute) } else { Err(EXPECTED) }
}

/// The next time at which one of the windows is open: now, if one is, or if there are none. Nothing where a time
/// zone has no such time.
pub fn next_open(windows: &[Window], now: &Zoned) -> Option<Zoned> {
    if windows.is_empty() {
        return Some(now.clone());
    }
    let mut soonest: Option<Zoned> = None;
    // The window of yesterday may still be open, and the only one may be that of today in a week.
    for days in -1..=7 {
        let date = now.date().checked_add(days.days()).ok()?;
        for window in windows.iter().filter(|window| window.is_on(date)) {
            let Some((start, end)) = window.at(date, now) else { continue };
            if end <= *now {
                continue;
            }
            let opens = start.max(now.clone());
            soonest = Some(soonest.map_or_else(|| opens.clone(), |soonest| soonest.min(opens.clone())));
        }
    }
    soonest
}

/// How long it is until then, where that is not now.
pub fn wait(now: &Zoned, then: Option<&Zoned>) -> Option<Duration> {
    let Some(then) = then else { return Some(Duration::MAX) };
    let wait = Duration::try_from(then.duration_since(now)).unwrap_or_default();
    (!wait.is_zero()).then_some(wait)
}

impl Window {
    fn is_on(&self, date: Date) -> bool {
        DAYS.iter().zip(self.days).any(|((_, day), is_on)| is_on && *day == date.weekday())
    }

    /// When the window of a day begins and ends. Where the clock is changed meanwhile, the times of day count.
    fn at(&self, date: Date, now: &Zoned) -> Option<(Zoned, Zoned)> {
        let begin = date.to_datetime(Time::midnight());
        let at = |minute: i64| {
            let time = begin.checked_add(minute.minutes()).ok()?;
            time.to_zoned(now.time_zone().clone()).ok()
        };
        Some((at(self.start)?, at(self.start + self.length)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(windows: &[&str], now: &str, expected: &str) {
        let windows: Vec<Window> = windows.iter().map(|text| text.parse().unwrap()).collect();
        let zoned = |text: &str| format!("{text}[Europe/Vienna]").parse::<Zoned>().unwrap();
        assert_eq!(next_open(&windows, &zoned(now)), Some(zoned(expected)));
    }

    #[test]
    fn a_window_is_open_from_its_beginning_until_its_end() {
        check(&[], "2026-11-28T12:00", "2026-11-28T12:00");
        check(&["02:00-05:00"], "2026-11-28T01:59:59", "2026-11-28T02:00");
        check(&["02:00-05:00"], "2026-11-28T02:00", "2026-11-28T02:00");
        check(&["02:00-05:00"], "2026-11-28T04:59:59", "2026-11-28T04:59:59");
        check(&["02:00-05:00"], "2026-11-28T05:00", "2026-11-29T02:00");
        check(&["00:00-24:00"], "2026-11-28T23:59", "2026-11-28T23:59");
    }

    #[test]
    fn days_are_those_on_which_it_begins() {
        // 2026-11-28 is a Saturday.
        check(&["Mon-Fri 22:00-04:00"], "2026-11-28T03:00", "2026-11-28T03:00");
        check(&["Mon-Fri 22:00-04:00"], "2026-11-28T04:00", "2026-11-30T22:00");
        check(&["sat,sun 10:00-11:00"], "2026-11-28T11:00", "2026-11-29T10:00");
        check(&["Sat 10:00-11:00"], "2026-11-28T11:00", "2026-12-05T10:00");
        check(&["Fri-Mon 10:00-11:00"], "2026-11-30T11:00", "2026-12-04T10:00");
        check(&["Wed 10:00-11:00", "Tue 09:00-10:00"], "2026-11-28T11:00", "2026-12-01T09:00");
    }

    #[test]
    fn a_change_of_the_clock_moves_no_time_of_day() {
        // In the night to 2026-03-29 there is no time between 02:00 and 03:00, and a window that begins then begins
        // when that hour would have passed.
        check(&["02:30-05:00"], "2026-03-29T01:00", "2026-03-29T03:30");
        check(&["22:00-04:00"], "2026-10-24T23:00", "2026-10-24T23:00");
        check(&["22:00-04:00"], "2026-10-25T04:00", "2026-10-25T22:00");
    }

    #[test]
    fn a_window_that_is_not_open_is_waited_for() {
        let zoned = |text: &str| format!("{text}[Europe/Vienna]").parse::<Zoned>().unwrap();
        let now = zoned("2026-11-28T01:59:30");
        let opens = next_open(&["02:00-05:00".parse().unwrap()], &now);
        assert_eq!(wait(&now, opens.as_ref()), Some(Duration::from_secs(30)));
        assert_eq!(wait(&now, next_open(&[], &now).as_ref()), None);
        assert!(wait(&now, None) > Some(Duration::from_secs(1 << 40)));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for wrong in [
            "",
            "02:00",
            "02:00-",
            "2:00-3:00",
            "25:00-26:00",
            "02:60-03:00",
            "24:00-01:00",
            "03:00-03:00",
            "Mo 02:00-03:00",
            "Mon- 02:00-03:00",
            "Mon,, 02:00-03:00",
            "02:00-24:01",
            "+2:00-03:00",
        ] {
            assert_eq!(wrong.parse::<Window>(), Err(EXPECTED), "{wrong:?}");
        }
    }
}
