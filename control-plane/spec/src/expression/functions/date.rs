//! `date`: a moment as text, by layouts that show how the reference time would look:
//! `Mon Jan 2 15:04:05 MST 2006`. Which moment it is, the scope says; it is always in UTC.

use super::check_text;
use crate::expression::error::Error;
use crate::expression::scope::Lookup;
use crate::expression::value::{Value, describe};

/// The layout of `date()`: ISO 8601 with milliseconds.
const DEFAULT: &str = "2006-01-02T15:04:05.000Z";

const DAY: i64 = 86_400;
/// The first and the last second that have four digits of a year.
const RANGE: (i64, i64) = (-62_167_219_200, 253_402_300_799);

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From the day of the week of 1970-01-01 on.
const WEEKDAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// A moment in UTC, of the years 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since the epoch.
    seconds: i64,
    nanos: u32,
}

impl Moment {
    /// So many milliseconds since the epoch; beyond the years 0 to 9999 the nearest of these.
    #[must_use]
    pub fn from_unix_ms(ms: i64) -> Self {
        let seconds = ms.div_euclid(1000).clamp(RANGE.0, RANGE.1);
        let nanos = u32::try_from(ms.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
        Self { seconds, nanos }
    }

    /// Reads RFC 3339, such as `2024-06-04T11:59:32.308Z` or `…+02:00`; nothing when it is none.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to)?;
            let plain = digits.bytes().all(|c| c.is_ascii_digit());
            plain.then(|| digits.parse::<i64>().ok())?
        };
        let sign = |at: usize, wanted: &[u8]| {
            let found = text.as_bytes().get(at)?;
            wanted.contains(found).then_some(())
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        for (at, wanted) in [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")] {
            sign(at, wanted.as_bytes())?;
        }
        let month_index = usize::try_from(month).ok()?.checked_sub(1)?;
        let length = *lengths(year).get(month_index)?;
        if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut rest = text.get(19..)?;
        let mut nanos = 0;
        if let Some(fraction) = rest.strip_prefix('.') {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, after) = fraction.split_at(digits);
            let nine: String = fraction
                .chars()
                .chain("000000000".chars())
                .take(9)
                .collect();
            nanos = nine.parse().ok().filter(|_| digits > 0)?;
            rest = after;
        }
        let offset = match rest.as_bytes() {
            [b'Z' | b'z'] => 0,
            [ahead @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let pair = |a: &u8, b: &u8| {
                    let digits = a.is_ascii_digit() && b.is_ascii_digit();
                    digits.then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
                };
                let seconds = pair(h1, h2)? * 3600 + pair(m1, m2)? * 60;
                if *ahead == b'+' { seconds } else { -seconds }
            }
            _ => return None,
        };
        let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
        let seconds = seconds.clamp(RANGE.0, RANGE.1);
        Some(Self { seconds, nanos })
    }

    /// What `date` with these arguments is at this moment.
    #[must_use]
    pub fn date(&self, arguments: &[Value]) -> Lookup {
        let text = match arguments {
            [] => Ok(Value::from(self.format(DEFAULT))),
            [Value::String(layout)] => check_text(self.format(layout)),
            [other] => Err(Error::operation(format!(
                "date needs a text such as \"2006-01-02\", found {}",
                describe(other)
            ))),
            [_, _, ..] => Err(Error::operation("date takes one layout")),
        };
        match text {
            Ok(text) => Lookup::Known(text),
            Err(error) => Lookup::Refused(error.to_string()),
        }
    }

    /// The moment in a layout; what is no part of the reference time stays as it is.
    fn format(&self, layout: &str) -> String {
        let clock = Clock::new(*self);
        let mut out = String::new();
        let mut rest = layout;
        while let Some(first) = rest.chars().next() {
            let taken = clock.part(rest, &mut out);
            if taken > 0 {
                rest = &rest[taken..];
            } else {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        out
    }
}

/// How the reference time writes the zone. All are UTC.
const ZONES: [(&str, &str); 13] = [
    ("-07:00:00", "+00:00:00"),
    ("-070000", "+000000"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    ("Z07:00:00", "Z"),
    ("Z070000", "Z"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("Z07", "Z"),
    ("MST", "UTC"),
    ("PM", ""),
    ("pm", ""),
];

/// A moment taken apart.
struct Clock {
    year: i64,
    month: usize,
    day: i64,
    day_of_year: i64,
    weekday: &'static str,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: u32,
}

impl Clock {
    fn new(moment: Moment) -> Self {
        let all_days = moment.seconds.div_euclid(DAY);
        let second = moment.seconds.rem_euclid(DAY);
        let (year, day_of_year) = year(all_days);
        let mut day = day_of_year;
        let mut month = 0;
        for length in lengths(year) {
            if day <= length {
                break;
            }
            day -= length;
            month += 1;
        }
        let weekday = usize::try_from(all_days.rem_euclid(7)).unwrap_or(0);
        Self {
            year,
            month,
            day,
            day_of_year,
            weekday: WEEKDAYS.get(weekday).copied().unwrap_or_default(),
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            nanos: moment.nanos,
        }
    }

    /// Writes the part of the reference time that `rest` begins with; gives its length, or 0.
    fn part(&self, rest: &str, out: &mut String) -> usize {
        if let Some(taken) = self.fraction(rest, out) {
            return taken;
        }
        if let Some((zone, utc)) = ZONES.iter().find(|(zone, _)| rest.starts_with(zone)) {
            out.push_str(match *zone {
                "PM" if self.hour >= 12 => "PM",
                "PM" => "AM",
                "pm" if self.hour >= 12 => "pm",
                "pm" => "am",
                _ => utc,
            });
            return zone.len();
        }
        let month = MONTHS.get(self.month).copied().unwrap_or_default();
        let words = [
            ("January", month),
            ("Monday", self.weekday),
            ("Jan", &month[..3]),
            ("Mon", &self.weekday[..3]),
        ];
        for (word, written) in words {
            let after = rest.strip_prefix(word);
            // `Monitor` is a word of its own.
            let longer =
                after.is_some_and(|after| after.starts_with(|c: char| c.is_ascii_lowercase()));
            if after.is_some() && (word.len() > 3 || !longer) {
                out.push_str(written);
                return word.len();
            }
        }
        self.number(rest, out)
    }

    /// The same for numbers, the longest first.
    fn number(&self, rest: &str, out: &mut String) -> usize {
        let month = self.month + 1;
        let (day, hour) = (self.day, self.hour);
        let half = if hour % 12 == 0 { 12 } else { hour % 12 };
        // The year behind an underscore is no day.
        if rest.starts_with("_2006") {
            out.push('_');
            return 1;
        }
        let numbers = [
            ("2006", format!("{:04}", self.year)),
            ("__2", format!("{:3}", self.day_of_year)),
            ("002", format!("{:03}", self.day_of_year)),
            ("01", format!("{month:02}")),
            ("02", format!("{day:02}")),
            ("03", format!("{half:02}")),
            ("04", format!("{:02}", self.minute)),
            ("05", format!("{:02}", self.second)),
            ("06", format!("{:02}", self.year % 100)),
            ("15", format!("{hour:02}")),
            ("_2", format!("{day:2}")),
            ("1", month.to_string()),
            ("2", day.to_string()),
            ("3", half.to_string()),
            ("4", self.minute.to_string()),
            ("5", self.second.to_string()),
        ];
        for (part, written) in numbers {
            if rest.starts_with(part) {
                out.push_str(&written);
                return part.len();
            }
        }
        0
    }

    /// A dot or comma and zeros or nines: the fraction of the second, with nines as far as it is
    /// not zero.
    fn fraction(&self, rest: &str, out: &mut String) -> Option<usize> {
        let mut chars = rest.chars();
        let separator = chars.next().filter(|c| matches!(c, '.' | ','))?;
        let digit = chars.next().filter(|c| matches!(c, '0' | '9'))?;
        let digits = rest[1..].chars().take_while(|c| *c == digit).count();
        let ends = !rest[1 + digits..].starts_with(|c: char| c.is_ascii_digit());
        let nine = format!("{:09}", self.nanos);
        let mut shown = nine.get(..digits.min(9)).filter(|_| ends)?;
        if digit == '9' {
            shown = shown.trim_end_matches('0');
        }
        if !(shown.is_empty() && digit == '9') {
            out.push(separator);
            out.push_str(shown);
        }
        Some(1 + digits)
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of the months of a year.
fn lengths(year: i64) -> [i64; 12] {
    let february = if is_leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Days from the epoch to the beginning of a year.
fn days_before(year: i64) -> i64 {
    let past = year - 1;
    365 * (year - 1970) + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400) - 477
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let months = usize::try_from(month - 1).unwrap_or(0);
    let before: i64 = lengths(year).iter().take(months).sum();
    days_before(year) + before + day - 1
}

/// The year of a day, and its number in it from 1 on.
fn year(all_days: i64) -> (i64, i64) {
    let mut year = 1970 + all_days.div_euclid(366);
    while days_before(year + 1) <= all_days {
        year += 1;
    }
    while days_before(year) > all_days {
        year -= 1;
    }
    (year, all_days - days_before(year) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str, layout: &str) -> String {
        Moment::from_rfc3339(text).expect(text).format(layout)
    }

    #[test]
    fn layouts_show_how_the_reference_time_looks() {
        let moment = "2024-06-04T11:59:32.308Z";
        for (layout, expected) in [
            (DEFAULT, moment),
            ("2006-01-02", "2024-06-04"),
            ("02.01.06 15h04", "04.06.24 11h59"),
            ("Mon Jan _2 15:04:05 2006", "Tue Jun  4 11:59:32 2024"),
            (
                "Monday, January 2, 3:04:05 PM",
                "Tuesday, June 4, 11:59:32 AM",
            ),
            (
                "Mon, 02 Jan 2006 15:04:05 MST",
                "Tue, 04 Jun 2024 11:59:32 UTC",
            ),
            ("2006-01-02T15:04:05Z07:00", "2024-06-04T11:59:32Z"),
            (
                "2006-01-02T15:04:05.999999999-0700",
                "2024-06-04T11:59:32.308+0000",
            ),
            ("05,000000", "32,308000"),
            ("002 __2 _2006", "156 156 _2024"),
            ("Monitor Jane YYYY", "Monitor Jane YYYY"),
            ("1/2 3:4:5pm", "6/4 11:59:32am"),
            ("é→", "é→"),
            ("", ""),
        ] {
            assert_eq!(at(moment, layout), expected, "{layout}");
        }
        assert_eq!(at("2024-06-04T00:00:00Z", "3PM 03 .999"), "12AM 12 ");
        assert_eq!(
            at("2023-12-31T23:30:00-01:00", "2006-01-02 __2"),
            "2024-01-01   1"
        );
        assert_eq!(at("1900-03-01T12:00:00Z", "Mon 002"), "Thu 060");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2024",
            "2024-02-30T00:00:00Z",
            "2024-06-04T11:59:32",
            "2024-06-04T11:59:32.Z",
            "2024-06-04T24:00:00Z",
            "2024-06-04T11:59:32+0200",
            "+024-06-04T11:59:32Z",
            "2024-06-04T11:59é32Z",
        ] {
            assert_eq!(Moment::from_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn arguments_are_checked() {
        let moment = Moment::from_unix_ms(0);
        assert_eq!(
            moment.date(&[]),
            Lookup::Known("1970-01-01T00:00:00.000Z".into())
        );
        assert!(matches!(moment.date(&[1.into()]), Lookup::Refused(_)));
        let two = [Value::from("2006"), Value::from("01")];
        assert!(matches!(moment.date(&two), Lookup::Refused(_)));
    }

    proptest! {
        #[test]
        fn every_moment_is_read_back(ms in RANGE.0 * 1000..RANGE.1 * 1000) {
            let moment = Moment::from_unix_ms(ms);
            let text = moment.format(DEFAULT);
            prop_assert_eq!(Moment::from_rfc3339(&text), Some(moment), "{}", text);
        }

        #[test]
        fn no_layout_and_no_text_panics(ms in any::<i64>(), text in ".{0,40}") {
            drop(Moment::from_unix_ms(ms).format(&text));
            let _read = Moment::from_rfc3339(&text);
        }
    }
}
