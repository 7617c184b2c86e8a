//! Which tests are the same over runs, machines and shards, and what becomes of several tellings.

#![expect(
    clippy::expect_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::HashSet;
use std::{fs, path::Path};

use muster_report::{Case, Format, Identity, Limits, Property, State, fold, parse, recognise};

fn sample(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    fs::read_to_string(folder.join(file)).expect("a sample")
}

fn cases(text: &str) -> Vec<Case> {
    let format = recognise(text.as_bytes(), "").expect("a report");
    let mut cases = Vec::new();
    let sink = &mut |case| cases.push(case);
    let outcome = parse(format, text.as_bytes(), &Limits::default(), sink).expect("bytes");
    assert_eq!(outcome.broken, None);
    cases
}

fn identities(text: &str) -> Vec<Identity> {
    cases(text).iter().map(Case::identity).collect()
}

fn case(class: &str, name: &str) -> Case {
    Case {
        class: class.to_owned(),
        name: name.to_owned(),
        tries: 1,
        ..Case::default()
    }
}

#[test]
fn a_run_on_another_machine_in_another_folder_at_another_time_has_the_same() {
    let files = [
        "pytest.xml",
        "surefire.xml",
        "gradle.xml",
        "jest.xml",
        "vitest.xml",
        "mocha.xml",
        "playwright.xml",
        "node.xml",
        "nextest.xml",
        "gotestsum.xml",
        "nunit3.xml",
        "xunit2.xml",
        "node.tap",
        "go-test.jsonl",
        "cucumber-js.json",
        "cucumber-jvm.json",
        "ctrf-jest.json",
        "ctrf-playwright.json",
    ];
    for file in files {
        let text = sample(file);
        let moved = text
            .replace("/work/shop", "/home/build/agent-3/checkout")
            .replace("/src/", "/other/place/")
            .replace("build-7", "build-8")
            .replace("2026-", "2027-")
            .replace("time=\"0.0", "time=\"4.0")
            .replace("\"duration\": ", "\"duration\": 1");
        assert_ne!(text, moved, "{file}");
        assert_eq!(identities(&text), identities(&moved), "{file}");
    }
}

#[test]
fn order_does_not_matter() {
    let turned: HashSet<_> = cases(&sample("pytest.xml"))
        .iter()
        .rev()
        .map(Case::identity)
        .collect();
    assert_eq!(
        turned,
        identities(&sample("pytest.xml")).into_iter().collect()
    );
}

#[test]
fn projects_of_playwright_are_apart() {
    let all = identities(&sample("playwright.xml"));
    let different: HashSet<_> = all.iter().collect();
    assert_eq!(all.len(), different.len());
    // A host is no project where the tool is another one.
    let vitest = sample("vitest.xml");
    assert_eq!(
        identities(&vitest),
        identities(&vitest.replace("build-7", "chromium"))
    );
}

#[test]
fn absolute_folders_are_dropped_and_relative_ones_kept() {
    let identity = |class| case(class, "n").identity();
    let one = identity("/a/b/cart.spec.ts");
    for same in [
        "/c/cart.spec.ts",
        "C:\\x\\cart.spec.ts",
        "file:///d/cart.spec.ts",
        "cart.spec.ts",
    ] {
        assert_eq!(one, identity(same), "{same}");
    }
    assert_eq!(identity("./tests/a.py"), identity("tests\\a.py"));
    for other in ["e2e/cart.spec.ts", "a/b/cart.spec.ts"] {
        assert_ne!(one, identity(other), "{other}");
    }
    // These are no files.
    assert_ne!(identity("/api/cart"), identity("/v2/cart"));
    assert_ne!(
        identity("GET /a/x.json > ok"),
        identity("GET /b/x.json > ok")
    );
}

