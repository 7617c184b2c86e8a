//! Reading a text as a report, and what is told of it. What must come of it is in the tests.

use muster_report::{Case, Format, Limits, Outcome, parse};

/// Its cases, and the rest.
pub(crate) fn rows(format: Format, text: &str, limits: &Limits) -> (Vec<Case>, Outcome) {
    let mut cases = Vec::new();
    let outcome = parse(format, text.as_bytes(), limits, &mut |case| {
        cases.push(case);
    });
    (cases, outcome.expect("bytes can be read"))
}

/// Why it broke, and how many cases came before.
pub(crate) fn broken(format: Format, text: &str, limits: &Limits) -> (String, usize) {
    let (cases, outcome) = rows(format, text, limits);
    let broken = outcome.broken.expect("it breaks");
    (broken.to_string(), cases.len())
}

/// The warnings, in words.
pub(crate) fn warnings(outcome: &Outcome) -> Vec<String> {
    outcome
        .summary
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// A case.
pub(crate) const CASE: &str = "<testcase classname=\"c\" name=\"n\"/>\n";
