//! What is wrong with a manifest, where, and what to do about it. Not errors of expressions
//! themselves: those have no place in a file ([`crate::expression::Error`]).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Most problems that are reported of one file.
pub const MAX_PROBLEMS: usize = 50;

/// A place in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Place {
    /// Line, from 1; 0 when there is none.
    pub line: usize,
    /// Column, from 1; 0 when there is none.
    pub column: usize,
    /// Document and field path, such as `spec.steps[2].run.image`.
    pub path: Arc<str>,
    /// Name of the document, for files with several of them; empty when not known.
    pub document: Arc<str>,
    /// What stands there asks for what is not known while a document is checked by itself, such as
    /// parameters without a value: what is wrong with it can not be told yet.
    #[serde(skip)]
    pub open: bool,
}

impl Place {
    /// A place at the beginning of a document.
    #[must_use]
    pub fn document(name: &str) -> Self {
        Self {
            document: name.into(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if self.line > 0 {
            write!(f, "line {}, column {}", self.line, self.column)?;
            separator = ", ";
        }
        if !self.document.is_empty() {
            write!(f, "{separator}{}", self.document)?;
            separator = ", ";
        }
        if !self.path.is_empty() {
            write!(f, "{separator}{}", self.path)?;
        }
        Ok(())
    }
}

/// One thing that is wrong, or worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What was found and what is allowed.
    pub message: String,
    /// What to do, when that is not plain from the message.
    pub cure: Option<String>,
    /// What is missing, when that is all.
    pub missing: Option<Box<Missing>>,
}

/// What a document may be without, since others can bring it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A template of this name: it may be stored.
    Template(String),
    /// A value for a parameter of the workflow: who runs it may give one.
    Value,
}

impl Problem {
    /// A problem without a cure of its own.
    pub fn new(place: &Place, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            message: message.into(),
            cure: None,
            missing: None,
        }
    }

    /// A problem told by a text that may end with its advice: ``what; did you mean `that`?``.
    #[must_use]
    pub fn of_text(place: &Place, text: &str) -> Self {
        match text.rfind("; did you mean `") {
            Some(at) => Self::new(place, &text[..at]).with_cure(&text[at + 2..]),
            None => Self::new(place, text),
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.to_string();
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(cure) = &self.cure {
            write!(f, "; {cure}")?;
        }
        Ok(())
    }
}

/// All that is wrong with a file or a workflow, in the order of the file; at most
/// [`MAX_PROBLEMS`].
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds one, unless there are enough of them to work on.
    pub fn push(&mut self, problem: Problem) {
        if !self.is_full() && !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Whether no more are taken: looking for advice is in vain then.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_PROBLEMS
    }

    /// Adds those of a later look at the same document: not at places where something is wrong
    /// already or that are open, since they may come of that.
    pub fn follow(&mut self, later: Self) {
        let mut places: HashSet<Place> = self.0.iter().map(|one| one.place.clone()).collect();
        places.remove(&Place::default());
        for problem in later {
            if !problem.place.open && !places.contains(&problem.place) {
                self.push(problem);
            }
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
