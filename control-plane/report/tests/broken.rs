//! Reports that break off, are something else, or are odd: what came before is kept, and the reason is
//! told. Limits are in `limits.rs`.

#![expect(
    clippy::expect_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::io::{self, Read};

use muster_report::{Format, Limits, State, parse};

#[path = "support/told.rs"]
mod told;

use told::{CASE, broken, rows, warnings};

#[test]
fn odd_json_is_read_as_far_as_it_can_be() {
    let huge = "x".repeat(3_000_000);
    let text = format!(
        "{{\"other\": \"{huge}\", \"results\": {{\"tests\": [\
         {{\"name\": \"a\", \"name2\": 1e999, \"duration\": 1e999, \"status\": \"passed\", \"line\": \"12\"}},\
         {{\"name\": 5, \"duration\": {}, \"status\": \"failed\", \"message\": \"{huge}\", \"suite\": {{}}}},\
         {{\"name\": \"c\", \"duration\": -1, \"status\": [], \"attachments\": [{{\"path\": null}}]}}\
         ]}}}} trailing",
        "9".repeat(500),
    );
    let (cases, outcome) = rows(Format::Ctrf, &text, &Limits::default());
    assert_eq!(outcome.broken, None);
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["a", "5", "c"]);
    assert_eq!(cases[0].line, Some(12));
    assert!(cases.iter().all(|case| case.duration.is_none()));
    assert_eq!(cases[1].message.as_ref().map(String::len), Some(4096));
    assert_eq!(cases[2].state, State::Error);
    // A key that comes twice is read twice.
    let twice = r#"{"results": {"tests": [{"name": "a"}], "tests": [{"name": "b"}]}}"#;
    assert_eq!(rows(Format::Ctrf, twice, &Limits::default()).0.len(), 2);
}

#[test]
fn keys_that_come_twice_and_members_without_a_value_break_nothing() {
    let limits = Limits::default();
    let ctrf = r#"{"results": {"tool": null, "tests": [{"name": "a", "name": "b", "tags": null, "attachments": "x"}]}}"#;
    let (cases, outcome) = rows(Format::Ctrf, ctrf, &limits);
    assert_eq!((cases[0].name.as_str(), outcome.broken), ("b", None));
    let cucumber = r#"[{"elements": null}, {"uri": "u", "uri": "v", "elements": [
        {"name": "n", "before": null, "steps": [{"result": null}, {"result": {"status": "passed"}, "name": {}}]}]}]"#;
    let (cases, outcome) = rows(Format::Cucumber, cucumber, &limits);
    assert_eq!((cases[0].class.as_str(), outcome.broken), ("v", None));
    let go = r#"{"Action":"run","Action":"pass","Package":"p","Test":"T","Time":null}"#;
    assert_eq!(rows(Format::GoTest, go, &limits).0.len(), 1);
}

#[test]
fn an_error_does_not_repeat_what_is_long() {
    let huge = "x".repeat(3_000_000);
    for (format, text) in [
        (Format::Cucumber, format!("[\"{huge}\"]")),
        (Format::Ctrf, format!("{{\"results\": \"{huge}\"}}")),
        (Format::Junit, huge.clone()),
        (Format::Junit, format!("<{huge}")),
        (Format::Tap, format!("Bail out! {huge}")),
    ] {
        let (said, _) = broken(format, &text, &Limits::default());
        assert!(said.len() < 5000, "{format}: {}", said.len());
    }
}

#[test]
fn a_report_that_breaks_off_keeps_what_came_before() {
    let text = format!(
        "<testsuites><testsuite name='s'>{}<testcase name='x'><fail",
        CASE.repeat(2)
    );
    let (cases, outcome) = rows(Format::Junit, &text, &Limits::default());
    assert_eq!(cases.len(), 2);
    assert_eq!(outcome.summary.counts.passed, 2);
    assert_eq!(
        outcome.broken.expect("it breaks").to_string(),
        "line 3 (byte 126): the report ends in a tag; was the tool ended while it wrote?"
    );
    let tap = "TAP version 13\n1..3\nok 1 - a\nnot ok 2 - b\n";
    assert_eq!(
        broken(Format::Tap, tap, &Limits::default()),
        (
            "line 5 (byte 42): the report ends after 2 of 3 tests that are planned; \
             was the tool ended while it wrote?"
                .to_owned(),
            2
        )
    );
    let tap = "1..3\nok 1 - a\nBail out! no database\n";
    assert_eq!(
        broken(Format::Tap, tap, &Limits::default()).0,
        "line 3 (byte 14): the tool gave up: no database"
    );
    let go = "{\"Action\":\"run\",\"Package\":\"p\",\"Test\":\"TestSlow\"}\n";
    assert_eq!(
        broken(Format::GoTest, go, &Limits::default()).0,
        "line 2 (byte 49): the report ends while `TestSlow` of `p` ran; was the tool ended while it wrote?"
    );
    let json = "{\"results\": {\"tests\": [{\"name\": \"a\"},\n{\"na";
    assert_eq!(
        broken(Format::Ctrf, json, &Limits::default()),
        (
            "line 2: the report ends in the middle of a value, at column 4; \
             was the tool ended while it wrote?"
                .to_owned(),
            1
        )
    );
}

