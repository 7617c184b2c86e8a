//! Points in time as tools write them.

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::number::whole;

/// A time in ISO 8601, `T` or a space between date and time. Without a zone it is taken for UTC, as
/// the zone of a machine is not told. `None` for what is no time, and for years before 1971, which
/// tools write when they know none.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let time = text.parse::<Timestamp>().ok().or_else(|| {
        let civil: civil::DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    });
    time.filter(|time| time.as_second() >= YEAR)
}

/// Milliseconds since 1970; or seconds, if they would be before 1973 otherwise.
pub(crate) fn from_epoch(number: f64) -> Option<Timestamp> {
    let millis = if number < 100_000_000_000.0 {
        number * 1000.0
    } else {
        number
    };
    let millis = i64::try_from(whole(millis)?).ok()?;
    let time = Timestamp::from_millisecond(millis).ok();
    time.filter(|time| time.as_second() >= YEAR)
}

/// Seconds of a year.
const YEAR: i64 = 365 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::{from_epoch, parse};

    #[test]
    fn times_with_and_without_a_zone_are_read() {
        let read = |text| parse(text).map(|time| time.to_string());
        let told = Some("2026-03-01T10:00:00Z".to_owned());
        assert_eq!(read("2026-03-01T10:00:00"), told);
        assert_eq!(read("2026-03-01 10:00:00Z"), told);
        assert_eq!(read("2026-03-01T12:00:00+02:00"), told);
        assert_eq!(read("0001-01-01T00:00:00Z"), None);
        assert_eq!(read("yesterday"), None);
    }

    #[test]
    fn numbers_are_milliseconds_or_seconds() {
        assert_eq!(from_epoch(1_795_858_240.0), from_epoch(1_795_858_240_000.0));
        assert_eq!(from_epoch(0.0), None);
        assert_eq!(from_epoch(f64::INFINITY), None);
    }
}
