//! Filters of a list of executions, each checked and refused with its field.

use std::collections::BTreeMap;

use muster_core::test_history::TestState;
use muster_proto::v1::ListExecutionsRequest;
use muster_storage::execution::{Filter, Period};
use prost_types::Timestamp;

use super::{convert, test_cases};
use crate::{app::Error, config::MAX_PAIRS};

/// Longest name in a filter, in bytes: those of Kubernetes have 253, keys of labels a prefix more.
const LONGEST_NAME: usize = 512;
/// Most labels: each is looked up by itself.
const MOST_LABELS: usize = 16;
/// Shortest text to look for, in bytes: a shorter one is in nearly every message.
const SHORTEST_TEXT: usize = 3;
/// Longest text to look for, in bytes.
const LONGEST_TEXT: usize = 256;

/// Reads all filters but the parent and the tests, which have to be looked up.
pub(super) fn read(message: &ListExecutionsRequest) -> Result<Filter, Error> {
    let filter = Filter {
        workflow: name("workflow", &message.workflow)?,
        workflow_prefix: name("workflow_prefix", &message.workflow_prefix)?,
        workflow_revision: revision(message)?,
        states: states(message)?,
        tags: tags(message)?,
        labels: labels(&message.labels)?,
        created: period("created", message.created_since, message.created_until)?,
        finished: period("finished", message.finished_since, message.finished_until)?,
        agent: name("agent", &message.agent)?,
        text: text(&message.text)?,
        concurrency_group: name("concurrency_group", &message.concurrency_group)?,
        tests: None,
        test_states: test_states(message)?,
        parent: None,
    };
    Ok(filter)
}

