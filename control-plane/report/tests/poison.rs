//! Bytes of any kind: nothing panics, nothing is handed out that a database would refuse, and a report
//! that is cut anywhere gives the cases before the cut.

#![expect(
    clippy::expect_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::{fs, path::Path};

use muster_report::{Case, Format, HEAD, Limits, Outcome, fold, output_text, parse, recognise};
use proptest::prelude::*;

fn samples() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("samples")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| fs::read(file).expect("a sample"))
        .collect()
}

/// Small enough that all of them are met.
fn small() -> Limits {
    Limits {
        name: 40,
        path: 20,
        message: 30,
        stack: 40,
        property: 10,
        attachments: 2,
        properties: 2,
        outputs: 2,
        metrics: 20,
        attribute: 60,
        line: 200,
        ..Limits::default()
    }
}

fn text(text: &str, most: usize) {
    assert!(!text.contains('\0'));
    assert!(text.len() <= most, "{} bytes of {most}: {text}", text.len());
}

/// What holds of all that is handed out.
fn check(format: Format, bytes: &[u8], limits: &Limits) -> (Vec<Case>, Outcome) {
    let mut cases = Vec::new();
    let outcome = parse(format, bytes, limits, &mut |case| {
        cases.push(case);
    })
    .expect("bytes");
    let length = u64::try_from(bytes.len()).expect("few");
    for case in &cases {
        // A marker tells what was cut from a stack.
        let marker = 60;
        text(&case.name, limits.name);
        text(&case.class, limits.name);
        text(&case.suite, limits.name);
        text(case.file.as_deref().unwrap_or_default(), limits.path);
        text(
            case.message.as_deref().unwrap_or_default(),
            limits.message.max(50),
        );
        text(
            case.kind.as_deref().unwrap_or_default(),
            limits.name.max(128),
        );
        text(
            case.stack.as_deref().unwrap_or_default(),
            limits.stack + marker,
        );
        assert!(case.attachments.len() <= limits.attachments);
        assert!(case.properties.len() <= limits.properties);
        assert!(case.tries >= 1);
        for output in &case.outputs {
            assert!(output.start < output.end && output.end <= length);
        }
    }
    assert!(
        outcome
            .summary
            .metrics
            .iter()
            .all(|metric| metric.value.is_finite())
    );
    let total = u64::try_from(cases.len()).expect("few");
    assert_eq!(outcome.summary.counts.total(), total);
    assert!(fold(cases.clone(), limits).len() <= cases.len());
    if let Some(broken) = &outcome.broken {
        assert!(broken.to_string().len() < 8 * 1024);
    }
    (cases, outcome)
}

fn check_all(bytes: &[u8]) {
    for format in Format::ALL {
        drop(check(format, bytes, &small()));
    }
    for name in ["a.xml", "a.tap"] {
        assert!(recognise(bytes, name).is_none_or(|format| Format::ALL.contains(&format)));
    }
    assert!(!output_text(bytes).contains('\0'));
}

#[test]
fn a_report_that_is_cut_gives_the_cases_before_the_cut() {
    let limits = Limits::default();
    for bytes in samples() {
        let format = recognise(&bytes, "").expect("a report");
        let (whole, _) = check(format, &bytes, &limits);
        let step = bytes.len() / 150 + 1;
        for end in (0..bytes.len()).step_by(step) {
            let (cut, outcome) = check(format, &bytes[..end], &limits);
            // The last line of TAP may be cut in its name; and what follows a failure belongs to it.
            let same = cut.len().saturating_sub(1);
            assert_eq!(cut[..same], whole[..same], "{format} at {end}");
            // Nothing says how many packages Go has, or lines of samples there are.
            let open = format == Format::GoTest && bytes[..end].ends_with(b"\n");
            if format.has_cases() && cut.len() < whole.len() && !open {
                assert!(outcome.broken.is_some(), "{format} at {end}");
            }
        }
    }
}

#[test]
fn a_sample_in_utf_16_gives_the_same_cases() {
    for bytes in samples() {
        let format = recognise(&bytes, "").expect("a report");
        let (mut cases, _) = check(format, &bytes, &Limits::default());
        let mut wide = vec![0xff, 0xfe];
        let text = String::from_utf8(bytes).expect("samples are UTF-8");
        wide.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        assert_eq!(recognise(&wide[..wide.len().min(HEAD)], ""), Some(format));
        let (wide, _) = check(format, &wide, &Limits::default());
        for case in &mut cases {
            case.outputs.clear();
        }
        assert_eq!(cases, wide, "{format}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check_all(&bytes);
    }

    #[test]
    fn any_text_of_marks_holds(parts in prop::collection::vec(prop::sample::select(vec![
        "<", ">", "/", "<testsuite>", "</testsuite>", "<testcase name='a'>", "</testcase>", "<failure>",
        "<![CDATA[", "]]>", "]]", "<!--", "-->", "<!DOCTYPE", "<?", "?>", "&lt;", "&#0;", "&#x110000;", "&", "'",
        "\"", "=", " ", "\n", "\0", "\u{feff}", "é", "[[ATTACHMENT|", "<system-out>", "</system-out>",
        "{", "}", "[", "]", ",", ":", "\"results\"", "\"tests\"", "\"elements\"", "\"steps\"", "\"name\"", "1e999",
        "-", "\\", "null", "\"metrics\"", "\"Action\":\"run\"", "\"Package\":\"p\"", "ok", "not ok", " 1", " - ",
        "#", "# Subtest: a", "    ", "1..2", "---", "...", "TAP version 14", "Bail out!", "# TODO", "timeStamp,elapsed,label",
        "<test-run>", "<test-case name='x'>", "<assemblies>", "<assembly>", "<test name='y'>", "<testResults>", "<sample t='1'/>",
    ]), 0..60)) {
        check_all(parts.concat().as_bytes());
    }

    #[test]
    fn a_changed_sample_holds(
        sample in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        twice in any::<bool>(),
    ) {
        let samples = samples();
        let mut bytes = sample.get(&samples).clone();
        let format = recognise(&bytes, "").expect("a report");
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if twice {
            bytes.extend_from_within(..cut.index(bytes.len()));
        }
        drop(check(format, &bytes, &small()));
        drop(check(format, &bytes, &Limits::default()));
        check_all(&bytes[..cut.index(bytes.len()).min(2000)]);
    }

    /// The XML reader agrees with another one on documents that both take.
    #[test]
    fn names_are_what_another_reader_says(name in "[a-zA-Z0-9 é<>&'\"]{0,20}", body in "[a-z &<>\\]]{0,20}") {
        let escaped = quick_xml::escape::escape(name.as_str());
        let text = quick_xml::escape::escape(body.as_str());
        let document = format!(
            "<testsuite><testcase classname='c' name=\"{escaped}\"><failure>{text}</failure></testcase></testsuite>"
        );
        let (cases, outcome) = check(Format::Junit, document.as_bytes(), &Limits::default());
        prop_assert_eq!(outcome.broken, None);
        prop_assert_eq!(cases[0].name.as_str(), name.trim());
        let said = cases[0].message.as_deref().unwrap_or_default();
        prop_assert_eq!(said, body.trim());
    }
}
