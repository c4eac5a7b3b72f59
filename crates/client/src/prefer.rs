//! Whether an archive is rebuilt from few bytes, or fetched as it is.

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

/// What an update should take as little of as possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// Bytes on the wire.
    Bytes,
    /// Time, on a link of 100 Mbit/s.
    Time,
}

/// So long an update may take in any case, unless it is time that counts.
const FREE: Duration = Duration::from_secs(30);
/// What a slow link brings in a second.
const SLOW_BYTES_PER_SECOND: u64 = 1_000_000;
/// What a good one does.
const FAST_BYTES_PER_SECOND: u64 = 12_500_000;

/// The longest that rebuilding so many bytes of archives may take rather than that they are fetched; nothing where it
/// does not matter.
pub fn rebuild_time_max(prefer: Option<Prefer>, bytes: u64) -> Option<Duration> {
    let on_link = |per_second: u64| Duration::from_millis(bytes.saturating_mul(1000) / per_second);
    match prefer {
        Some(Prefer::Bytes) => None,
        Some(Prefer::Time) => Some(on_link(FAST_BYTES_PER_SECOND)),
        None => Some(on_link(SLOW_BYTES_PER_SECOND).max(FREE)),
    }
}

/// The bytes of a tree from which on it matters how soon they are in their places.
const LARGE_INSTALL_BYTES: u64 = 128 << 20;

/// Whether a first install comes chunk by chunk rather than as a bundle: that takes a tenth more bytes, and half the
/// time where the link is not what is waited for.
pub fn prefers_chunks(prefer: Option<Prefer>, bytes: u64, is_near: bool) -> bool {
    prefer != Some(Prefer::Bytes) && is_near && bytes >= LARGE_INSTALL_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_first_install_from_nearby_comes_by_chunks_unless_bytes_count() {
        assert!(prefers_chunks(None, 1 << 30, true));
        assert!(prefers_chunks(Some(Prefer::Time), 1 << 30, true));
        assert!(!prefers_chunks(Some(Prefer::Bytes), 1 << 30, true));
        assert!(!prefers_chunks(None, 1 << 30, false));
        assert!(!prefers_chunks(None, 100 << 20, true));
    }

    #[test]
    fn a_rebuild_may_take_as_long_as_fetching_would() {
        let seconds = |prefer, bytes| rebuild_time_max(prefer, bytes).map(|time| time.as_secs());
        assert_eq!(seconds(Some(Prefer::Bytes), 1 << 40), None);
        assert_eq!(seconds(Some(Prefer::Time), 125_000_000), Some(10));
        assert_eq!(seconds(None, 1_000_000), Some(30));
        assert_eq!(seconds(None, 100_000_000), Some(100));
        assert_eq!(seconds(None, u64::MAX), Some(u64::MAX / 1_000_000_000));
    }
}
