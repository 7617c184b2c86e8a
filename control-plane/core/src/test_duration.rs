//! How long values of shards take: which tests a value means, and the sum of how long those took in
//! earlier runs. Pure, from rows to numbers.
//!
//! Which runs count, and where results come from, is not decided here.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
};

/// Most parts of a path or a name that are looked at, from its end.
const MOST_PARTS: usize = 32;

/// Endings of files with tests in them. What ends otherwise is no name of a file for certain:
/// `acme.unit` may be a package.
const ENDINGS: [&str; 44] = [
    "bats", "c", "cc", "cjs", "clj", "cpp", "cs", "cts", "cxx", "dart", "erl", "ex", "exs",
    "feature", "fs", "go", "groovy", "hs", "java", "jl", "jmx", "js", "json", "jsx", "kt", "kts",
    "lua", "mjs", "mts", "php", "pl", "py", "r", "rb", "robot", "rs", "scala", "sh", "swift", "t",
    "ts", "tsx", "xml", "yaml",
];

/// A test, and how long it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestDuration {
    /// Its class, module or file; where it has none, the suites around it.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Parameters in its name.
    pub parameters: Option<String>,
    /// The file that it stands in.
    pub file: Option<String>,
    /// How long it takes, in milliseconds.
    pub millis: u64,
}

/// How long each value takes, in milliseconds: the sum of the tests that it means. `None` for one that
/// means none.
///
/// A value means tests by, in this order: their name; class and name, as `tests/a.py::test_x` or
/// `com.acme.FooTest.testX`; their file; their class, also as the path of its file; a folder or package
/// around them. Of a path or a class leading parts may be missing on either side. A test counts for the
/// values of the first way that finds some. Where a report has less of a path than several values
/// that end in it, each of them takes its part of the time.
#[must_use]
pub fn durations(values: &[String], tests: &[TestDuration]) -> Vec<Option<u64>> {
    let index = Index::of(values);
    let mut sums: Vec<Option<u64>> = vec![None; values.len()];
    for test in tests {
        let (meant, share) = index.find(test);
        for place in meant {
            if let Some(sum) = sums.get_mut(*place) {
                *sum = Some(sum.unwrap_or_default().saturating_add(test.millis / share));
            }
        }
    }
    sums
}

/// Values by what they may mean.
#[derive(Default)]
struct Index<'a> {
    /// As they are written.
    texts: HashMap<&'a str, usize>,
    files: Space,
    names: Space,
}

/// One kind of meaning: values by their parts with `/` between them.
#[derive(Default)]
struct Space {
    whole: HashMap<String, Vec<usize>>,
    /// Values that end in these parts and have more in front of them.
    ends: HashMap<String, Vec<usize>>,
}

/// Parts with `/` between them, and where each stands.
struct Parts {
    text: String,
    places: Vec<Range<usize>>,
}

impl<'a> Index<'a> {
    fn of(values: &'a [String]) -> Self {
        let mut index = Self::default();
        for (place, value) in values.iter().enumerate() {
            index.texts.insert(value, place);
            let meaning = Meaning::of(value);
            if let Some(file) = &meaning.file {
                index.files.add(file, place);
            }
            index.names.add(&meaning.name, place);
        }
        index
    }

    /// Places of the values that mean a test, and how many of them share its time.
    fn find(&self, test: &TestDuration) -> (&[usize], u64) {
        if let Some(place) = self.texts.get(test.name.as_str()) {
            return (std::slice::from_ref(place), 1);
        }
        let class = Meaning::of(&test.class);
        let mut names = vec![class.name.with(&test.name)];
        // A value may name all parameters at once.
        let plain = without_parameters(test);
        names.extend(plain.map(|name| class.name.with(name)));
        let whole = names.iter().map(|name| self.names.ending(name));
        let mut found: Vec<_> = whole.collect();
        let file = test.file.as_deref().and_then(|file| Meaning::of(file).file);
        for path in file.iter().chain(&class.file) {
            found.push(self.files.ending(path));
            found.push(self.files.around(path));
        }
        found.push(self.names.ending(&class.name));
        found.push(self.names.around(&class.name));
        let first = found.into_iter().find(|(meant, _)| !meant.is_empty());
        first.unwrap_or((&[], 1))
    }
}

impl Space {
    fn add(&mut self, parts: &Parts, place: usize) {
        let count = parts.places.len();
        for start in 0..count {
            let Some(text) = parts.get(start..count) else {
                continue;
            };
            let map = match start {
                0 => &mut self.whole,
                _ => &mut self.ends,
            };
            match map.entry(text.to_owned()) {
                Entry::Occupied(mut known) => known.get_mut().push(place),
                Entry::Vacant(new) => drop(new.insert(vec![place])),
            }
        }
    }

