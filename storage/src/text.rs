//! Text as it is stored: JSON in text columns, and words of agents made fit for a column.

use serde::{Serialize, de::DeserializeOwned};

use crate::transaction::Failure;

/// Longest message that is stored, in bytes.
const LONGEST_MESSAGE: usize = 16 * 1024;
/// Longest reason that is stored, in bytes.
const LONGEST_REASON: usize = 128;

pub(crate) fn encode<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::internal("encode JSON", error))
}

pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::internal("decode stored JSON", error))
}

/// What sorts behind every text that begins like this, where order is by bytes.
pub(crate) fn after_prefix(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

/// A message without NUL, which PostgreSQL can not hold, and not longer than is sensible.
pub(crate) fn message(text: &str) -> String {
    clean(text, LONGEST_MESSAGE)
}

/// The same for a reason.
pub(crate) fn reason(text: &str) -> String {
    clean(text, LONGEST_REASON)
}

fn clean(text: &str, longest: usize) -> String {
    let head = &text[..text.floor_char_boundary(longest)];
    // A replacement is longer than what it replaces.
    let mut cleaned = head.replace('\0', "\u{fffd}");
    let cut = head.len() < text.len() || cleaned.len() > longest;
    cleaned.truncate(cleaned.floor_char_boundary(longest));
    if cut {
        cleaned.push('…');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_loses_nul_and_its_tail_at_a_character_border() {
        assert_eq!(message("a\0b"), "a\u{fffd}b");
        let long = "ä".repeat(LONGEST_MESSAGE);
        let cut = message(&long);
        assert!(cut.len() <= LONGEST_MESSAGE + 3);
        assert!(cut.ends_with("ä…"));
    }
}