#[test]
fn fields_do_not_run_into_each_other() {
    let variant = |name: &str, value: &str| Property {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let mut all = vec![
        case("ab", "c"),
        case("a", "bc"),
        case("abc", ""),
        case("", "abc"),
    ];
    let mut with = case("ab", "");
    with.parameters = Some("c".to_owned());
    all.push(with);
    for variants in [
        vec![variant("c", "")],
        vec![variant("", "c")],
        vec![variant("", ""), variant("c", "")],
    ] {
        let mut with = case("ab", "");
        with.variants = variants;
        all.push(with);
    }
    let different: HashSet<_> = all.iter().map(Case::identity).collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn the_rule_stays_as_it_is() {
    // A change here makes all tests new in every installation.
    let mut told = case("tests.test_cart.TestCart", "test_pair[1-2]");
    assert_eq!(
        told.identity().to_string(),
        "c883a585fb2d8d8f4075520bb500ca57"
    );
    told.suite = "pytest".to_owned();
    told.line = Some(7);
    told.file = Some("tests/test_cart.py".to_owned());
    assert_eq!(
        told.identity().to_string(),
        "c883a585fb2d8d8f4075520bb500ca57"
    );
}

#[test]
fn a_suite_takes_the_place_of_a_class_and_a_file_that_of_a_suite() {
    let mut one = case("", "n");
    one.suite = "s".to_owned();
    one.file = Some("/x/f.js".to_owned());
    assert_eq!(one.identity(), case("s", "n").identity());
    one.suite = String::new();
    assert_eq!(one.identity(), case("f.js", "n").identity());
}

fn told(state: State, tries: u32) -> Case {
    Case {
        state,
        tries,
        ..case("c", "n")
    }
}

#[test]
fn tries_told_as_cases_become_one_that_is_flaky() {
    let folded = fold(
        [
            told(State::Failed, 1),
            told(State::Error, 1),
            told(State::Passed, 1),
        ],
        &Limits::default(),
    );
    assert_eq!(folded.len(), 1);
    assert_eq!(
        (folded[0].state, folded[0].flaky, folded[0].tries),
        (State::Passed, true, 3)
    );
    let folded = fold(
        [told(State::Passed, 1), told(State::Failed, 2)],
        &Limits::default(),
    );
    assert_eq!(
        (folded[0].state, folded[0].flaky, folded[0].tries),
        (State::Failed, false, 3)
    );
}

#[test]
fn a_shard_that_skips_does_not_hide_one_that_runs() {
    for cases in [
        [told(State::Skipped, 1), told(State::Passed, 1)],
        [told(State::Passed, 1), told(State::Skipped, 1)],
    ] {
        let folded = fold(cases, &Limits::default());
        assert_eq!(
            (folded[0].state, folded[0].flaky, folded[0].tries),
            (State::Passed, false, 1)
        );
    }
}

#[test]
fn tests_of_two_files_under_one_name_do_not_hide_a_failure() {
    let with = |state, file: &str| Case {
        file: Some(file.to_owned()),
        ..told(state, 1)
    };
    let folded = fold(
        [with(State::Failed, "a.js"), with(State::Passed, "b.js")],
        &Limits::default(),
    );
    assert_eq!(
        (folded[0].state, folded[0].flaky, folded[0].tries),
        (State::Failed, false, 2)
    );
}

#[test]
fn tests_of_two_files_do_not_hide_that_one_ran() {
    let with = |state, file: &str| Case {
        file: Some(file.to_owned()),
        ..told(state, 1)
    };
    let folded = fold(
        [with(State::Passed, "a.js"), with(State::Skipped, "b.js")],
        &Limits::default(),
    );
    assert_eq!(folded[0].state, State::Passed);
}

#[test]
fn attachments_of_all_tellings_are_kept_in_order_up_to_the_limit() {
    let with = |paths: &[&str]| Case {
        attachments: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..told(State::Failed, 1)
    };
    let folded = fold(
        [with(&["a", "b"]), with(&["b", "c"]), with(&["d"])],
        &Limits {
            attachments: 3,
            ..Limits::default()
        },
    );
    assert_eq!(folded[0].attachments, ["a", "b", "c"]);
}

#[test]
fn reports_of_shards_become_one() {
    let text = |failed: bool| {
        let failure = if failed { "<failure/>" } else { "" };
        format!(
            "<testsuite hostname='h{failed}'><testcase classname='c' name='n'>{failure}</testcase></testsuite>"
        )
    };
    let mut all = cases(&text(true));
    all.extend(cases(&text(false)));
    all.extend(cases(
        "<testsuite><testcase classname='c' name='other'/></testsuite>",
    ));
    let folded = fold(all, &Limits::default());
    let told: Vec<_> = folded
        .iter()
        .map(|case| (case.name.as_str(), case.flaky))
        .collect();
    assert_eq!(told, [("n", true), ("other", false)]);
    assert_eq!(Format::Junit.as_str(), "junit");
}
