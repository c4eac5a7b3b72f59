//! When the next attempt is: soon after something was published, seldom otherwise, and more and more seldom where it
//! fails. Hosts that were told at the same time do not ask at the same time.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

/// The wait after a first failure.
const FAILED_FIRST: Duration = Duration::from_secs(5);
/// The longest wait after a failure.
const FAILED_LONGEST: Duration = Duration::from_secs(600);
/// The longest wait before it is tried again to listen.
const DEAF_LONGEST: Duration = Duration::from_secs(60);

/// A number from 0 up to 1, another one each time.
pub fn random() -> f64 {
    // Every state has keys of its own.
    let number = RandomState::new().build_hasher().finish() >> 12;
    f64::from_bits(0x3ff0_0000_0000_0000 | number) - 1.0
}

/// How long to wait after something was published.
pub fn after_news(jitter: Duration, random: f64) -> Duration {
    jitter.mul_f64(random)
}

/// How long to wait after an attempt that succeeded.
pub fn after_success(every: Duration, random: f64) -> Duration {
    every.mul_f64(0.9 + random / 5.0)
}

/// How long to wait after so many attempts that failed, one after the other.
pub fn after_failures(failures: u32, random: f64) -> Duration {
    let doubled = FAILED_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(FAILED_LONGEST).mul_f64(0.5 + random / 2.0)
}

/// How long to wait before listening again, after so many times that it ended early.
pub fn before_listening(failures: u32, random: f64) -> Duration {
    after_failures(failures, random).min(DEAF_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_differ() {
        let (least, most) = (0.0, 1.0 - f64::EPSILON);
        assert_eq!(after_failures(1, least), FAILED_FIRST / 2);
        assert!(after_failures(1, most) <= FAILED_FIRST);
        assert!(after_failures(3, least) > after_failures(1, most));
        assert!(after_failures(u32::MAX, most) <= FAILED_LONGEST);
        assert!(before_listening(u32::MAX, most) <= DEAF_LONGEST);
        assert_eq!(after_news(Duration::from_secs(10), least), Duration::ZERO);
        assert!(after_news(Duration::from_secs(10), most) <= Duration::from_secs(10));
        let hour = Duration::from_secs(3600);
        assert!(after_success(hour, least) < hour && after_success(hour, most) > hour);
    }

    #[test]
    fn random_numbers_are_in_their_range_and_not_the_same() {
        let numbers: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number < 0.5) && numbers.iter().any(|number| *number >= 0.5));
    }
}
