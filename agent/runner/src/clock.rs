//! The time of day, for records. Intervals come from tokio.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the runner does not depend on `core`; nothing is decided by this time"
)]
pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since the epoch by the clock that files are stamped with, which is a bit behind: a file
/// that is written from now on is not older.
pub(crate) fn file_now_ms() -> i64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}
