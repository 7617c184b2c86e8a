//! Reports as tools write them, and what becomes of each. Most were written by the tools themselves on
//! a small project, the others by hand after what the tools document; times and paths were made
//! neutral.

#![expect(
    clippy::expect_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::{fs, path::Path};

use muster_report::{Case, Format, Limits, Outcome, fold, parse, recognise};
use serde_json::json;

fn read(file: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    fs::read(folder.join(file)).expect("a sample")
}

fn rows(format: Format, bytes: &[u8]) -> (Vec<Case>, Outcome) {
    let mut cases = Vec::new();
    let outcome = parse(format, bytes, &Limits::default(), &mut |case| {
        cases.push(case);
    });
    (cases, outcome.expect("bytes can be read"))
}

/// Recognises a sample without its name, reads it, and compares what it gives.
fn check(file: &str, format: Format) {
    let bytes = read(file);
    assert_eq!(recognise(&bytes, ""), Some(format), "{file}");
    let (cases, outcome) = rows(format, &bytes);
    let told = u64::try_from(cases.len()).expect("few");
    assert_eq!(outcome.summary.counts.total(), told);
    let folded = fold(cases.clone(), &Limits::default()).len();
    insta::with_settings!({snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_json_snapshot!(file.replace('.', "_"), json!({
            "summary": outcome.summary,
            "broken": outcome.broken.map(|broken| broken.to_string()),
            "cases": cases,
            "folded": folded,
        }));
    });
}

macro_rules! samples {
    ($($test:ident: $file:literal is $format:ident,)*) => {$(
        #[test]
        fn $test() {
            check($file, Format::$format);
        }
    )*};
}

samples! {
    pytest: "pytest.xml" is Junit,
    surefire: "surefire.xml" is Junit,
    gradle: "gradle.xml" is Junit,
    jest: "jest.xml" is Junit,
    vitest: "vitest.xml" is Junit,
    mocha: "mocha.xml" is Junit,
    cypress: "cypress.xml" is Junit,
    playwright: "playwright.xml" is Junit,
    node: "node.xml" is Junit,
    nextest: "nextest.xml" is Junit,
    gotestsum: "gotestsum.xml" is Junit,
    go_junit_report: "go-junit-report.xml" is Junit,
    dotnet_junit_logger: "dotnet-junit-logger.xml" is Junit,
    odd: "odd.xml" is Junit,
    nunit: "nunit3.xml" is Nunit,
    xunit: "xunit2.xml" is Xunit,
    node_tap_reporter: "node.tap" is Tap,
    node_tap: "node-tap.tap" is Tap,
    perl: "perl.tap" is Tap,
    go_test: "go-test.jsonl" is GoTest,
    cucumber_js: "cucumber-js.json" is Cucumber,
    cucumber_jvm: "cucumber-jvm.json" is Cucumber,
    ctrf_jest: "ctrf-jest.json" is Ctrf,
    ctrf_playwright: "ctrf-playwright.json" is Ctrf,
    k6_handle_summary: "k6-handle-summary.json" is K6Summary,
    k6_summary_export: "k6-summary-export.json" is K6Summary,
    artillery: "artillery.json" is Artillery,
    jmeter_statistics: "jmeter-statistics.json" is JmeterStatistics,
    jmeter_csv: "jmeter.csv" is JtlCsv,
    jmeter_xml: "jmeter.jtl" is JtlXml,
}

#[test]
fn every_sample_is_checked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let count = fs::read_dir(folder).unwrap().count();
    assert_eq!(count, 30, "a sample without a test, or the other way round");
}
