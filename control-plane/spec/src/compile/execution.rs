//! What the workflow says of its executions: tags, target and time in the queue.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::duration;

use crate::problem::{Place, Problem, Problems};
use crate::schema::{self, Spec};

use super::{Input, MAX_TAGS, Target};

/// Tags and target of an execution.
#[derive(Debug)]
pub(super) struct Execution {
    pub(super) tags: BTreeMap<String, String>,
    pub(super) target: Option<Target>,
}

/// Tags of a spec below those of the request.
pub(super) fn tags(input: &Input<'_>, spec: &Spec) -> BTreeMap<String, String> {
    let own = spec.execution.tags.iter();
    let own = own.map(|(name, text)| (name.clone(), text.text.clone()));
    own.chain(input.execution.tags.clone()).collect()
}

/// Tags and target of a spec.
pub(super) fn build(input: &Input<'_>, spec: &Spec, problems: &mut Problems) -> Execution {
    let tags = tags(input, spec);
    let labels = input.workflow.metadata.labels.len();
    for (count, path) in [
        (tags.len(), "spec.execution.tags"),
        (labels, "metadata.labels"),
    ] {
        if count > MAX_TAGS {
            let place = Place {
                path: path.into(),
                ..Place::default()
            };
            let message = format!("{count} entries, at most {MAX_TAGS} are allowed");
            problems.push(Problem::new(&place, message));
        }
    }
    Execution {
        tags,
        target: spec.execution.target.as_ref().map(target),
    }
}

/// `timeouts.queue`, when it is said.
pub(super) fn queue(spec: &Spec, problems: &mut Problems) -> Option<Duration> {
    let text = spec.timeouts.queue.as_ref()?;
    let refused = match duration::parse(&text.text) {
        Ok(wait) if !wait.is_zero() => return Some(wait),
        Ok(_) => "expected more than 0s: nothing starts at once".to_owned(),
        Err(error) => error.to_string(),
    };
    problems.push(Problem::new(&text.place, refused));
    None
}

/// A target of the language as agents are chosen by it.
#[must_use]
pub fn target(target: &schema::Target) -> Target {
    let texts = |map: &BTreeMap<String, Vec<schema::Text>>| {
        map.iter()
            .map(|(name, texts)| {
                let values = texts.iter().map(|text| text.text.clone()).collect();
                (name.clone(), values)
            })
            .collect()
    };
    Target {
        matches: texts(&target.matches),
        not: texts(&target.not),
    }
}
