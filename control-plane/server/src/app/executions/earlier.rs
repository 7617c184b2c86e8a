//! Running an earlier execution again: its workflow in the revision that it ran, its config and tags.

use muster_core::{execution::State, id::ProjectId};
use muster_spec::compile::Undeclared;
use muster_storage::execution::{Execution, Role, Target};

use super::{HIDDEN, NewRun, REPLICAS, Source, again::LOOKS};
use crate::app::{App, Error, children::SESSION_LABEL};

/// How the address of an archive begins that a suite has put aside for its members.
const ARCHIVE: &str = "muster:";

impl App {
    /// What a wish to run an earlier execution again stands for; what the wish says itself wins.
    pub(super) async fn again(&self, project: ProjectId, mut new: NewRun) -> Result<NewRun, Error> {
        let Source::Earlier(name) = &new.source else {
            return Ok(new);
        };
        let executions = self.store.executions(project);
        let earlier = executions.find(name).await?;
        check(&earlier)?;
        if new.failed_only {
            check_failed(&earlier)?;
        }
        new.again = Some(self.run_again(&earlier, new.failed_only, LOOKS).await?);
        let member = earlier.origin.is_some();
        if member {
            // Its suite gave it what it does not declare, too.
            new.undeclared = Undeclared::PassedOn;
        }
        let source = match earlier.workflow_revision {
            0 => self.source_of_tree(project, earlier.id).await?,
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
            if new.config.contains_key(&name) {
                continue;
            }
            // Nothing may take its place unseen, and be it the default.
            if value == HIDDEN {
                let text = "its value is sensitive and was not kept: give it again";
                return Err(Error::invalid(format!("config.{name}"), text));
            }
            if member && value.starts_with(ARCHIVE) {
                let text = format!(
                    "files of its suite were given to {}: run that one again",
                    earlier.display_name
                );
                return Err(Error::invalid(format!("config.{name}"), text));
            }
            new.config.insert(name, value);
        }
        for (name, value) in earlier.tags {
            // It was not asked for together with those that it ran beside.
            if name != REPLICAS {
                new.tags.entry(name).or_insert(value);
            }
        }
        if new.target.is_none() {
            let mut matches = earlier.target.matches;
            // A machine's own agent is gone with the command that started it.
            matches.remove(SESSION_LABEL);
            let not = earlier.target.not;
            let said = !matches.is_empty() || !not.is_empty();
            new.target = said.then_some(Target {
                matches,
                not,
                replicate: Vec::new(),
            });
        }
        Ok(new)
    }
}

/// Refuses an execution of which nothing has failed, or not yet.
fn check_failed(earlier: &Execution) -> Result<(), Error> {
    let name = &earlier.display_name;
    let text = match earlier.state() {
        State::Passed => format!("nothing to run again: all of {name} passed"),
        state if state.is_terminal() => return Ok(()),
        _ => format!("{name} still runs: `muster wait {name}` waits for its end"),
    };
    Err(Error::FailedPrecondition(text))
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
