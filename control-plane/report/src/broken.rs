//! Why a report could not be read to its end, and where. Not here: failures of the caller's reader,
//! which say nothing of the report.

use std::{fmt, io};

use serde::Serialize;

/// A report that breaks. What stood before the place was read and handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Broken {
    /// What is wrong.
    pub reason: Reason,
    /// Where it was noticed.
    pub place: Place,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line, from 1.
    pub line: u64,
    /// The byte in the file, from 0. `None` when the file is not UTF-8, as places in it are counted
    /// after it is decoded, and in JSON, whose reader counts lines.
    pub offset: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        match self.offset {
            Some(offset) => write!(f, " (byte {offset})"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// There is nothing, or only white space.
    #[error("the report is empty; did the tool write it to the end?")]
    Empty,
    /// Something else stands before the report.
    #[error(
        "text stands before the first element: `{0}`; let the tool write the report to a file of its own"
    )]
    TextBefore(String),
    /// It is something else than it was taken for.
    #[error("{found} where {expected} is expected")]
    Unexpected {
        /// What is there.
        found: String,
        /// What the format asks for.
        expected: &'static str,
    },
    /// It stops too early.
    #[error("the report ends {0}; was the tool ended while it wrote?")]
    Truncated(String),
    /// The tool gave up, and says so.
    #[error("the tool gave up: {0}")]
    BailedOut(String),
    /// It breaks the rules of its format.
    #[error("{0}")]
    Malformed(String),
    /// It is beyond one of [`Limits`](crate::Limits).
    #[error("more than {most} {what}: the limit `{name}`")]
    Limit {
        /// The field of [`Limits`](crate::Limits).
        name: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many are allowed.
        most: u64,
    },
}

/// Why reading stops: the report is broken, or the reader is.
#[derive(Debug)]
pub(crate) enum Fault {
    Broken(Broken),
    Io(io::Error),
}

/// What a step of reading gives.
pub(crate) type Step<T> = Result<T, Fault>;

impl Place {
    /// A fault here.
    pub(crate) fn fault(self, reason: Reason) -> Fault {
        Fault::Broken(Broken {
            reason,
            place: self,
        })
    }

    /// A limit is passed here.
    pub(crate) fn limit(self, name: &'static str, what: &'static str, most: usize) -> Fault {
        self.fault(Reason::Limit {
            name,
            what,
            most: u64::try_from(most).unwrap_or(u64::MAX),
        })
    }

    /// Rules of the format are broken here.
    pub(crate) fn malformed(self, text: impl Into<String>) -> Fault {
        self.fault(Reason::Malformed(text.into()))
    }
}
