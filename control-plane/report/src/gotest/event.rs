//! An event of `test2json`, as `go doc test2json` and `go help buildjson` describe it.

use crate::json::{loose, object};

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

object! {
    /// One event.
    pub(crate) struct Event {
        time: loose::Text = "Time",
        action: loose::Text = "Action",
        package: loose::Text = "Package",
        import_path: loose::Text = "ImportPath",
        test: loose::Text = "Test",
        output: loose::Text = "Output",
        elapsed: loose::Number = "Elapsed",
        failed_build: loose::Text = "FailedBuild",
    }
}

impl Event {
    /// Reads a line; `None` if it is no event.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        // Go replaces bytes that are not valid, but what writes beside it may not.
        let text = String::from_utf8_lossy(line);
        let event: Self = serde_json::from_str(&text).ok()?;
        let told = event.package.0.is_some() || event.import_path.0.is_some();
        (told && ACTIONS.contains(&event.action())).then_some(event)
    }

    /// What happened.
    pub(crate) fn action(&self) -> &str {
        self.action.0.as_deref().unwrap_or_default()
    }
}
