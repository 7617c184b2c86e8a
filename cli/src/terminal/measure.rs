//! Durations, sizes, ages and times as people read them.

use std::time::Duration;

use jiff::Timestamp;

/// Reads a number of bytes: `500`, `64KiB`, `10MB`, `4GiB`.
///
/// # Errors
///
/// What is allowed, for people.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: i64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "k" | "ki" | "kib" => 1 << 10,
        "mb" => 1_000_000,
        "m" | "mi" | "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "g" | "gi" | "gib" => 1 << 30,
        "tb" => 1_000_000_000_000,
        "t" | "ti" | "tib" => 1 << 40,
        _ => return Err("expected bytes, such as 500, 64KiB, 10MB or 4GiB".to_owned()),
    };
    let number: i64 = number
        .parse()
        .map_err(|_error| "expected a whole number with a unit, such as 4GiB".to_owned())?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("{text} is too much"))
}

/// `45ms`, `12.3s`, `1m 05s`, `2h 03m`, `3d 04h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{}ms", duration.as_millis());
    }
    if duration < Duration::from_millis(59_950) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    let seconds = if seconds < 60 { 60 } else { seconds };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours) {
        (0, 0) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _) => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

/// The time between two moments; none when it is not known or runs backwards.
pub(crate) fn between(start: Option<Timestamp>, end: Option<Timestamp>) -> Option<Duration> {
    Duration::try_from(end?.duration_since(start?)).ok()
}

/// `812 B`, `1.2 kB`, `3.4 MB`: powers of 1000.
pub(crate) fn size(bytes: i64) -> String {
    let bytes = u64::try_from(bytes).unwrap_or(0);
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded down: a file is never shown larger than it is.
    let mut tenths = u128::from(bytes) * 10;
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        tenths /= 1000;
        if tenths < 10_000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{} EB", tenths / 10_000)
}

/// `now`, `42s ago`, `5m ago`, `3h ago`, `2d ago`.
pub(crate) fn age(moment: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(moment).as_secs();
    match seconds {
        i64::MIN..=1 => "now".to_owned(),
        2..=59 => format!("{seconds}s ago"),
        60..=3599 => format!("{}m ago", seconds / 60),
        3600..=86_399 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// `2026-11-23 15:04:05` in the time zone of this machine.
pub(crate) fn local(moment: Timestamp) -> String {
    let zoned = moment.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_units() {
        assert_eq!(bytes("500"), Ok(500));
        assert_eq!(bytes("64KiB"), Ok(64 << 10));
        assert_eq!(bytes("10MB"), Ok(10_000_000));
        assert_eq!(bytes("4g"), Ok(4 << 30));
        for bad in ["", "GiB", "1.5GiB", "4XB", "9999999999TiB", "-1"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_get_coarser_as_they_grow() {
        let show = |milliseconds| duration(Duration::from_millis(milliseconds));
        assert_eq!(show(0), "0ms");
        assert_eq!(show(449), "449ms");
        assert_eq!(show(1449), "1.4s");
        assert_eq!(show(59_949), "59.9s");
        assert_eq!(show(59_999), "1m 00s");
        assert_eq!(show(65_000), "1m 05s");
        assert_eq!(show(7_384_000), "2h 03m");
        assert_eq!(show(273_600_000), "3d 04h");
    }

    #[test]
    fn sizes_use_powers_of_a_thousand() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1_250), "1.2 kB");
        assert_eq!(size(999_999), "999.9 kB");
        assert_eq!(size(3_400_000), "3.4 MB");
        assert_eq!(size(i64::MAX), "9 EB");
        assert_eq!(size(-1), "0 B");
    }

    #[test]
    fn an_age_in_the_future_is_now() {
        let moment = Timestamp::from_second(1000).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(age(moment, at(900)), "now");
        assert_eq!(age(moment, at(1042)), "42s ago");
        assert_eq!(age(moment, at(1000 + 7200)), "2h ago");
        assert_eq!(age(moment, at(1000 + 200_000)), "2d ago");
    }
}
