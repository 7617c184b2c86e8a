//! `kind: TestWorkflowExecution`: a request to run a workflow, as a document.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::compile;
use crate::problem::{Place, Problem, Problems};

use super::field::{Found, Object, Reader, Text};
use super::metadata::Metadata;
use super::spec::Target;

/// `kind: TestWorkflowExecution`.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `metadata`.
    pub metadata: Metadata,
    /// `description`.
    pub description: Option<String>,
    /// `spec.testWorkflow.name`: the workflow to run.
    pub workflow: Text,
    /// `spec.executionRequest.config`: values of its parameters.
    pub config: IndexMap<String, Text>,
    /// `spec.executionRequest.tags`.
    pub tags: BTreeMap<String, String>,
    /// `spec.executionRequest.target`.
    pub target: Option<Target>,
    /// Fields that the language has and this version does not.
    pub unsupported: Vec<Problem>,
    /// Fields that have no effect.
    pub warnings: Vec<Problem>,
}

impl Request {
    /// Reads `spec`; the head is read already.
    pub(super) fn read(
        reader: &mut Reader,
        metadata: Option<Metadata>,
        description: Option<String>,
        mut spec: Object<'_>,
    ) -> Option<Self> {
        let workflow = match spec.take("testWorkflow") {
            Some(found) => read_workflow(reader, &found),
            None => {
                let path = format!("{}.testWorkflow.name", spec.path());
                let message = "the name of the workflow to run is missing";
                reader.problem(spec.mark(), &path, message);
                None
            }
        };
        let mut config = IndexMap::new();
        let mut tags = IndexMap::new();
        let mut target = None;
        if let Some(mut object) = spec
            .take("executionRequest")
            .and_then(|found| found.object(reader))
        {
            let naming = "executions are named by their workflow and a number";
            object.without_effect(reader, "name", naming);
            object.without_effect(reader, "testWorkflowExecutionName", naming);
            object.without_effect(reader, "disableWebhooks", "there are no webhooks yet");
            object.without_effect(reader, "runningContext", "who asks is known by the token");
            let mut scalars = |reader: &mut Reader, name, what: &str| {
                let found = object.take(name);
                found.map_or_else(IndexMap::new, |found| found.scalars(reader, what))
            };
            config = scalars(reader, "config", "text or a number");
            tags = scalars(reader, "tags", "text");
            let found = object.take("target");
            target = found.and_then(|found| Target::read(reader, &found));
            object.finish(reader);
        }
        spec.finish(reader);
        Some(Self {
            metadata: metadata?,
            description,
            workflow: workflow?,
            config,
            tags: tags
                .into_iter()
                .map(|(name, text)| (name, text.text))
                .collect(),
            target,
            unsupported: std::mem::take(&mut reader.unsupported).0,
            warnings: std::mem::take(&mut reader.warnings).0,
        })
    }

    /// Values of parameters below those of `given`, which was asked for in another way.
    #[must_use]
    pub fn config_below(&self, given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let own = self.config.iter();
        let mut config: BTreeMap<String, String> = own
            .map(|(name, text)| (name.clone(), text.text.clone()))
            .collect();
        config.extend(given.clone());
        config
    }

    /// `spec.executionRequest.target` as agents are chosen by it.
    #[must_use]
    pub fn target(&self) -> Option<compile::Target> {
        self.target.as_ref().map(compile::target)
    }

    /// The problems with values of `config` at their places in this document: the compiler
    /// knows the names of the parameters alone.
    #[must_use]
    pub fn all_placed(&self, mut problems: Problems) -> Problems {
        for problem in &mut problems.0 {
            let name = problem.place.path.strip_prefix("config.");
            if let Some(text) = name.and_then(|name| self.config.get(name))
                && problem.place.line == 0
            {
                problem.place = Place::clone(&text.place);
            }
        }
        problems
    }

    /// Where the workflow is named.
    #[must_use]
    pub fn place(&self) -> Arc<Place> {
        Arc::clone(&self.workflow.place)
    }
}

fn read_workflow(reader: &mut Reader, found: &Found<'_>) -> Option<Text> {
    let mut object = found.object(reader)?;
    let name = object.text(reader, "name");
    if name.as_ref().is_none_or(|name| name.text.is_empty()) {
        let path = format!("{}.name", object.path());
        let message = "the name of the workflow to run is missing";
        reader.problem(object.mark(), &path, message);
    }
    object.finish(reader);
    name
}
