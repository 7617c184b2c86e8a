//! Running an earlier execution again: its workflow in the revision that it ran, its config and tags.

use muster_core::id::ProjectId;
use muster_storage::execution::{Execution, Role, Target};

use super::{HIDDEN, NewRun, Source};
use crate::app::{App, Error};

/// Label of a machine's own agent, which is gone with the command that started it.
const SESSION_LABEL: &str = "muster.dev/session";

impl App {
    /// What a wish to run an earlier execution again stands for; what the wish says itself wins.
    pub(super) async fn again(&self, project: ProjectId, mut new: NewRun) -> Result<NewRun, Error> {
        let Source::Earlier(name) = &new.source else {
            return Ok(new);
        };
        let executions = self.store.executions(project);
        let earlier = executions.find(name).await?;
        check(&earlier)?;
        let source = match earlier.workflow_revision {
            0 => executions.source(earlier.id).await?,
            _ => None,
        };
        new.source = match source {
            Some(text) => Source::Member {
                text,
                workflow: earlier.workflow,
            },
            None if earlier.workflow_revision > 0 => Source::Revision {
                name: earlier.workflow,
                revision: earlier.workflow_revision,
            },
            None => {
                let text = format!("the manifest of {} was not kept", earlier.display_name);
                return Err(Error::NotFound(text));
            }
        };
        for (name, value) in earlier.config {
            // A sensitive value was not kept: the compiler tells that it is missing.
            if value != HIDDEN {
                new.config.entry(name).or_insert(value);
            }
        }
        for (name, value) in earlier.tags {
            new.tags.entry(name).or_insert(value);
        }
        if new.target.is_none() {
            let mut matches = earlier.target.matches;
            matches.remove(SESSION_LABEL);
            let not = earlier.target.not;
            let said = !matches.is_empty() || !not.is_empty();
            new.target = said.then_some(Target { matches, not });
        }
        Ok(new)
    }
}

/// Workers and services are parts of their parent.
fn check(earlier: &Execution) -> Result<(), Error> {
    match &earlier.origin {
        Some(origin) if matches!(origin.role, Role::Worker | Role::Service) => {
            let text = format!(
                "{} is a part of another execution: run that one again",
                earlier.display_name
            );
            Err(Error::invalid("execution", text))
        }
        _ => Ok(()),
    }
}
