//! An event of `test2json`, as `go doc test2json` and `go help buildjson` describe it.

use serde::Deserialize;

use crate::json::loose;

/// Actions that are known, of tests and of builds.
const ACTIONS: [&str; 12] = [
    "start",
    "run",
    "pause",
    "cont",
    "pass",
    "bench",
    "fail",
    "output",
    "skip",
    "attr",
    "build-output",
    "build-fail",
];

/// One event.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Event {
    #[serde(deserialize_with = "loose::text")]
    pub(crate) time: Option<String>,
    pub(crate) action: String,
    #[serde(deserialize_with = "loose::text")]
    pub(crate) package: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    pub(crate) import_path: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    pub(crate) test: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    pub(crate) output: Option<String>,
    #[serde(deserialize_with = "loose::number")]
    pub(crate) elapsed: Option<f64>,
    #[serde(deserialize_with = "loose::text")]
    pub(crate) failed_build: Option<String>,
}

impl Event {
    /// Reads a line; `None` if it is no event.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        // Go replaces bytes that are not valid, but what writes beside it may not.
        let text = String::from_utf8_lossy(line);
        let event: Self = serde_json::from_str(&text).ok()?;
        let told = event.package.is_some() || event.import_path.is_some();
        (told && ACTIONS.contains(&event.action.as_str())).then_some(event)
    }
}
