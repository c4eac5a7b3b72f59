//! What time it is on this machine.

use std::time::{SystemTime, UNIX_EPOCH};

use smart_sync_store::manifest::FileTime;
use smart_sync_sync::apply::Stamp;

/// This machine's time, in seconds since 1970.
pub fn seconds_now() -> i64 {
    time_now().seconds
}

/// This machine's time.
pub fn time_now() -> FileTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    FileTime {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: since.subsec_nanos(),
    }
}

/// This time, as the name of a run.
pub fn stamp() -> Stamp {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    Stamp::new(now.as_bytes()).expect("a time is digits and letters")
}
