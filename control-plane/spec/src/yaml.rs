//! YAML with places: a tree of nodes with line and column, within strict limits. What the nodes
//! mean is the business of [`crate::schema`].

mod builder;
mod node;
mod write;

use crate::expression::Value;
use crate::problem::Problem;

pub use node::{Content, Entry, Mark, Node, Scalar};
pub use write::write;

/// What a text may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text.
    pub bytes: usize,
    /// Nesting of lists and maps.
    pub depth: usize,
    /// Scalars, lists and maps of all documents together, each alias counted with all that it
    /// stands for.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 1024 * 1024,
            depth: 64,
            nodes: 100_000,
        }
    }
}

/// Reads all documents of a text; empty ones are left out.
///
/// # Errors
///
/// The first thing that is not YAML, a duplicate key, or the limit that was passed.
pub fn read(text: &str, limits: Limits) -> Result<Vec<Node>, Problem> {
    builder::read(text, limits)
}

/// Reads a text with one document as a value; nothing is `null`.
///
/// # Errors
///
/// As [`read`], and when there are several documents.
pub fn read_value(text: &str, limits: Limits) -> Result<Value, Problem> {
    let mut documents = read(text, limits)?.into_iter();
    match (documents.next(), documents.next()) {
        (None, _) => Ok(Value::Null),
        (Some(node), None) => Ok(node.to_value()),
        (Some(_), Some(second)) => Err(Problem::new(
            &second.mark.place(""),
            "expected one YAML document, found another one",
        )),
    }
}

#[cfg(test)]
mod tests;