/// States of a test, and whether the test is one that can be looked for.
fn test_states(message: &ListExecutionsRequest) -> Result<Vec<TestState>, Error> {
    check("test", &message.test, LONGEST_TEXT)?;
    if !message.test.is_empty() && message.test.len() < SHORTEST_TEXT {
        let reason = format!("must have at least {SHORTEST_TEXT} bytes: most names hold it");
        return Err(Error::invalid("test", reason));
    }
    if message.test.is_empty() && !message.test_states.is_empty() {
        return Err(Error::invalid(
            "test_states",
            "are those of a `test`: give it too",
        ));
    }
    let mut states = Vec::new();
    for state in &message.test_states {
        let state = test_cases::read_state("test_states", *state)?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Ok(states)
}

fn check(field: &str, text: &str, longest: usize) -> Result<(), Error> {
    if text.len() > longest {
        let reason = format!("has {} bytes, at most {longest} are allowed", text.len());
        return Err(Error::invalid(field, reason));
    }
    if text.contains('\0') {
        return Err(Error::invalid(field, "must not hold NUL"));
    }
    Ok(())
}

fn name(field: &str, name: &str) -> Result<Option<String>, Error> {
    check(field, name, LONGEST_NAME)?;
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

fn revision(message: &ListExecutionsRequest) -> Result<Option<i64>, Error> {
    let field = "workflow_revision";
    match message.workflow_revision {
        0 => Ok(None),
        ..0 => Err(Error::invalid(field, "must not be negative")),
        1.. if message.workflow.is_empty() => {
            let text = "counts the revisions of one workflow: give `workflow` too";
            Err(Error::invalid(field, text))
        }
        revision => Ok(Some(revision)),
    }
}

fn states(message: &ListExecutionsRequest) -> Result<Vec<muster_core::execution::State>, Error> {
    let mut states = Vec::new();
    for state in &message.states {
        let state = convert::read_state(*state)?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Ok(states)
}

fn tags(message: &ListExecutionsRequest) -> Result<BTreeMap<String, String>, Error> {
    let tags = &message.tags;
    if tags.len() > MAX_PAIRS {
        let text = format!("{} entries, at most {MAX_PAIRS} are allowed", tags.len());
        return Err(Error::invalid("tags", text));
    }
    for (key, value) in tags {
        check("tags", key, LONGEST_NAME)?;
        check("tags", value, LONGEST_NAME * 2)?;
    }
    Ok(tags.clone().into_iter().collect())
}

fn labels(given: &[String]) -> Result<BTreeMap<String, Option<String>>, Error> {
    if given.len() > MOST_LABELS {
        let text = format!("{} labels, at most {MOST_LABELS} are allowed", given.len());
        return Err(Error::invalid("labels", text));
    }
    let mut labels = BTreeMap::new();
    for (index, label) in given.iter().enumerate() {
        let field = format!("labels[{index}]");
        check(&field, label, LONGEST_NAME)?;
        let (key, value) = match label.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (label.as_str(), None),
        };
        if key.is_empty() {
            return Err(Error::invalid(field, "must be `key=value` or `key`"));
        }
        let before = labels.insert(key.to_owned(), value.clone());
        if before.is_some_and(|before| before != value) {
            let text = format!("'{key}' is given twice, and no execution has it twice");
            return Err(Error::invalid(field, text));
        }
    }
    Ok(labels)
}

fn period(name: &str, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Period, Error> {
    let field = |end: &str| format!("{name}_{end}");
    let read = |end: &str, time: Option<Timestamp>| {
        let time = time.map(|time| convert::read_time(&field(end), time));
        time.transpose()
    };
    let period = Period {
        since: read("since", since)?,
        until: read("until", until)?,
    };
    if let (Some(since), Some(until)) = (period.since, period.until)
        && since >= until
    {
        let text = format!("must be after `{}`", field("since"));
        return Err(Error::invalid(field("until"), text));
    }
    Ok(period)
}

fn text(text: &str) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    check("text", text, LONGEST_TEXT)?;
    if text.len() < SHORTEST_TEXT {
        let reason = format!("must have at least {SHORTEST_TEXT} bytes: most messages hold it");
        return Err(Error::invalid("text", reason));
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_looked_for_is_refused_with_its_field() {
        let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let request = ListExecutionsRequest::default;
        let text = |text: &str| text.to_owned();
        for (field, bad) in [
            (
                "workflow",
                ListExecutionsRequest {
                    workflow: "x".repeat(600),
                    ..request()
                },
            ),
            (
                "workflow_prefix",
                ListExecutionsRequest {
                    workflow_prefix: text("\0"),
                    ..request()
                },
            ),
            (
                "workflow_revision",
                ListExecutionsRequest {
                    workflow_revision: 3,
                    ..request()
                },
            ),
            (
                "workflow_revision",
                ListExecutionsRequest {
                    workflow_revision: -1,
                    ..request()
                },
            ),
            (
                "states",
                ListExecutionsRequest {
                    states: vec![77],
                    ..request()
                },
            ),
            (
                "labels",
                ListExecutionsRequest {
                    labels: vec![text("a"); 17],
                    ..request()
                },
            ),
            (
                "labels[0]",
                ListExecutionsRequest {
                    labels: vec![text("=b")],
                    ..request()
                },
            ),
            (
                "labels[1]",
                ListExecutionsRequest {
                    labels: vec![text("a=b"), text("a=c")],
                    ..request()
                },
            ),
            (
                "created_since",
                ListExecutionsRequest {
                    created_since: time(i64::MAX),
                    ..request()
                },
            ),
            (
                "finished_until",
                ListExecutionsRequest {
                    finished_since: time(5),
                    finished_until: time(5),
                    ..request()
                },
            ),
            (
                "agent",
                ListExecutionsRequest {
                    agent: "x".repeat(600),
                    ..request()
                },
            ),
            (
                "text",
                ListExecutionsRequest {
                    text: text("ab"),
                    ..request()
                },
            ),
            (
                "text",
                ListExecutionsRequest {
                    text: "x".repeat(257),
                    ..request()
                },
            ),
            (
                "concurrency_group",
                ListExecutionsRequest {
                    concurrency_group: text("\0"),
                    ..request()
                },
            ),
            (
                "test",
                ListExecutionsRequest {
                    test: text("ab"),
                    ..request()
                },
            ),
            (
                "test_states",
                ListExecutionsRequest {
                    test_states: vec![3],
                    ..request()
                },
            ),
            (
                "test_states",
                ListExecutionsRequest {
                    test: text("login"),
                    test_states: vec![9],
                    ..request()
                },
            ),
        ] {
            let Err(Error::Invalid(violations)) = read(&bad) else {
                panic!("{field}: {bad:?}");
            };
            assert_eq!(violations[0].field, field);
        }
        let good = ListExecutionsRequest {
            labels: vec![text("team=core"), text("tier")],
            text: text("oom"),
            ..request()
        };
        let filter = read(&good).expect("it is good");
        assert_eq!(filter.labels["team"].as_deref(), Some("core"));
        assert_eq!(filter.labels["tier"], None);
    }
}
