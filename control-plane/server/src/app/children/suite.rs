//! Members of a suite: other workflows, found by name or by their labels, run for a parent.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::{
    execution::Lease,
    id::{ExecutionId, ProjectId},
};
use muster_spec::{compile::Undeclared, manifest::Document, schema::Workflow};
use muster_storage::{
    agent::Agent,
    execution::{Execution, Origin, Role, Target},
};

use super::{App, Error, MAX_GENERATIONS, NewChild, NewRun, Parent, SESSION_LABEL, Source};
use crate::app::{executions::ONE_LOOK, manifests::documents};

/// Most workflows that a selector finds.
const MAX_SELECTED: usize = 1000;

/// A condition on a label.
#[derive(Debug)]
pub(crate) struct Requirement {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
}

impl App {
    /// Runs a workflow for a parent. The outer error is about the workflow, the inner one about
    /// storing it.
    pub(super) async fn start_member(
        &self,
        parent: &Parent,
        instance: &NewChild,
        target: Option<Target>,
        origin: Origin,
        former: Option<&Execution>,
    ) -> Result<Result<(), muster_storage::Error>, Error> {
        let project = parent.execution.project;
        let name = instance.workflow.as_str();
        let executions = self.store.executions(project);
        let mut line = executions.ancestors(parent.execution.id).await?;
        line.insert(0, parent.execution.clone());
        check_line(&line, name)?;
        let root = line.last().map_or(parent.execution.id, |root| root.id);
        let source = match self.beside(project, root, name).await? {
            Some(text) => Source::Member {
                text,
                workflow: name.to_owned(),
            },
            // What failed is run again as it was.
            None => match former.filter(|it| it.workflow == name && it.workflow_revision > 0) {
                Some(former) => Source::Revision {
                    name: name.to_owned(),
                    revision: former.workflow_revision,
                },
                None => Source::Stored(name.to_owned()),
            },
        };
        let again = match former {
            Some(former) => Some(self.run_again(former, true, ONE_LOOK).await?),
            None => None,
        };
        let session = parent.execution.target.matches.get(SESSION_LABEL);
        let target = match session {
            // An embedded agent: there is no other.
            Some(session) => {
                let matches = [(SESSION_LABEL.to_owned(), session.clone())];
                Some(Target {
                    matches: matches.into(),
                    ..Target::default()
                })
            }
            None => target,
        };
        let new = NewRun {
            source,
            config: instance.config.clone(),
            tags: BTreeMap::new(),
            target,
            max_wait: None,
            undeclared: Undeclared::PassedOn,
            failed_only: again.is_some(),
            again,
        };
        let loaded = self.load(project, &new.source).await?;
        let creator = &parent.execution.creator;
        let project = self.store.projects().get(project).await?;
        let accepted = self
            .accept(creator, &project, &new, &loaded, Some(origin), None)
            .await;
        match accepted {
            Ok(_) => Ok(Ok(())),
            Err(Error::AlreadyExists(_)) => Ok(Ok(())),
            Err(error) => Err(error),
        }
    }

    /// The documents that came with the request of a tree's root, if the workflow is among them.
    async fn beside(
        &self,
        project: ProjectId,
        root: ExecutionId,
        workflow: &str,
    ) -> Result<Option<String>, Error> {
        let source = self.store.executions(project).source(root).await?;
        let Some(text) = source else {
            return Ok(None);
        };
        let known = workflows(&text)?;
        let found = known.iter().any(|known| known.metadata.name == workflow);
        Ok(found.then_some(text))
    }

    /// The documents that came with the request of the root of an execution's tree.
    pub(in crate::app) async fn source_of_tree(
        &self,
        project: ProjectId,
        execution: ExecutionId,
    ) -> Result<Option<String>, Error> {
        let executions = self.store.executions(project);
        let line = executions.ancestors(execution).await?;
        let root = line.last().map_or(execution, |root| root.id);
        Ok(executions.source(root).await?)
    }

    /// Names of the workflows that labels select, the parent's own among them when it has the labels.
    pub(crate) async fn select_workflows(
        &self,
        agent: &Agent,
        lease: Lease,
        labels: &BTreeMap<String, String>,
        requirements: &[Requirement],
    ) -> Result<Vec<String>, Error> {
        let parent = self.parent(agent, lease).await?;
        let project = parent.execution.project;
        let mut found = BTreeSet::new();
        if let Some(text) = self.source_of_tree(project, parent.execution.id).await? {
            for workflow in workflows(&text)? {
                let metadata = workflow.metadata;
                if selects(labels, requirements, &metadata.labels) {
                    found.insert(metadata.name);
                }
            }
        }
        let mut after: Option<String> = None;
        loop {
            let page = self
                .store
                .workflows(project)
                .list(after.as_deref(), 1000)
                .await?;
            for stored in page.items {
                if selects(labels, requirements, &stored.labels) {
                    found.insert(stored.name);
                }
            }
            after = page.next;
            if after.is_none() || found.len() > MAX_SELECTED {
                break;
            }
        }
        if found.len() > MAX_SELECTED {
            return Err(Error::LimitReached(format!(
                "the selector finds more than {MAX_SELECTED} workflows"
            )));
        }
        Ok(found.into_iter().collect())
    }
}

fn workflows(text: &str) -> Result<Vec<Workflow>, Error> {
    let all = documents(text)?.into_iter();
    Ok(all
        .filter_map(|document| match document {
            Document::Workflow(workflow) => Some(workflow),
            Document::Template(_) | Document::Request(_) | Document::Foreign(_) => None,
        })
        .collect())
}

/// Refuses a workflow that runs in one of its own members, and trees that are too deep.
fn check_line(line: &[Execution], name: &str) -> Result<(), Error> {
    let of_workflows = line.iter().filter(|execution| {
        let role = execution.origin.as_ref().map(|origin| origin.role);
        !matches!(role, Some(Role::Worker | Role::Service))
    });
    let mut chain: Vec<&str> = of_workflows
        .map(|execution| execution.workflow.as_str())
        .collect();
    chain.reverse();
    let loops = chain.contains(&name);
    chain.push(name);
    if loops {
        return Err(Error::FailedPrecondition(format!(
            "a workflow can not be a member of itself: {}",
            chain.join(" → ")
        )));
    }
    if line.len() >= MAX_GENERATIONS {
        return Err(Error::LimitReached(format!(
            "more than {MAX_GENERATIONS} generations: {}",
            chain.join(" → ")
        )));
    }
    Ok(())
}

/// A Kubernetes label selector.
fn selects(
    wanted: &BTreeMap<String, String>,
    requirements: &[Requirement],
    labels: &BTreeMap<String, String>,
) -> bool {
    let equal = wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    equal
        && requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.contains(value));
            match requirement.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_those_of_kubernetes() {
        let labels = BTreeMap::from([("os".to_owned(), "linux".to_owned())]);
        let requirement = |operator: &str, key: &str, values: &[&str]| Requirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        for (operator, key, values, expected) in [
            ("In", "os", &["linux", "mac"][..], true),
            ("In", "arch", &["arm"], false),
            ("NotIn", "os", &["mac"], true),
            ("NotIn", "arch", &["arm"], true),
            ("Exists", "os", &[], true),
            ("DoesNotExist", "os", &[], false),
            ("DoesNotExist", "arch", &[], true),
        ] {
            let found = selects(
                &BTreeMap::new(),
                &[requirement(operator, key, values)],
                &labels,
            );
            assert_eq!(found, expected, "{operator} {key}");
        }
        let other = BTreeMap::from([("os".to_owned(), "mac".to_owned())]);
        assert!(!selects(&other, &[], &labels));
    }
}
