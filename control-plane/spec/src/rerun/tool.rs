//! Failed tests in the words of test tools, quoted for a shell: names of tests come from reports, which
//! nobody trusts.

use std::collections::{BTreeMap, BTreeSet};

use super::FailedTest;
use crate::expression::shell_word;

/// Bytes of the longest name that a report keeps.
const LONGEST_NAME: usize = 1024;

/// Which tools may have run a test, by how a report tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Go,
    Pytest,
    Java,
    /// Known by its name alone.
    Named,
}

/// A tool that takes a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Pytest,
    Go,
    Jest,
    Playwright,
    Node,
    Maven,
}

impl Kind {
    pub(super) fn of(test: &FailedTest) -> Self {
        if test.format == "go-test" || go(test).is_some() {
            Self::Go
        } else if pytest(test).is_some() {
            Self::Pytest
        } else if is_java(test) {
            Self::Java
        } else {
            Self::Named
        }
    }
}

impl Tool {
    pub(super) const ALL: [Self; 6] = [
        Self::Pytest,
        Self::Go,
        Self::Jest,
        Self::Playwright,
        Self::Node,
        Self::Maven,
    ];

    /// The name below `rerun`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pytest => "pytest",
            Self::Go => "go",
            Self::Jest => "jest",
            Self::Playwright => "playwright",
            Self::Node => "node",
            Self::Maven => "maven",
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Pytest => Kind::Pytest,
            Self::Go => Kind::Go,
            Self::Jest | Self::Playwright | Self::Node => Kind::Named,
            Self::Maven => Kind::Java,
        }
    }

    /// Words that let it run these tests; nothing when it can not be told one of them, or there are none.
    pub(super) fn words(self, tests: &[&FailedTest]) -> Option<String> {
        if tests.is_empty() {
            return None;
        }
        let all = || tests.iter().copied();
        match self {
            Self::Pytest => {
                let ids: Option<BTreeSet<String>> = all().map(pytest).collect();
                let words: Vec<String> = ids?.iter().map(|id| shell_word(id)).collect();
                Some(words.join(" "))
            }
            Self::Go => {
                let names: Option<BTreeSet<&str>> = all().map(go).collect();
                let names: Vec<&str> = names?.into_iter().collect();
                let pattern = format!("^({})$", names.join("|"));
                Some(format!("-run {}", shell_word(&pattern)))
            }
            Self::Jest => Some(format!("-t {}", shell_word(&any_name(tests)?))),
            Self::Playwright => Some(format!("--grep {}", shell_word(&any_name(tests)?))),
            Self::Node => {
                let pattern = shell_word(&any_name(tests)?);
                Some(format!("--test-name-pattern {pattern}"))
            }
            Self::Maven => {
                let mut classes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
                for test in all() {
                    classes
                        .entry(&test.class)
                        .or_default()
                        .insert(method(test)?);
                }
                let classes = classes.into_iter().map(|(class, methods)| {
                    let methods: Vec<&str> = methods.into_iter().collect();
                    format!("{class}#{}", methods.join("+"))
                });
                let classes: Vec<String> = classes.collect();
                Some(shell_word(&format!("-Dtest={}", classes.join(","))))
            }
        }
    }
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next();
    first.is_some_and(|c| c.is_alphabetic() || matches!(c, '_' | '$'))
        && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
}

/// The test of Go that a test is, or is a part of.
fn go(test: &FailedTest) -> Option<&str> {
    let (name, _) = test.name.split_once('/').unwrap_or((&test.name, ""));
    let begins = ["Test", "Example", "Fuzz"].into_iter().any(|word| {
        let rest = name.strip_prefix(word);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_lowercase()))
    });
    (begins && is_identifier(name)).then_some(name)
}

/// The node id of pytest. Its reports tell the module and the classes in one word with dots, and of
/// older kinds the file.
fn pytest(test: &FailedTest) -> Option<String> {
    let parts: Vec<&str> = test.class.split('.').collect();
    let (path, classes) = match test.file.as_deref().filter(|file| file.ends_with(".py")) {
        Some(file) => {
            let module = file.trim_end_matches(".py").replace('/', ".");
            let classes = test.class.strip_prefix(&module)?;
            (file.to_owned(), classes.trim_start_matches('.').to_owned())
        }
        None => {
            let is_module = |part: &&str| part.starts_with("test_") || part.ends_with("_test");
            let last = parts.iter().rposition(is_module)?;
            let (modules, classes) = parts.split_at(last + 1);
            (format!("{}.py", modules.join("/")), classes.join("."))
        }
    };
    let classes: Vec<&str> = classes.split('.').filter(|part| !part.is_empty()).collect();
    let plain = parts.iter().all(|part| is_identifier(part));
    let whole = !test.name.is_empty() && !is_cut(&test.name);
    let sound = plain && whole && !test.name.contains(char::is_control);
    let mut id = path;
    for part in classes.into_iter().chain([test.name.as_str()]) {
        id.push_str("::");
        id.push_str(part);
    }
    sound.then_some(id)
}

/// Whether the class is one of Java: in a package, and with a capital.
fn is_java(test: &FailedTest) -> bool {
    let parts: Vec<&str> = test.class.split('.').collect();
    let class = parts.last().copied().unwrap_or_default();
    parts.len() > 1
        && parts.iter().all(|part| is_identifier(part))
        && class.starts_with(char::is_uppercase)
}

