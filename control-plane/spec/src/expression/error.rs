//! What can be wrong with an expression.

use super::print;
use super::tree::Tree;

/// Why an expression or a template is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not follow the grammar.
    #[error("{message} at character {offset} of `{text}`{advice}")]
    Syntax {
        /// What was expected or found.
        message: String,
        /// Character in the text, from 1.
        offset: usize,
        /// The text, shortened.
        text: String,
        /// What to do, or nothing.
        advice: &'static str,
    },
    /// It is larger than allowed.
    #[error("expression too large: {0}")]
    Limit(&'static str),
    /// A variable or function that does not exist here, or is not allowed.
    #[error("{0}")]
    Refused(String),
    /// Something that must be known by now is not.
    #[error("`{0}` is not known here")]
    Unresolved(String),
    /// An operation that its operands do not allow.
    #[error("{0}")]
    Operation(String),
}

impl Error {
    pub(super) fn syntax(text: &str, at: usize, message: impl Into<String>) -> Self {
        Self::Syntax {
            message: message.into(),
            offset: text.get(..at).map_or(0, |before| before.chars().count()) + 1,
            text: shorten(text, at),
            advice: "",
        }
    }

    pub(super) fn unresolved(tree: &Tree) -> Self {
        Self::Unresolved(print::print(tree).chars().take(200).collect())
    }

    pub(super) fn operation(message: impl Into<String>) -> Self {
        Self::Operation(message.into())
    }

    /// Whether the limits were hit: then nothing may be swallowed.
    pub(super) fn is_limit(&self) -> bool {
        matches!(self, Self::Limit(_))
    }
}

/// The line around the offset, at most 60 characters.
fn shorten(text: &str, at: usize) -> String {
    let start = text.get(..at).map_or(0, |before| {
        before.rfind('\n').map_or(0, |newline| newline + 1)
    });
    let line = text.get(start..).unwrap_or(text);
    let line = line.split('\n').next().unwrap_or(line);
    let mut short: String = line.chars().take(60).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}
