//! When an upstream is looked at next. Pure: time and chance come in.
//!
//! Many servers are set up alike and start alike. Each look is at a moment of its own, so that they do not all come at once,
//! and an upstream that fails is asked less and less often.

/// How soon a look is tried again that failed, in seconds; each further failure doubles it.
const AGAIN_SECONDS: u64 = 15 * 60;
/// The longest that this takes, unless the interval is longer.
const AGAIN_SECONDS_MAX: u64 = 24 * 3600;

/// When an upstream is looked at first.
pub(in super::super) const fn first(every: u64, now: u64, chance: u64) -> u64 {
    now.saturating_add(part_of(every, chance))
}

/// When it is looked at next, after a look that ended now and so many failures since the last one that did not fail. A
/// twentieth of the interval sooner or later.
pub(in super::super) fn next(every: u64, failures: u64, now: u64, chance: u64) -> u64 {
    let pause = if failures == 0 {
        every
    } else {
        let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX);
        let again = AGAIN_SECONDS.min(every).saturating_mul(2u64.saturating_pow(doublings));
        again.min(AGAIN_SECONDS_MAX.max(every))
    };
    let spread = pause / 10;
    now.saturating_add(pause - spread / 2).saturating_add(part_of(spread, chance))
}

/// A number below some other one, or 0; any of them is as likely.
const fn part_of(whole: u64, chance: u64) -> u64 {
    if whole == 0 { 0 } else { chance % whole }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn failures_make_it_less_and_less_often() {
        let pauses =
            |every: u64| (0..12).map(|failures| next(every, failures, 0, 0) * 20 / 19).collect::<Vec<_>>();
        let hourly = pauses(3600);
        assert_eq!(hourly[..5], [3600, 900, 1800, 3600, 7200]);
        assert_eq!(hourly[11], 24 * 3600);
        assert_eq!(pauses(7 * 86_400)[11], 7 * 86_400);
        assert_eq!(pauses(60)[..3], [60, 60, 120]);
    }

    proptest! {
        #[test]
        fn looks_are_spread_and_never_far_off(every in 60..2_592_000u64, failures in 0..100u64, now in 0..5_000_000_000u64, chance in any::<u64>()) {
            let first = first(every, now, chance);
            prop_assert!((now..now + every).contains(&first));
            let next = next(every, failures, now, chance);
            prop_assert!(next > now && next <= now + every.max(AGAIN_SECONDS_MAX) * 21 / 20);
        }
    }
}
