//! Choices as people write them: `14d`, `500`, `20GiB`, `none`; on the command line and in annotations
//! of a workflow.

use std::collections::BTreeMap;

use super::Retention;

/// What the annotations begin with that say how long executions of a workflow are kept. The language
/// gives annotations no meaning, so that no manifest has them for something else.
pub const PREFIX: &str = "muster.dev/keep-";

/// Longest age, 100 years, so that sums never overflow.
const MAX_AGE_MS: u64 = 100 * 365 * 24 * 3600 * 1000;

/// A text that says nothing that can be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {expected}")]
pub struct Wrong {
    text: String,
    expected: &'static str,
}

impl Wrong {
    fn new(text: &str, expected: &'static str) -> Self {
        let text = text.chars().take(60).collect();
        Self { text, expected }
    }
}

/// An annotation that can not be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongAnnotation {
    /// Its value is wrong.
    #[error("{key}: {wrong}")]
    Value {
        /// The annotation.
        key: String,
        /// What is wrong.
        wrong: Wrong,
    },
    /// There is none of this name.
    #[error(
        "there is no annotation {0}: write muster.dev/keep-age, keep-count, keep-size, keep-logs or keep-artifacts"
    )]
    Unknown(String),
}

/// Reads an age in milliseconds: `14d`, `2w`, `36h`, `90m`; `none` is 0.
///
/// # Errors
///
/// [`Wrong`] says what is expected.
pub fn age(text: &str) -> Result<u64, Wrong> {
    let expected = "an age of at least a minute: write 14d, 2w, 36h, 90m or none";
    if text == "none" {
        return Ok(0);
    }
    let (number, unit) = split(text);
    let unit = match unit {
        "w" => 7 * 24 * 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        "h" => 3600 * 1000,
        "m" => 60 * 1000,
        _ => return Err(Wrong::new(text, expected)),
    };
    let age = number
        .parse::<u64>()
        .ok()
        .and_then(|it| it.checked_mul(unit));
    age.filter(|age| (60_000..=MAX_AGE_MS).contains(age))
        .ok_or_else(|| Wrong::new(text, expected))
}

/// Reads a number of executions; `none` is 0.
///
/// # Errors
///
/// [`Wrong`] says what is expected.
pub fn count(text: &str) -> Result<u64, Wrong> {
    if text == "none" {
        return Ok(0);
    }
    let count = text.parse::<u64>().ok();
    count
        .filter(|count| (1..=i64::MAX.unsigned_abs()).contains(count))
        .ok_or_else(|| Wrong::new(text, "a number of at least 1, or none"))
}

/// Reads a number of bytes: `500MB`, `20GiB`; `none` is 0.
///
/// # Errors
///
/// [`Wrong`] says what is expected.
pub fn bytes(text: &str) -> Result<u64, Wrong> {
    let expected = "a number of bytes: write 500MB, 20GiB, 1TB or none";
    if text == "none" {
        return Ok(0);
    }
    let (number, unit) = split(text);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "k" | "ki" | "kib" => 1 << 10,
        "mb" => 1_000_000,
        "m" | "mi" | "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "g" | "gi" | "gib" => 1 << 30,
        "tb" => 1_000_000_000_000,
        "t" | "ti" | "tib" => 1 << 40,
        _ => return Err(Wrong::new(text, expected)),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|it| it.checked_mul(unit));
    bytes
        .filter(|bytes| (1..=i64::MAX.unsigned_abs()).contains(bytes))
        .ok_or_else(|| Wrong::new(text, expected))
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// Reads what annotations of a workflow say; those that do not begin with [`PREFIX`] say nothing.
///
/// # Errors
///
/// [`WrongAnnotation`] for the first one that can not be followed.
pub fn annotations(all: &BTreeMap<String, String>) -> Result<Retention, WrongAnnotation> {
    let mut chosen = Retention::default();
    for (key, value) in all {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let (place, read) = match name {
            "age" => (&mut chosen.max_age_ms, age(value)),
            "count" => (&mut chosen.max_count, count(value)),
            "size" => (&mut chosen.max_bytes, bytes(value)),
            "logs" => (&mut chosen.log_age_ms, age(value)),
            "artifacts" => (&mut chosen.artifact_age_ms, age(value)),
            _ => return Err(WrongAnnotation::Unknown(key.clone())),
        };
        *place = Some(read.map_err(|wrong| WrongAnnotation::Value {
            key: key.clone(),
            wrong,
        })?);
    }
    Ok(chosen)
}
