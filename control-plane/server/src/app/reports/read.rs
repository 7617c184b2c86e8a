//! From a report to what is kept of it.

use std::{collections::BTreeMap, io, time::Duration};

use muster_core::test_history::TestState;
use muster_report::{Case, Folded, Folder, Format, Limits, State, Summary};
use muster_storage::report::{Counts, NewCase, Read};
use serde_json::json;

use crate::app::Error;

/// The format of a name.
pub(super) fn format(name: &str) -> Option<Format> {
    Format::ALL
        .into_iter()
        .find(|format| format.as_str() == name)
}

/// A report that says nothing.
pub(super) fn nothing() -> Read {
    Read {
        broken: None,
        counts: Counts::default(),
        duration: None,
        summary: "{}".to_owned(),
    }
}

/// Tests of a report as they are kept, each made when it is asked for.
#[derive(Debug)]
pub(super) struct Cases(Folded);

impl Iterator for Cases {
    type Item = NewCase;

    fn next(&mut self) -> Option<NewCase> {
        self.0.next().map(case)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Cases {}

/// Reads a report to its end, or to where it breaks; tests that it tells twice are one.
///
/// # Errors
///
/// When its bytes can not be had.
pub(super) fn read(format: Format, bytes: impl io::Read) -> Result<(Cases, Read), Error> {
    let limits = Limits::default();
    let mut folder = Folder::new(&limits);
    let outcome = muster_report::parse(format, bytes, &limits, &mut |case| folder.push(case))
        .map_err(|error| {
            Error::Unavailable(muster_storage::Error::Unavailable {
                operation: "read_report",
                source: error.into(),
            })
        })?;
    let mut all = outcome.summary;
    all.warnings.extend(folder.warning());
    let read = Read {
        broken: outcome.broken.map(|broken| broken.to_string()),
        counts: counts(folder.states()),
        duration: all.duration.map(millis),
        summary: summary(&all, folder.overruled()),
    };
    Ok((Cases(folder.finish()), read))
}

fn counts(states: impl Iterator<Item = (State, bool)>) -> Counts {
    let mut counts = Counts::default();
    for (state, flaky) in states {
        match state {
            State::Passed => counts.passed += 1,
            State::Skipped => counts.skipped += 1,
            State::Failed => counts.failed += 1,
            State::Error => counts.errors += 1,
        }
        counts.flaky += i64::from(flaky);
    }
    counts
}

fn summary(summary: &Summary, overruled: u64) -> String {
    let mut all = serde_json::to_value(summary).unwrap_or_default();
    if let Some(all) = all.as_object_mut() {
        // They have columns of their own.
        for name in ["format", "counts", "duration"] {
            all.shift_remove(name);
        }
        if overruled > 0 {
            all.insert("overruled".to_owned(), overruled.into());
        }
    }
    all.to_string()
}

fn case(case: Case) -> NewCase {
    let identity = *case.identity().as_bytes();
    let variants = case.variants.iter();
    let variants: Vec<String> = variants
        .map(|it| format!("{}={}", it.name, it.value))
        .collect();
    let properties = case.properties.iter();
    let properties: BTreeMap<&str, &str> = properties
        .map(|it| (it.name.as_str(), it.value.as_str()))
        .collect();
    let has_detail =
        !(case.outputs.is_empty() && case.attachments.is_empty() && properties.is_empty());
    let detail = has_detail.then(|| {
        json!({
            "outputs": case.outputs,
            "attachments": case.attachments,
            "properties": properties,
        })
        .to_string()
    });
    NewCase {
        identity,
        suite: case.suite,
        class: case.class,
        name: case.name,
        parameters: case.parameters,
        variants: variants.join(", "),
        file: case.file,
        line: case.line,
        state: match case.state {
            State::Passed => TestState::Passed,
            State::Skipped => TestState::Skipped,
            State::Failed => TestState::Failed,
            State::Error => TestState::Error,
        },
        flaky: case.flaky,
        tries: case.tries,
        duration: case.duration.map(millis),
        message: case.message,
        kind: case.kind,
        stack: case.stack,
        detail,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