    /// Values that are all of these parts, or an end of them, the longest; else those that end in
    /// them.
    fn ending(&self, parts: &Parts) -> (&[usize], u64) {
        let count = parts.places.len();
        let ends = (0..count).filter_map(|start| parts.get(start..count));
        let whole = ends.filter_map(|end| self.whole.get(end)).next();
        match whole {
            Some(whole) => (whole, 1),
            None => self.longer(parts, count),
        }
    }

    /// Values that are the first of these parts, or end in them: the most parts.
    fn around(&self, parts: &Parts) -> (&[usize], u64) {
        for count in (1..parts.places.len()).rev() {
            let whole = parts.get(0..count).and_then(|text| self.whole.get(text));
            let found = match whole {
                Some(whole) => (whole.as_slice(), 1),
                None => self.longer(parts, count),
            };
            if !found.0.is_empty() {
                return found;
            }
        }
        (&[], 1)
    }

    fn longer(&self, parts: &Parts, count: usize) -> (&[usize], u64) {
        let found = parts.get(0..count).and_then(|text| self.ends.get(text));
        found.map_or((&[], 1), |found| (found, found.len() as u64))
    }
}

impl Parts {
    fn of<'t>(parts: impl Iterator<Item = &'t str>) -> Self {
        let mut all: Vec<&str> = parts.collect();
        if all.len() > MOST_PARTS {
            all.drain(..all.len() - MOST_PARTS);
        }
        let mut new = Self {
            text: String::new(),
            places: Vec::with_capacity(all.len()),
        };
        for part in all {
            new.push(part);
        }
        new
    }

    fn push(&mut self, part: &str) {
        if !self.text.is_empty() {
            self.text.push('/');
        }
        let start = self.text.len();
        self.text.push_str(part);
        self.places.push(start..self.text.len());
    }

    fn with(&self, part: &str) -> Self {
        let mut longer = Self {
            text: self.text.clone(),
            places: self.places.clone(),
        };
        longer.push(part);
        longer
    }

    fn get(&self, range: Range<usize>) -> Option<&str> {
        let first = self.places.get(range.start)?;
        let last = self.places.get(range.end.checked_sub(1)?)?;
        self.text.get(first.start..last.end)
    }
}

/// What a text may mean: a path, and the parts of a class or of a test's whole name.
struct Meaning {
    file: Option<Parts>,
    name: Parts,
}

impl Meaning {
    fn of(text: &str) -> Self {
        // `tests/a.py::TestC::test_x`, `com.acme.FooTest#testX`, `suite > test`.
        let mut pieces = text.split("::").flat_map(|piece| piece.split(" > "));
        let first = pieces.next().unwrap_or_default();
        let mut rest: Vec<&str> = pieces.collect();
        let (first, method) = first.split_once('#').unwrap_or((first, ""));
        if !method.is_empty() {
            rest.insert(0, method);
        }
        let path = || first.split(['/', '\\']);
        let path = || path().filter(|part| !matches!(*part, "" | "." | ".."));
        let is_path = first.contains(['/', '\\']) || without_ending(first) != first;
        let mut name = match is_path {
            true => Parts::of(without_last_ending(path().collect()).into_iter()),
            false if first.contains(char::is_whitespace) => Parts::of(std::iter::once(first)),
            false => Parts::of(first.split(['.', '$']).filter(|part| !part.is_empty())),
        };
        let file = rest.is_empty().then(|| Parts::of(path()));
        for piece in rest {
            name.push(piece);
        }
        Self { file, name }
    }
}

fn without_last_ending(mut path: Vec<&str>) -> Vec<&str> {
    if let Some(last) = path.last_mut() {
        *last = without_ending(last);
    }
    path
}

fn without_ending(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && ENDINGS.binary_search(&ending).is_ok() => stem,
        _ => name,
    }
}

