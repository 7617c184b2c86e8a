//! Times as they are stored: whole milliseconds since 1970.

use jiff::Timestamp;

pub(crate) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// The time of a stored number; one out of range becomes the nearest there is.
pub(crate) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(if millis < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
