//! Each limit holds, and says its name and the place. What else can be wrong with a report is in
//! `broken.rs`.

#![expect(
    clippy::expect_used,
    reason = "helpers of tests stand outside of test functions"
)]

use muster_report::{Case, Format, Limits, Outcome};

#[path = "support/told.rs"]
mod told;

use told::{CASE, broken, rows, warnings};

fn junit(body: &str, limits: &Limits) -> (Vec<Case>, Outcome) {
    rows(
        Format::Junit,
        &format!("<testsuite name=\"s\">\n{body}\n</testsuite>\n"),
        limits,
    )
}

#[test]
fn bytes() {
    let limits = Limits {
        bytes: 100,
        ..Limits::default()
    };
    let text = format!("<testsuite>\n{}", CASE.repeat(10));
    assert_eq!(
        broken(Format::Junit, &text, &limits),
        (
            "line 4 (byte 100): more than 100 bytes: the limit `bytes`".to_owned(),
            2
        )
    );
    let tap = "TAP version 13\n".to_owned() + &"ok - a\n".repeat(20);
    let (said, cases) = broken(Format::Tap, &tap, &limits);
    assert!(said.contains("the limit `bytes`"), "{said}");
    assert_eq!(cases, 12);
    let json = format!(
        "{{\"results\": {{\"tests\": [{}",
        "{\"name\": \"a\"},\n".repeat(10)
    );
    let (said, cases) = broken(Format::Ctrf, &json, &limits);
    assert_eq!(
        said,
        "line 6 (byte 100): more than 100 bytes: the limit `bytes`"
    );
    assert_eq!(cases, 5);
    let csv = format!("timeStamp,elapsed,label\n{}", "1,2,x\n".repeat(100));
    let (said, _) = broken(Format::JtlCsv, &csv, &limits);
    assert!(said.contains("the limit `bytes`"), "{said}");
}

#[test]
fn depth() {
    let limits = Limits::default();
    let suites = "<testsuite>".repeat(70);
    assert_eq!(
        broken(Format::Junit, &suites, &limits).0,
        "line 1 (byte 715): more than 64 levels: the limit `depth`"
    );
    for format in [Format::Ctrf, Format::Cucumber, Format::K6Summary] {
        let open = format!("{{\"a\":\n{}", "[".repeat(1_000_000));
        let open = if format == Format::Cucumber {
            &open[5..]
        } else {
            &open
        };
        assert_eq!(
            broken(format, open, &limits).0,
            "line 2: more than 64 levels: the limit `depth`"
        );
    }
    let subtests: String = (0..70)
        .map(|depth| format!("{}# Subtest: a\n", "    ".repeat(depth)))
        .collect();
    let (said, _) = broken(Format::Tap, &subtests, &limits);
    assert_eq!(
        said,
        "line 66 (byte 9165): more than 64 levels: the limit `depth`"
    );
}

#[test]
fn cases() {
    let limits = Limits {
        cases: 3,
        ..Limits::default()
    };
    let (cases, outcome) = junit(&CASE.repeat(4), &limits);
    assert_eq!((cases.len(), outcome.summary.counts.total()), (3, 3));
    assert_eq!(
        outcome.broken.expect("it breaks").to_string(),
        "line 5 (byte 160): more than 3 cases: the limit `cases`"
    );
    // The parser is at the next item already.
    let tests = "{\"name\": \"a\"},\n".repeat(4);
    assert_eq!(
        broken(
            Format::Ctrf,
            &format!("{{\"results\": {{\"tests\": [{tests}"),
            &limits
        ),
        ("line 5: more than 3 cases: the limit `cases`".to_owned(), 3)
    );
    let feature = format!("[{{\"name\": \"f\", \"elements\": [{tests}");
    let (said, _) = broken(Format::Cucumber, &feature, &limits);
    assert_eq!(said, "line 5: more than 3 cases: the limit `cases`");
    let events = "{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"T\"}\n".repeat(4);
    let (said, cases) = broken(Format::GoTest, &events, &limits);
    assert_eq!(
        said,
        "line 4 (byte 129): more than 3 cases: the limit `cases`"
    );
    assert_eq!(cases, 3);
}

#[test]
fn attributes() {
    let many: String = (0..70).map(|n| format!(" a{n}=''")).collect();
    let (said, cases) = broken(
        Format::Junit,
        &format!("<testsuite>{CASE}<testcase{many}/>"),
        &Limits::default(),
    );
    assert_eq!(
        said,
        "line 2 (byte 494): more than 64 attributes: the limit `attributes`"
    );
    assert_eq!(cases, 1);
}

#[test]
fn attribute_and_message_and_name() {
    let limits = Limits {
        attribute: 50,
        message: 20,
        name: 40,
        ..Limits::default()
    };
    let long = "é".repeat(40);
    let case = format!("<testcase name='{long}'><failure message='{long}'/></testcase>");
    let (cases, outcome) = junit(&case.repeat(2), &limits);
    assert_eq!(cases[0].message.as_deref(), Some("éééééééééé"));
    assert!(cases[0].name.len() <= 40 && cases[0].name.contains('…'));
    assert_eq!(
        warnings(&outcome),
        [
            "2 names were cut at 40 bytes",
            "2 messages were cut at 20 bytes",
            "4 attributes were cut at 50 bytes"
        ]
    );
}

