//! What a report says as a whole.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    case::{Case, Output, Property, State, optional_seconds},
    format::Format,
    metric::{Metric, Threshold},
    warning::Warning,
};

/// What a report says as a whole. Counts are of the cases that were handed out: what a report claims
/// of itself in attributes is not looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// What it is.
    pub format: Format,
    /// The tool, if the report tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Its cases by state.
    pub counts: Counts,
    /// How long all took: as told, else the sum of the suites, else of the cases.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_seconds"
    )]
    pub duration: Option<Duration>,
    /// The earliest time that is told. A time without a zone is taken for UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Properties of suites that say something of the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    /// Output of whole suites, where a tool does not tell it by case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<SuiteOutput>,
    /// Metrics of a load test.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Conditions on them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Threshold>,
    /// What was cut, left out or found odd; one entry for each kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

impl Summary {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            tool: None,
            counts: Counts::default(),
            duration: None,
            started: None,
            properties: Vec::new(),
            outputs: Vec::new(),
            metrics: Vec::new(),
            thresholds: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// Cases by state, as they were handed out: before equal ones are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Passed, flaky ones as well.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// With an error.
    pub errors: u64,
    /// Skipped.
    pub skipped: u64,
    /// Those of the passed that are flaky.
    pub flaky: u64,
}

impl Counts {
    /// All cases.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.passed + self.failed + self.errors + self.skipped
    }

    /// Counts one more.
    pub fn add(&mut self, case: &Case) {
        let count = match case.state {
            State::Passed => &mut self.passed,
            State::Failed => &mut self.failed,
            State::Error => &mut self.errors,
            State::Skipped => &mut self.skipped,
        };
        *count += 1;
        self.flaky += u64::from(case.flaky);
    }
}

/// Where the output of a whole suite stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuiteOutput {
    /// The suite, as [`Case::suite`] names it.
    pub suite: String,
    /// Where.
    pub output: Output,
}
