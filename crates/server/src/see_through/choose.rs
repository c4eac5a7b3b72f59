//! Whether artifacts are stored taken apart.

use std::time::Duration;

/// What there is to gain at least, of what the originals take: parts that are stored cost more to read.
const GAIN_PERCENT_MIN: u64 = 10;

/// What storing artifacts taken apart would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    /// The bytes of the originals.
    pub(super) originals: u64,
    /// The bytes that their parts would take beside all that is stored already.
    pub(super) parts: u64,
    /// The longest that a rebuild takes.
    pub(super) rebuild: Duration,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// A rebuild would take too long.
    TooSlow,
    /// The parts would take as much room as the originals.
    NoGain,
    /// They are stored taken apart.
    Apart,
}

/// Chooses.
pub(super) fn choose(offer: Offer, rebuild_max: Duration) -> Choice {
    let enough = u128::from(offer.originals) * u128::from(100 - GAIN_PERCENT_MIN) / 100;
    if offer.rebuild > rebuild_max {
        Choice::TooSlow
    } else if u128::from(offer.parts) > enough {
        Choice::NoGain
    } else {
        Choice::Apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gains_enough_and_is_rebuilt_soon_is_taken_apart() {
        let max = Duration::from_secs(5);
        let offer =
            |originals, parts, seconds| Offer { originals, parts, rebuild: Duration::from_secs(seconds) };
        assert_eq!(choose(offer(1000, 900, 5), max), Choice::Apart);
        assert_eq!(choose(offer(1000, 901, 5), max), Choice::NoGain);
        assert_eq!(choose(offer(1000, 10, 6), max), Choice::TooSlow);
        assert_eq!(choose(offer(u64::MAX, u64::MAX / 2, 0), max), Choice::Apart);
    }
}
