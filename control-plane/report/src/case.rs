//! A case: one test as one report tells of it. How it is named over runs is in `identity`, how
//! several tellings become one in `fold`.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// One test of a report. All texts are valid UTF-8 without NUL, and bounded by
/// [`Limits`](crate::Limits).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Case {
    /// The suites around it, the outermost first, put together by ` > `.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub suite: String,
    /// Its class, module, package or feature file; empty if the tool tells none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// Its name as the tool writes it, with parameters.
    pub name: String,
    /// The parameters that the tool's convention puts into the name: `1-2` of pytest's `sum[1-2]`.
    /// Of a scenario outline its number among those of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// What else sets it apart from the same test in the same run: the project of Playwright, the
    /// browser.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Property>,
    /// The file that it stands in, as the tool writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in that file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// How it ended.
    pub state: State,
    /// It passed after a try that did not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub flaky: bool,
    /// How often it was tried; at least 1.
    pub tries: u32,
    /// How long it took, the last try if the tool tells them apart.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_seconds"
    )]
    pub duration: Option<Duration>,
    /// When it began. A time without a zone is taken for UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Why it did not pass, in a line or a few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The type of an exception, or the tool's word for the kind of a skip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The whole account of a failure; head and tail if it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Where its output stands in the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// Paths of files that belong to it, as the tool writes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<String>,
    /// Further properties, in the order of the report.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should.
    #[default]
    Passed,
    /// It did not run, is not written yet, or fails as it is known to.
    Skipped,
    /// What it checks does not hold.
    Failed,
    /// It could not check: an exception, a set-up, a time limit, a build.
    Error,
}

impl State {
    /// Whether someone has to look at it.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Error)
    }

    /// Its name in a row of a store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Error => "error",
        }
    }
}

/// A name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Property {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Bytes of the file that hold output: XML text with its entities and CDATA marks, which
/// [`output_text`](crate::output_text) takes away. Only of files in UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Output {
    /// What it was written to.
    pub stream: Stream,
    /// The first byte.
    pub start: u64,
    /// The byte after the last one.
    pub end: u64,
}

/// What output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

pub(crate) fn optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_f64(duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}
