//! What expressions may ask of a rerun: which execution is run again, and the tests that it failed, in
//! words that test tools take. Words for each tool are in `tool`.
//!
//! A filter that leaves a failed test out would let a rerun pass that must not. So each tool gets all
//! failed tests of the reports that are of its kind, or no filter at all.

mod tool;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use tool::{Kind, Tool};

/// The variable's first name.
pub const NAME: &str = "rerun";
/// Longest words for one tool, in bytes: a kernel takes no argument beyond 128 KiB.
const MOST_BYTES: usize = 64 << 10;

/// An execution that is run again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rerun {
    /// Name of the earlier execution; empty when nothing is run again.
    pub of: String,
    /// The tests that it failed, when they are known to be all, and those that it skipped beside them.
    pub tests: Vec<FailedTest>,
}

/// A test that did not pass, or was skipped where another one did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedTest {
    /// Path of the report that tells of it.
    pub report: String,
    /// Format of that report: `junit`, `go-test`, ….
    pub format: String,
    /// The suites around it.
    pub suite: String,
    /// Its class, module or file.
    pub class: String,
    /// Its name.
    pub name: String,
    /// The file that it stands in.
    pub file: Option<String>,
}

/// All names below `rerun`.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let tools = Tool::ALL.into_iter().map(Tool::name);
    ["of", "tests"].into_iter().chain(tools)
}

impl Rerun {
    /// The variable: `rerun.of`, `rerun.tests`, and words of a shell for each tool.
    #[must_use]
    pub fn value(&self) -> Value {
        let mut value = Map::new();
        value.insert("of".to_owned(), Value::from(self.of.as_str()));
        value.insert("tests".to_owned(), self.tests.iter().map(told).collect());
        for tool in Tool::ALL {
            let words = self.words(tool).unwrap_or_default();
            value.insert(tool.name().to_owned(), Value::from(words));
        }
        Value::Object(value)
    }

    /// Why tools get no filter, as far as that is not plain.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (report, kind) in self.reports() {
            if kind.is_none() {
                remarks.push(format!(
                    "no failed tests are handed to tools: {report} has tests of several kinds"
                ));
            }
        }
        for tool in Tool::ALL {
            if let Err(bytes) = self.words(tool) {
                remarks.push(format!(
                    "all tests run where `rerun.{}` is used: the {} that failed or were skipped need {bytes} bytes, \
                     at most {MOST_BYTES} are handed to a tool",
                    tool.name(),
                    self.tests.len(),
                ));
            }
        }
        remarks
    }

    /// Reports by path, with the kind that all their tests have.
    fn reports(&self) -> BTreeMap<&str, Option<Kind>> {
        let mut reports = BTreeMap::new();
        for test in &self.tests {
            let kind = Some(Kind::of(test));
            let known = reports.entry(test.report.as_str()).or_insert(kind);
            if *known != kind {
                *known = None;
            }
        }
        reports
    }

    /// Words for a tool, nothing when it gets no filter; how long they are when that is too long.
    fn words(&self, tool: Tool) -> Result<String, usize> {
        let reports = self.reports();
        if reports.values().any(Option::is_none) {
            return Ok(String::new());
        }
        let is_its =
            |test: &&FailedTest| reports.get(test.report.as_str()) == Some(&Some(tool.kind()));
        let tests: Vec<&FailedTest> = self.tests.iter().filter(is_its).collect();
        let words = tool.words(&tests).unwrap_or_default();
        match words.len() {
            bytes if bytes > MOST_BYTES => Err(bytes),
            _ => Ok(words),
        }
    }
}

fn told(test: &FailedTest) -> Value {
    json!({
        "report": test.report,
        "suite": test.suite,
        "class": test.class,
        "name": test.name,
        "file": test.file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(report: &str, class: &str, name: &str) -> FailedTest {
        FailedTest {
            report: report.to_owned(),
            format: "junit".to_owned(),
            class: class.to_owned(),
            name: name.to_owned(),
            ..FailedTest::default()
        }
    }

    fn rerun(tests: Vec<FailedTest>) -> Rerun {
        Rerun {
            of: "smoke-3".to_owned(),
            tests,
        }
    }

    #[test]
    fn without_failed_tests_no_tool_gets_a_filter() {
        let value = Rerun::default().value();
        for tool in Tool::ALL {
            assert_eq!(value[tool.name()], "");
        }
        assert_eq!(value["of"], "");
        assert_eq!(value["tests"], json!([]));
    }

    #[test]
    fn each_tool_gets_the_tests_of_its_kind() {
        let rerun = rerun(vec![
            test("py.xml", "tests.test_login.TestIt", "test_a[x y]"),
            test("js.xml", "login works", "login › works (twice)"),
        ]);
        let value = rerun.value();
        assert_eq!(
            value["pytest"],
            "'tests/test_login.py::TestIt::test_a[x y]'"
        );
        assert_eq!(value["jest"], r"-t '(?:login.+works\s+\(twice\))'");
        assert_eq!(value["maven"], "");
        assert_eq!(value["tests"][0]["report"], "py.xml");
        assert_eq!(rerun.remarks(), Vec::<String>::new());
    }

    #[test]
    fn a_report_of_several_kinds_gives_no_filter_to_anybody() {
        let rerun = rerun(vec![
            test("py.xml", "tests.test_login", "test_a"),
            test("all.xml", "tests.test_login", "test_b"),
            test("all.xml", "", "something else"),
        ]);
        assert_eq!(rerun.value()["pytest"], "");
        assert_eq!(rerun.remarks().len(), 1);
    }

    #[test]
    fn what_is_too_long_is_no_filter_and_said() {
        let many =
            (0..2000).map(|n| test("py.xml", "test_a", &format!("test_{n}_{}", "x".repeat(40))));
        let rerun = rerun(many.collect());
        assert_eq!(rerun.value()["pytest"], "");
        let remarks = rerun.remarks();
        assert!(remarks[0].contains("rerun.pytest"), "{remarks:?}");
        assert_eq!(remarks.len(), 1);
    }
}