/// A test's name without its parameters, when they stand behind it in brackets.
fn without_parameters(test: &TestDuration) -> Option<&str> {
    test.parameters.as_ref()?;
    let (name, _) = test.name.split_once(['[', '('])?;
    let name = name.trim_end();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn test(file: &str, class: &str, name: &str, millis: u64) -> TestDuration {
        TestDuration {
            class: class.to_owned(),
            name: name.to_owned(),
            parameters: name.contains('[').then(|| "1".to_owned()),
            file: (!file.is_empty()).then(|| file.to_owned()),
            millis,
        }
    }

    fn sums<const N: usize>(values: [&str; N], tests: &[TestDuration]) -> Vec<Option<u64>> {
        durations(&values.map(str::to_owned), tests)
    }

    #[test]
    fn endings_are_sorted() {
        assert!(ENDINGS.is_sorted());
    }

    #[test]
    fn a_file_is_the_sum_of_its_tests_with_leading_parts_or_without() {
        let tests = [
            test("tests/a.spec.ts", "a", "one", 10),
            test("tests/a.spec.ts", "a", "two", 5),
            test("/builds/7/tests/b.spec.ts", "b", "one", 100),
        ];
        let known = [Some(15), Some(100), None];
        let written = [
            ["tests/a.spec.ts", "tests/b.spec.ts", "tests/c.spec.ts"],
            ["./tests/a.spec.ts", "b.spec.ts", "c.spec.ts"],
            [
                "/data/repo/tests/a.spec.ts",
                "/builds/7/tests/b.spec.ts",
                "/data/repo/tests/c.spec.ts",
            ],
            [r"tests\a.spec.ts", r"7\tests\b.spec.ts", "a.spec.tsx"],
        ];
        for values in written {
            assert_eq!(sums(values, &tests), known, "{values:?}");
        }
        // What is not an end of the other is another file.
        assert_eq!(sums(["src/a.spec.ts"], &tests), [None]);
    }

    #[test]
    fn reports_without_files_are_found_by_classes() {
        // pytest, JUnit, NUnit, Go as they come.
        let tests = [
            test("", "tests.unit.test_sum", "test_one", 1),
            test("", "tests.unit.test_sum.TestMore", "test_two", 2),
            test("", "com.acme.FooTest", "works", 4),
            test("", "com.acme.FooTest$Inner", "works", 8),
            test("", "Acme.Tests.BarTests", "Works", 16),
            test("", "github.com/acme/app/store", "TestOpen", 32),
        ];
        assert_eq!(
            sums(
                [
                    "/data/repo/tests/unit/test_sum.py",
                    "src/test/java/com/acme/FooTest.java",
                    "Tests/BarTests.cs",
                    "./store",
                ],
                &tests
            ),
            [Some(3), Some(12), Some(16), Some(32)]
        );
        assert_eq!(
            sums(["com.acme.FooTest", "BarTests", "tests/unit"], &tests),
            [Some(12), Some(16), Some(3)]
        );
    }

    #[test]
    fn single_tests_are_found_by_their_names() {
        let tests = [
            test("", "tests.test_sum.TestC", "test_one", 1),
            test("", "tests.test_sum.TestC", "test_two[a/b]", 2),
            test("", "tests.test_sum.TestC", "test_two[c]", 4),
            test("", "com.acme.FooTest", "works", 8),
            test("", "pkg", "TestOpen/twice", 16),
        ];
        assert_eq!(
            sums(
                [
                    "tests/test_sum.py::TestC::test_one",
                    "tests/test_sum.py::TestC::test_two",
                    "com.acme.FooTest#works",
                    "TestOpen/twice",
                ],
                &tests
            ),
            [Some(1), Some(6), Some(8), Some(16)]
        );
        assert_eq!(
            sums(["com.acme.FooTest.works", "test_one"], &tests),
            [Some(8), Some(1)]
        );
    }

    #[test]
    fn the_closest_value_takes_a_test() {
        let tests = [
            test("tests/a.py", "tests.a", "x", 1),
            test("tests/b.py", "tests.b", "x", 2),
            test("tests/deep/c.py", "tests.deep.c", "x", 4),
        ];
        assert_eq!(
            sums(["tests", "tests/deep", "tests/a.py"], &tests),
            [Some(2), Some(4), Some(1)]
        );
    }

    #[test]
    fn values_share_what_a_report_does_not_tell_apart() {
        let tests = [test("a.py", "", "x", 11)];
        assert_eq!(
            sums(["one/a.py", "two/a.py", "b.py"], &tests),
            [Some(5), Some(5), None]
        );
        // One that is as the report has it is meant alone.
        assert_eq!(sums(["one/a.py", "a.py"], &tests), [None, Some(11)]);
    }

    #[test]
    fn odd_texts_mean_nothing_and_do_no_harm() {
        let tests = [test("a.py", "", "", 1), test("", "..", "[", 1)];
        let odd = [
            "", "/", "..", "::", "#", ".", " > ", "$", "a.py::", "[", "é/ü.py",
        ];
        assert_eq!(sums(odd, &tests).len(), odd.len());
        let deep = "x/".repeat(5000);
        assert_eq!(sums([deep.as_str()], &tests), [None]);
    }

    proptest! {
        #[test]
        fn no_time_comes_from_nowhere(
            values in prop::collection::hash_set("[ab]{1,2}(/[ab]){0,2}(\\.py)?", 0..8),
            tests in prop::collection::vec(("[ab](/[ab]){0,2}\\.py", "[ab](\\.[ab]){0,2}", 0_u64..100), 0..20),
        ) {
            let values: Vec<String> = values.into_iter().collect();
            let tests: Vec<_> = tests
                .iter()
                .map(|(file, class, millis)| test(file, class, "name", *millis))
                .collect();
            let found = durations(&values, &tests);
            let all: u64 = tests.iter().map(|test| test.millis).sum();
            for sum in found.iter().flatten() {
                prop_assert!(*sum <= all);
            }
            prop_assert_eq!(found, durations(&values, &tests));
        }
    }
}