#[test]
fn stack_keeps_head_and_tail() {
    let limits = Limits {
        stack: 20,
        ..Limits::default()
    };
    let text = format!("head {}tail", "x".repeat(100_000));
    let case = format!("<testcase name='a'><failure>{text}</failure></testcase>");
    let (cases, outcome) = junit(&case, &limits);
    assert_eq!(
        cases[0].stack.as_deref(),
        Some("head xxxxx\n… 99989 bytes are cut here …\nxxxxxxtail")
    );
    assert_eq!(warnings(&outcome), ["1 stacks were cut at 20 bytes"]);
}

#[test]
fn attachments_properties_paths_and_outputs() {
    let limits = Limits {
        attachments: 2,
        properties: 1,
        property: 3,
        path: 8,
        outputs: 1,
        ..Limits::default()
    };
    let case = "<testcase name='a' file='far/too/long'><properties>\
        <property name='p' value='abcdef'/><property name='q' value='b'/></properties>\
        <system-out>[[ATTACHMENT|a]]\n[[ATTACHMENT|b]]\n[[ATTACHMENT|c]]\n</system-out>\
        <system-out>more</system-out></testcase>";
    let (cases, outcome) = junit(case, &limits);
    assert_eq!(cases[0].attachments, ["a", "b"]);
    assert_eq!(cases[0].properties.len(), 1);
    assert_eq!(cases[0].outputs.len(), 1);
    assert_eq!(cases[0].file, None);
    assert_eq!(
        warnings(&outcome),
        [
            "1 paths were left out, longer than 8 bytes",
            "1 properties were cut at 3 bytes",
            "1 attachments were left out, more than 2",
            "1 properties were left out, more than 1",
            "1 outputs were left out, more than 1"
        ]
    );
}

#[test]
fn long_lines_of_go_are_skipped_and_of_tap_cut() {
    let limits = Limits {
        line: 80,
        ..Limits::default()
    };
    let event = |action: &str, output: &str| {
        format!(
            "{{\"Action\":\"{action}\",\"Package\":\"p\",\"Test\":\"T\",\"Output\":\"{output}\"}}\n"
        )
    };
    let text = event("run", "") + &event("output", &"x".repeat(200)) + &event("pass", "");
    let (cases, outcome) = rows(Format::GoTest, &text, &limits);
    assert_eq!(cases.len(), 1);
    assert_eq!(
        warnings(&outcome),
        ["1 lines were skipped, longer than 80 bytes"]
    );
    let tap = format!("1..2\nok 1 - {}\nok 2\n", "x".repeat(200));
    let (cases, outcome) = rows(Format::Tap, &tap, &limits);
    assert_eq!((cases.len(), outcome.broken), (2, None));
}

#[test]
fn open_tests_of_go() {
    let limits = Limits {
        open: 3,
        ..Limits::default()
    };
    let text: String = (0..9)
        .map(|n| format!("{{\"Action\":\"run\",\"Package\":\"p\",\"Test\":\"T{n}\"}}\n"))
        .collect();
    assert_eq!(
        broken(Format::GoTest, &text, &limits).0,
        "line 4 (byte 129): more than 3 tests that run at the same time: the limit `open`"
    );
}

#[test]
fn values_and_metrics() {
    let limits = Limits {
        values: 100,
        metrics: 2,
        ..Limits::default()
    };
    let text = format!("{{\"metrics\": [\n{}", "1,".repeat(200));
    assert_eq!(
        broken(Format::K6Summary, &text, &limits).0,
        "line 2: more than 100 values in a document: the limit `values`"
    );
    let text = r#"{"metrics": {"a": {"count": 1, "rate": 2}, "b": {"count": 3, "rate": 4}}}"#;
    let (_, outcome) = rows(Format::K6Summary, text, &limits);
    assert_eq!(outcome.summary.metrics.len(), 2);
    assert_eq!(warnings(&outcome), ["2 metrics were left out, more than 2"]);
    let samples = "timeStamp,elapsed,label\n1,2,a\n1,2,b\n1,2,c\n";
    let (_, outcome) = rows(Format::JtlCsv, samples, &limits);
    assert_eq!(outcome.summary.metrics.len(), 2);
}

#[test]
fn entities_expand_to_nothing_and_read_no_file() {
    let laughs = "<?xml version=\"1.0\"?>\n<!DOCTYPE testsuite [\n\
        <!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;\">\n\
        <!ENTITY f SYSTEM \"file:///etc/passwd\"><!ENTITY % p SYSTEM \"http://x.test/p\">%p;]>\n\
        <testsuite><testcase name=\"&c;&f;\"><failure>&c;&f;</failure></testcase></testsuite>";
    let (cases, outcome) = rows(Format::Junit, laughs, &Limits::default());
    assert_eq!(cases[0].name, "&c;&f;");
    assert_eq!(cases[0].message.as_deref(), Some("&c;&f;"));
    assert_eq!(outcome.broken, None);
    assert_eq!(
        warnings(&outcome),
        ["1 DOCTYPE was passed over, its entities are not expanded"]
    );
}
