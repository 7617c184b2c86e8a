//! Times as they are stored: whole milliseconds since 1970.

use jiff::Timestamp;
use uuid::Uuid;

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

/// The first id of a time, in milliseconds since 1970: ids begin with the time when they were made.
pub(crate) fn first_id(millis: u64) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}
