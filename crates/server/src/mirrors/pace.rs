//! How fast upstreams have to be. Pure: the time comes in.

use std::time::Duration;

/// An upstream that gives less than this in a second, for as long as it may stand still, is too slow.
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// How fast an upstream is: one that gives a byte now and then never stands still, and never ends. Time comes in, since the
/// answer began.
pub(super) struct Pace {
    window: Duration,
    since: Duration,
    bytes: u64,
}

impl Pace {
    /// The same window again and again, in whole seconds.
    pub(super) const fn new(window: Duration) -> Self {
        Self { window, since: Duration::ZERO, bytes: 0 }
    }

    /// Notes what came just now, and says whether it was too little for the time that went by.
    pub(super) const fn is_too_slow(&mut self, bytes: u64, at: Duration) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let elapsed = at.saturating_sub(self.since);
        if elapsed.as_secs() < self.window.as_secs() {
            return false;
        }
        let was_enough = self.bytes >= elapsed.as_secs().saturating_mul(BYTES_PER_SECOND_MIN);
        (self.since, self.bytes) = (at, 0);
        !was_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_is_too_slow() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::new(seconds(30));
        assert!(!pace.is_too_slow(1, seconds(0)) && !pace.is_too_slow(1, seconds(29)));
        assert!(!pace.is_too_slow(30 * BYTES_PER_SECOND_MIN, seconds(30)), "it gave enough in all");
        assert!(!pace.is_too_slow(1, seconds(59)));
        assert!(pace.is_too_slow(1, seconds(60)));
    }
}
