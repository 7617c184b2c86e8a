//! What is wrong with a file, or worth a warning: with its place, for people and for programs.

use std::fmt;

use muster_spec::{compile, problem::Problem};
use serde::Serialize;

use crate::terminal::escape;

/// One finding; as JSON an interface for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The file, or `standard input`.
    pub(crate) file: String,
    /// Line, from 1; 0 when it is about the whole file.
    pub(crate) line: usize,
    /// Column, from 1; 0 when it is about the whole file.
    pub(crate) column: usize,
    /// Name of the document, in files with several of them.
    pub(crate) document: String,
    /// Path of the field.
    pub(crate) path: String,
    /// What was found and what is allowed.
    pub(crate) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cure: Option<String>,
}

impl Finding {
    /// One of `muster_spec`.
    pub(crate) fn new(file: &str, problem: &Problem) -> Self {
        Self {
            line: problem.place.line,
            column: problem.place.column,
            document: problem.place.document.to_string(),
            path: problem.place.path.to_string(),
            cure: problem.cure.clone(),
            ..Self::of_file(file, &problem.message)
        }
    }

    /// One about a whole file.
    pub(crate) fn of_file(file: &str, message: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            document: String::new(),
            path: String::new(),
            message: message.to_owned(),
            cure: None,
        }
    }

    /// Whether another one tells the same, of a template by itself or where it is used.
    pub(crate) fn tells_same(&self, other: &Self) -> bool {
        (&self.file, self.line, self.column) == (&other.file, other.line, other.column)
            && compile::without_chain(&self.message) == compile::without_chain(&other.message)
    }
}

/// `file:line:column: document: path: message; cure`, without what may steer a terminal.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.file.clone();
        if self.line > 0 {
            line.push_str(&format!(":{}", self.line));
        }
        if self.column > 0 {
            line.push_str(&format!(":{}", self.column));
        }
        for part in [&self.document, &self.path] {
            if !part.is_empty() {
                line.push_str(&format!(": {part}"));
            }
        }
        line.push_str(&format!(": {}", self.message));
        if let Some(cure) = &self.cure {
            line.push_str(&format!("; {cure}"));
        }
        f.write_str(&escape::visible(&line))
    }
}
