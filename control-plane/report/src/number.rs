//! Numbers and durations as tools write them.

use std::time::Duration;

/// Seconds in text: `1.5`, `1e-05`, `1,234.56` of Surefire, `0,5` of a tool that follows a locale.
/// `None` if it is no finite number from 0 on, or longer than any test.
///
/// A single comma is that of a thousand if three digits follow it and something other than a zero
/// stands before it.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim().trim_end_matches('s').trim_end();
    let plain = match (text.rfind(','), text.rfind('.')) {
        (None, _) => text.to_owned(),
        (Some(comma), Some(dot)) if comma > dot => text.replace('.', "").replace(',', "."),
        (Some(_), Some(_)) => text.replace(',', ""),
        (Some(comma), None) => {
            let (before, after) = (&text[..comma], &text[comma + 1..]);
            let thousand = after.len() == 3 && before != "0";
            text.replace(',', if thousand { "" } else { "." })
        }
    };
    from_seconds(plain.parse().ok()?)
}

/// A duration of seconds, within reason.
pub(crate) fn from_seconds(seconds: f64) -> Option<Duration> {
    /// A century: more is a mistake, and would not fit columns.
    const MOST: f64 = 3_155_760_000.0;
    if !(0.0..=MOST).contains(&seconds) {
        return None;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A duration of milliseconds, within reason.
pub(crate) fn from_millis(millis: f64) -> Option<Duration> {
    from_seconds(millis / 1000.0)
}

/// The whole part of a number, if it is one that fits.
pub(crate) fn whole(number: f64) -> Option<u64> {
    // Formatted and read back: there is no checked conversion of floats.
    (0.0..=9_007_199_254_740_992.0)
        .contains(&number)
        .then(|| format!("{:.0}", number.trunc()).parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{seconds, whole};

    #[test]
    fn durations_of_tools_are_read() {
        let millis = |text| seconds(text).map(|duration| duration.as_millis());
        assert_eq!(millis("1.5"), Some(1500));
        assert_eq!(millis("1,234.56"), Some(1_234_560));
        assert_eq!(millis("1,234,567.5"), Some(1_234_567_500));
        assert_eq!(millis("1.234,5"), Some(1_234_500));
        assert_eq!(millis("1,234"), Some(1_234_000));
        assert_eq!(millis("0,123"), Some(123));
        assert_eq!(millis("12,5"), Some(12_500));
        assert_eq!(seconds("1e-05"), Some(Duration::from_micros(10)));
        for text in ["", "NaN", "inf", "-1", "1e300", "soon", "1:02"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_whole_number_fits_or_is_none() {
        assert_eq!(whole(7.9), Some(7));
        assert_eq!(whole(-1.0), None);
        assert_eq!(whole(f64::NAN), None);
        assert_eq!(whole(1e300), None);
    }
}
