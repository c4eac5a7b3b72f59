//! The lines by which cron syncs targets from time to time. Pure.
//!
//! cron knows minutes of an hour and hours of a day: a time that divides neither would have a short last turn. Hosts
//! begin at different minutes, which follow from their names.

use std::time::Duration;

use crate::service::units::{MARK, Service};
use crate::shell_words::quoted;

const MINUTES_OF_HOUR: u64 = 60;
const HOURS_OF_DAY: u64 = 24;

/// The file for cron; nothing where cron has no such turn.
pub(super) fn table(service: &Service, every: Duration, spread: u64) -> Option<String> {
    let when = schedule(every, spread)?;
    let lines = service.targets.iter().map(|target| {
        let words = service.global.iter().map(String::as_str).chain(["--quiet", "--target", target]);
        let words = std::iter::once(service.program.as_str()).chain(words);
        format!("{when} root {}\n", words.map(word).collect::<Vec<_>>().join(" "))
    });
    Some(format!(
        "{MARK}\n\
         SHELL=/bin/sh\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\n{}",
        lines.collect::<String>()
    ))
}

/// Every so often, as cron has it.
fn schedule(every: Duration, spread: u64) -> Option<String> {
    let minutes = every.as_secs().checked_div(60).filter(|_| every.as_secs().is_multiple_of(60))?;
    match minutes {
        1 => Some("* * * * *".to_owned()),
        2..MINUTES_OF_HOUR if MINUTES_OF_HOUR.is_multiple_of(minutes) => {
            Some(format!("{}-59/{minutes} * * * *", spread % minutes))
        }
        _ => {
            let hours = (minutes / MINUTES_OF_HOUR).max(1);
            let divides = minutes == hours * MINUTES_OF_HOUR && HOURS_OF_DAY.is_multiple_of(hours);
            let (minute, first) = (spread % MINUTES_OF_HOUR, spread / MINUTES_OF_HOUR % hours);
            let hour = match hours {
                1 => "*".to_owned(),
                HOURS_OF_DAY => first.to_string(),
                hours => format!("{first}-23/{hours}"),
            };
            divides.then(|| format!("{minute} {hour} * * *"))
        }
    }
}

/// A word of a command. cron makes a line break of a percent sign unless a backslash stands right before it, which it
/// takes away; a backslash before that one would hide it, so that the quotes are closed and opened in between.
fn word(text: &str) -> String {
    if text.contains('%') {
        let pieces: Vec<String> =
            text.split('%').map(|piece| format!("'{}'", piece.replace('\'', "'\\''"))).collect();
        return pieces.join("\\%");
    }
    quoted(text)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60;

    #[track_caller]
    fn check(minutes: u64, spread: u64, expected: Option<&str>) {
        assert_eq!(schedule(Duration::from_secs(minutes * MINUTE), spread).as_deref(), expected, "{minutes}");
    }

    #[test]
    fn a_turn_divides_the_hour_or_the_day() {
        check(1, 7, Some("* * * * *"));
        check(15, 7, Some("7-59/15 * * * *"));
        check(15, 22, Some("7-59/15 * * * *"));
        check(30, 0, Some("0-59/30 * * * *"));
        check(60, 61, Some("1 * * * *"));
        check(6 * 60, 61, Some("1 1-23/6 * * *"));
        check(24 * 60, 23 * 60 + 5, Some("5 23 * * *"));
        for minutes in [0, 7, 45, 50, 90, 5 * 60, 48 * 60] {
            check(minutes, 7, None);
        }
        assert_eq!(schedule(Duration::from_secs(90), 0), None);
    }

    /// What cron hands to the shell: up to the first percent sign that no backslash stands before.
    fn read_by_cron(line: &str) -> String {
        let mut command = String::new();
        let mut is_escaped = false;
        for character in line.chars() {
            if character == '%' && !is_escaped {
                break;
            }
            if character == '%' {
                command.pop();
            }
            is_escaped = character == '\\' && !is_escaped;
            command.push(character);
        }
        command
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn words_arrive_through_cron_and_the_shell(text in "[ab%\\\\' $\"*]{0,12}") {
            let script = format!("printf '[%s]' {}", read_by_cron(&word(&text)));
            let printed = Command::new("sh").arg("-c").arg(script).output().unwrap();
            prop_assert_eq!(String::from_utf8(printed.stdout).unwrap(), format!("[{text}]"));
        }
    }
}