#[test]
fn what_is_something_else_says_so() {
    let said = |format, text| broken(format, text, &Limits::default()).0;
    let all = [
        said(Format::Junit, ""),
        said(Format::Ctrf, ""),
        said(Format::Tap, "\n\n"),
        said(Format::GoTest, "no event\n"),
        said(Format::Tap, "no test\n"),
        said(Format::JtlCsv, ""),
        said(Format::JtlCsv, "a,b\n1,2\n"),
        said(Format::Junit, "npm WARN x\n<testsuite/>"),
        said(Format::Junit, "<html></html>"),
        said(Format::Nunit, "<testsuite/>"),
        said(Format::Xunit, "<testsuite/>"),
        said(Format::JtlXml, "<testsuite/>"),
        said(Format::Ctrf, "{}"),
        said(Format::Ctrf, "[]"),
        said(Format::Cucumber, "{}"),
        said(Format::Cucumber, "[1]"),
        said(Format::K6Summary, "{}"),
        said(Format::Artillery, "[]"),
        said(Format::JmeterStatistics, "{\"a\": 1}"),
        said(Format::Ctrf, "{\"a\" 1}"),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn other_encodings_have_cases_and_no_places() {
    let text = "<?xml version='1.0' encoding='UTF-16'?><testsuite>\
        <testcase name='é'><system-out>x</system-out></testcase></testsuite>";
    let mut bytes = vec![0xfe, 0xff];
    bytes.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
    let latin = "<?xml version='1.0' encoding='iso-8859-1'?><testsuite>\
        <testcase name='X'><system-out>x</system-out></testcase></testsuite>";
    let latin: Vec<u8> = latin
        .bytes()
        .map(|b| if b == b'X' { 0xe9 } else { b })
        .collect();
    for bytes in [bytes, latin] {
        let mut cases = Vec::new();
        let sink = &mut |case| cases.push(case);
        let outcome = parse(Format::Junit, &bytes[..], &Limits::default(), sink).unwrap();
        assert_eq!(outcome.broken, None);
        assert_eq!(cases[0].name, "é");
        assert!(cases[0].outputs.is_empty());
    }
}

#[test]
fn bytes_that_are_no_text_become_a_mark() {
    let parts: [(Format, &[u8]); 4] = [
        (
            Format::Junit,
            b"<testsuite><testcase name='a\xff\x00b'/></testsuite>",
        ),
        (
            Format::Ctrf,
            b"{\"results\": {\"tests\": [{\"name\": \"a\xff\\u0000b\"}]}}",
        ),
        (
            Format::GoTest,
            b"{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"a\xff\\u0000b\"}\n",
        ),
        (Format::Tap, b"1..1\nok 1 - a\xff\x00b\n"),
    ];
    for (format, bytes) in parts {
        let mut cases = Vec::new();
        let outcome = parse(format, bytes, &Limits::default(), &mut |case| {
            cases.push(case);
        });
        assert_eq!(outcome.unwrap().broken, None, "{format}");
        assert_eq!(cases[0].name, "a\u{fffd}\u{fffd}b", "{format}");
    }
}

#[test]
fn several_reports_in_a_file_are_read_and_told() {
    let one = format!("\u{feff}<?xml version='1.0'?>\n<testsuite time='1'>{CASE}</testsuite>\n");
    let (cases, outcome) = rows(
        Format::Junit,
        &format!("{one}{one}done: 1 < 2"),
        &Limits::default(),
    );
    assert_eq!((cases.len(), &outcome.broken), (2, &None));
    assert_eq!(outcome.summary.duration.map(|told| told.as_secs()), Some(2));
    assert_eq!(
        warnings(&outcome),
        [
            "1 time another report followed in the same file, and was read as well",
            "1 text after the report was ignored"
        ]
    );
    let tap = "TAP version 13\n1..1\nok 1 - a\n";
    let (cases, outcome) = rows(Format::Tap, &tap.repeat(2), &Limits::default());
    assert_eq!((cases.len(), outcome.broken), (2, None));
}

#[test]
fn places_of_output_are_those_of_the_file() {
    let text = "\u{feff}<testsuite><testcase name='é'><system-out><![CDATA[a & b]]> &lt;c</system-out>\
        </testcase></testsuite>";
    let (cases, _) = rows(Format::Junit, text, &Limits::default());
    let output = cases[0].outputs[0];
    let (start, end) = (
        usize::try_from(output.start).unwrap(),
        usize::try_from(output.end).unwrap(),
    );
    assert_eq!(&text[start..end], "<![CDATA[a & b]]> &lt;c");
    assert_eq!(
        muster_report::output_text(&text.as_bytes()[start..end]),
        "a & b <c"
    );
}

#[test]
fn a_reader_that_fails_is_no_broken_report() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        }
    }
    for format in Format::ALL {
        let result = parse(format, Fails, &Limits::default(), &mut |_| {});
        assert_eq!(
            result.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset,
            "{format}"
        );
    }
    // In the middle, where JSON and CSV have their own readers around it.
    for (format, head) in [
        (Format::Ctrf, "{\"results\": ".repeat(200)),
        (
            Format::JtlCsv,
            format!("elapsed,label\n{}", "1,a\n".repeat(1000)),
        ),
    ] {
        let reader = head.as_bytes().chain(Fails);
        let result = parse(
            format,
            reader,
            &Limits {
                depth: 1000,
                ..Limits::default()
            },
            &mut |_| {},
        );
        assert_eq!(
            result.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset,
            "{format}"
        );
    }
}
