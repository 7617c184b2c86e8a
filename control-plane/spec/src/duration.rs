//! Durations as the language writes them: Go's `1h30m`, `5s`, `250ms`, `1.5s`.

use std::time::Duration;

/// Why a text is no duration that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is none.
    #[error(
        "'{0}' is not a duration: write numbers with units h, m, s or ms, such as `90s` or `1m30s`"
    )]
    Wrong(String),
    /// It is too long.
    #[error("'{0}' is longer than 100 years (876000h), the most that a duration may be")]
    TooLong(String),
}

/// Longest duration that is read: 100 years, so that sums never overflow.
const MAX_NANOSECONDS: u128 = 100 * 365 * 24 * 3600 * 1_000_000_000;

/// Reads a duration.
///
/// ```
/// use muster_spec::duration::parse;
/// assert_eq!(parse("1m30s")?, std::time::Duration::from_secs(90));
/// # Ok::<(), muster_spec::duration::Error>(())
/// ```
///
/// # Errors
///
/// When the text has no unit, an unknown unit, a sign, or is longer than 100 years.
pub fn parse(text: &str) -> Result<Duration, Error> {
    let shown = || text.chars().take(60).collect();
    let refused = || Error::Wrong(shown());
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(refused());
    }
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c| c.is_alphabetic());
        let unit: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return Err(refused()),
        };
        nanoseconds += scale(number, unit).ok_or_else(refused)?;
        if nanoseconds > MAX_NANOSECONDS {
            return Err(Error::TooLong(shown()));
        }
        rest = after;
    }
    let seconds = u64::try_from(nanoseconds / 1_000_000_000);
    let fraction = u32::try_from(nanoseconds % 1_000_000_000);
    match (seconds, fraction) {
        (Ok(seconds), Ok(fraction)) => Ok(Duration::new(seconds, fraction)),
        _ => Err(refused()),
    }
}

fn split(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !keep(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// `number * unit` for a decimal number, without floating point, and no more than a little above
/// [`MAX_NANOSECONDS`].
fn scale(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    if whole.trim_start_matches('0').len() > 18 {
        return Some(MAX_NANOSECONDS + 1);
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let digits: String = fraction.chars().take(9).collect();
    let mut total = whole * unit;
    if !digits.is_empty() {
        let power = 10u128.pow(u32::try_from(digits.len()).ok()?);
        total += digits.parse::<u128>().ok()? * unit / power;
    }
    Some(total.min(MAX_NANOSECONDS + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn go_durations_are_read() {
        for (text, milliseconds) in [
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            (".5s", 500),
            ("1h0m0.25s", 3_600_250),
            ("0", 0),
            (" 3s ", 3_000),
        ] {
            assert_eq!(
                parse(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn texts_without_unit_or_sense_are_refused() {
        for text in ["", "5", "s", "1d", "-5s", "1..5s", "5 s", "1s2", "٣s"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in [
            "99999999999h",
            "1h99999999999999999999999999999999999999999999s",
        ] {
            assert_eq!(parse(text), Err(Error::TooLong(text.to_owned())));
        }
        assert!(parse("876000h").is_ok());
        let message = parse("5").unwrap_err().to_string();
        assert_eq!(
            message,
            "'5' is not a duration: write numbers with units h, m, s or ms, such as `90s` or `1m30s`"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            drop(parse(&text));
        }
    }
}
