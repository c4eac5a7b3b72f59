//! Time that nobody can set: how long this machine has been running, and since which start.
//!
//! Windows of confirmation are measured by it, so that a clock which is corrected meanwhile neither shortens nor
//! lengthens one. Between two starts it says nothing, and that they are two is known by the kernel's name for each.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::failure::Failure;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A moment of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Which start of the machine it belongs to.
    pub(crate) boot: String,
    /// How long that is ago, time that the machine slept included.
    pub(crate) since_boot: Duration,
}

impl Moment {
    /// This one.
    pub(crate) fn now() -> Result<Self, Failure> {
        let boot = fs::read_to_string(BOOT_ID)
            .map_err(|error| Failure::from(error).context(format!("reading {BOOT_ID}")))?;
        Ok(Self { boot: boot.trim().to_owned(), since_boot: since_boot() })
    }
}

/// How long ago the machine was started.
pub(super) fn since_boot() -> Duration {
    read(clock_gettime)
}

/// Of all clocks, the one that nobody can set and that runs while the machine sleeps.
fn read(clock: impl FnOnce(ClockId) -> Timespec) -> Duration {
    let time = clock(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// A length of time as it is configured: in the largest unit that says it exactly.
pub(crate) fn shown(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_start_and_time_since_then_that_does_not_go_back() {
        let (one, other) = (Moment::now().unwrap(), Moment::now().unwrap());
        assert_eq!(one.boot, other.boot);
        assert!(!one.boot.is_empty() && one.since_boot <= other.since_boot);
    }

    /// On a machine that was never set nor slept, clocks that must not be told from each other say the same.
    #[test]
    fn no_clock_is_read_that_can_be_set_or_stands_still_while_the_machine_sleeps() {
        let since = read(|clock| {
            assert_eq!(clock, ClockId::Boottime);
            Timespec { tv_sec: 90, tv_nsec: 7 }
        });
        assert_eq!(since, Duration::new(90, 7));
    }

    #[test]
    fn a_window_is_said_in_its_largest_unit() {
        for (seconds, expected) in [(0, "0 s"), (90, "90 s"), (600, "10 min"), (7200, "2 h")] {
            assert_eq!(shown(Duration::from_secs(seconds)), expected);
        }
    }
}
