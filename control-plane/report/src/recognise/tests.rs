use super::recognise;
use crate::Format;

fn told(text: &str) -> Option<Format> {
    recognise(text.as_bytes(), "report")
}

#[test]
fn roots_of_xml_tell() {
    let declaration = "\u{feff}<?xml version=\"1.0\"?>\n<!-- by hand -->\n<!DOCTYPE x>\n";
    for (root, format) in [
        ("testsuites", Some(Format::Junit)),
        ("testsuite name='a'", Some(Format::Junit)),
        ("test-run id='2'", Some(Format::Nunit)),
        ("assemblies", Some(Format::Xunit)),
        ("testResults version=\"1.2\"", Some(Format::JtlXml)),
        ("project", None),
        ("coverage line-rate='1'", None),
        ("html", None),
        ("!DOCTYPE html><html", None),
        ("assembly", None),
        ("test", None),
    ] {
        assert_eq!(told(&format!("{declaration}<{root}>")), format, "{root}");
    }
}

#[test]
fn other_json_is_nothing() {
    for text in [
        "{}",
        "[]",
        "[1, 2, 3]",
        "[{\"name\": \"a\"}]",
        r#"{"name": "shop", "version": "1.0.0", "scripts": {"test": "ok"}}"#,
        r#"{"results": [1, 2]}"#,
        r#"{"metrics": {"cpu": {"avg": 1}}}"#,
        r#"{"Action": "pass"}"#,
        r#"{"note": "\"Action\": \"Package\": "}"#,
        r#"[{"uri": "x", "location": "a:1", "elements": [{"steps": []}]}]"#,
        r#"{"Total": {"transaction": "Total"}}"#,
        "[short] skip\n{\"results\": {\"tool\": {}}}",
        "{",
        "[[[[[[[[[[[[[[",
        r#"{"a": "unclosed"#,
    ] {
        assert_eq!(told(text), None, "{text}");
    }
}

#[test]
fn logs_with_ok_in_them_are_nothing() {
    for text in [
        "ok",
        "ok\n",
        "ok 1\nok 2\n",
        "all is ok\nok then\nnot ok\n",
        "1..3\nstart\n",
        "ok  \tgithub.com/a/b\t0.1s\n",
        "Starting 1..5 workers\nok\n",
        "TAP version\nok\n",
        "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nTAP version 13\n1..1\n",
        "one\ntwo\n{\"Action\":\"pass\",\"Package\":\"p\"}\n",
        "timeStamp,label\n",
        "",
        "\n\n",
        "\0\0\0\0",
    ] {
        assert_eq!(told(text), None, "{text:?}");
    }
}

#[test]
fn tap_is_told_by_version_plan_or_name() {
    let tap = Some(Format::Tap);
    assert_eq!(told("TAP version 14\n1..1\n"), tap);
    assert_eq!(told("> npm test\n\nTAP version 13\n# Subtest: a\n"), tap);
    assert_eq!(told("1..2\nok 1 - a\n"), tap);
    assert_eq!(told("1..2\nok\n"), None);
    assert_eq!(told("ok 1 - a\nnot ok 2 - b\n1..2\n"), tap);
    assert_eq!(recognise(b"ok 1 - a\nok 2 - b\n", "x.tap"), tap);
    assert_eq!(recognise(b"log\nok 1 - a\n", "x.tap"), None);
}

#[test]
fn go_is_told_behind_what_it_says_of_itself() {
    let event = "{\"Action\":\"start\",\"Package\":\"p\"}\n";
    let text =
        format!("go: downloading a v1.0.0\ngo: downloading b v1.0.0\nwarning\n{event}{event}");
    assert_eq!(told(&text), Some(Format::GoTest));
}

#[test]
fn a_report_in_another_encoding_is_told() {
    let text = "<?xml version=\"1.0\" encoding=\"UTF-16\"?><testsuites>";
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    assert_eq!(recognise(&bytes, ""), Some(Format::Junit));
    // Cut in the middle of a character.
    assert_eq!(recognise(&bytes[..bytes.len() - 3], ""), None);
}

#[test]
fn noise_before_junit_is_junit_only_by_name() {
    let text = b"> jest\n\n<testsuites name=\"x\">";
    assert_eq!(recognise(text, "out/JUNIT.XML"), Some(Format::Junit));
    assert_eq!(recognise(text, "out/log.txt"), None);
}
