//! What the workflow says of its executions: tags and target.

use std::collections::BTreeMap;

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
        replicate: target.replicate.iter().map(|it| it.text.clone()).collect(),
    }
}