/// The method of a test of Java, without its parameters.
fn method(test: &FailedTest) -> Option<&str> {
    let end = test.name.find(['(', '[', '{']).unwrap_or(test.name.len());
    let method = test.name[..end].trim();
    is_identifier(method).then_some(method)
}

/// Whether a name is no whole one: reports that are read cut longer ones, which end by `…` and 16 digits
/// of a hash then. No test has that name.
fn is_cut(name: &str) -> bool {
    let digits = |end: &str| {
        let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        end.len() == 16 && end.chars().all(is_digit)
    };
    name.len() >= LONGEST_NAME || name.rsplit_once('…').is_some_and(|(_, end)| digits(end))
}

/// A pattern that any of the names fits, and a few more may: white space and what stands between suites
/// differ from tool to tool.
fn any_name(tests: &[&FailedTest]) -> Option<String> {
    if tests.iter().any(|test| is_cut(&test.name)) {
        return None;
    }
    let names: BTreeSet<String> = tests.iter().map(|test| pattern(&test.name)).collect();
    if names.contains("") {
        return None;
    }
    let names: Vec<String> = names.into_iter().collect();
    Some(format!("(?:{})", names.join("|")))
}

fn pattern(name: &str) -> String {
    let words = name.split([' ', '\t', '\n', '\r']);
    let mut pattern = String::with_capacity(name.len() + 8);
    let mut between = "";
    for word in words {
        match word {
            "" => {}
            ">" | "›" => between = ".+",
            word => {
                if !pattern.is_empty() {
                    pattern.push_str(if between.is_empty() { r"\s+" } else { between });
                }
                between = "";
                for c in word.chars() {
                    match c {
                        c if c.is_control() => pattern.push('.'),
                        c if r"\^$.|?*+()[]{}".contains(c) => pattern.extend(['\\', c]),
                        c => pattern.push(c),
                    }
                }
            }
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(class: &str, name: &str) -> FailedTest {
        FailedTest {
            format: "junit".to_owned(),
            class: class.to_owned(),
            name: name.to_owned(),
            ..FailedTest::default()
        }
    }

    fn words(tool: Tool, tests: &[FailedTest]) -> Option<String> {
        tool.words(&tests.iter().collect::<Vec<_>>())
    }

    #[test]
    fn pytest_gets_node_ids() {
        let in_file = FailedTest {
            file: Some("api/check_it.py".to_owned()),
            ..test("api.check_it.Suite", "test_b")
        };
        let tests = [test("tests.test_a", "test_x[it's]"), in_file];
        assert_eq!(
            words(Tool::Pytest, &tests).as_deref(),
            Some(r"api/check_it.py::Suite::test_b 'tests/test_a.py::test_x[it'\''s]'")
        );
        // Where its module is not known.
        assert_eq!(words(Tool::Pytest, &[test("api.check_it", "test_b")]), None);
        assert_eq!(Kind::of(&tests[0]), Kind::Pytest);
    }

    #[test]
    fn a_name_that_was_cut_is_no_filter() {
        let cut = format!("{}…0123456789abcdef", "x".repeat(1005));
        let long = "x".repeat(1024);
        for name in [cut.as_str(), long.as_str()] {
            let tests = [test("", "it works"), test("", name)];
            for tool in [Tool::Jest, Tool::Playwright, Tool::Node] {
                assert_eq!(words(tool, &tests), None, "{}", tool.name());
            }
            assert_eq!(words(Tool::Pytest, &[test("test_a", name)]), None);
        }
        let whole = [test("", "waits… 0123456789abcdef"), test("", "and so on…")];
        assert!(words(Tool::Jest, &whole).is_some());
    }

    #[test]
    fn go_gets_its_tests_with_all_their_subtests() {
        let tests = [test("shop", "TestB/with_tax"), test("shop", "TestA")];
        assert_eq!(
            words(Tool::Go, &tests).as_deref(),
            Some("-run '^(TestA|TestB)$'")
        );
        let package = FailedTest {
            format: "go-test".to_owned(),
            ..test("shop", "(package)")
        };
        assert_eq!(Kind::of(&package), Kind::Go);
        assert_eq!(words(Tool::Go, &[package]), None, "all of it must run");
    }

    #[test]
    fn maven_gets_methods_by_class() {
        let tests = [
            test("com.shop.PriceTest", "sum(int, int)[1]"),
            test("com.shop.PriceTest", "discount"),
            test("com.shop.Outer$Inner", "is"),
        ];
        assert_eq!(
            words(Tool::Maven, &tests).as_deref(),
            Some("'-Dtest=com.shop.Outer$Inner#is,com.shop.PriceTest#discount+sum'")
        );
        let shown = test("com.shop.PriceTest", "adds up all prices");
        assert_eq!(Kind::of(&shown), Kind::Java);
        assert_eq!(words(Tool::Maven, &[shown]), None);
    }

    #[test]
    fn names_are_patterns_that_a_shell_does_not_see() {
        let tests = [test("", "a > b's $(rm) [x]"), test("", "plain")];
        assert_eq!(
            words(Tool::Playwright, &tests).as_deref(),
            Some(r"--grep '(?:a.+b'\''s\s+\$\(rm\)\s+\[x\]|plain)'")
        );
        assert_eq!(
            words(Tool::Node, &tests[1..]).as_deref(),
            Some("--test-name-pattern '(?:plain)'")
        );
        assert_eq!(words(Tool::Jest, &[test("", " › ")]), None);
    }
}
