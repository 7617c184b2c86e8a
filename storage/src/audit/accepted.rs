//! What is noted of new executions: one event for each call that has made some in a transaction,
//! however many. What a call gave in full stands with its executions; here are names of config values
//! and no values, for an event outlives its execution.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use muster_core::{
    id::{ExecutionId, ProjectId},
    target::Target,
};

use super::{
    Note, json,
    write::{below, new_row},
};
use crate::{
    Request,
    entity::audit_event as row,
    execution::{Identity, NewExecution},
    text,
    transaction::Failure,
};

/// Events of executions that are accepted together.
#[derive(Debug, Default)]
pub(crate) struct Accepted(Vec<Made>);

/// What one call has made.
#[derive(Debug)]
struct Made {
    note: Arc<Note>,
    project: ProjectId,
    ids: Vec<ExecutionId>,
    names: Vec<String>,
    workflows: BTreeSet<String>,
    config: BTreeSet<String>,
    tags: BTreeSet<String>,
    targets: BTreeSet<String>,
    reruns: BTreeSet<String>,
}

impl Accepted {
    /// Adds an execution; nothing when nobody has called for it but the server itself.
    pub(crate) fn add(
        &mut self,
        request: Option<&Request>,
        project: ProjectId,
        new: &NewExecution,
        identity: &Identity,
    ) -> Result<(), Failure> {
        let Some(note) = request.and_then(|request| request.note.as_ref()) else {
            return Ok(());
        };
        let target = match new.target == Target::default() {
            true => None,
            false => Some(text::encode(&new.target)?),
        };
        // Runs of one call mostly come one after the other.
        let mut known = self.0.iter_mut().rev();
        match known.find(|made| Arc::ptr_eq(&made.note, note)) {
            Some(made) => made.add(new, identity, target),
            None => {
                let mut made = Made::new(Arc::clone(note), project);
                made.add(new, identity, target);
                self.0.push(made);
            }
        }
        Ok(())
    }

    /// The rows.
    pub(crate) fn rows(&self, now: Timestamp) -> Result<Vec<row::Model>, Failure> {
        self.0.iter().map(|made| made.row(now)).collect()
    }
}

impl Made {
    fn new(note: Arc<Note>, project: ProjectId) -> Self {
        Self {
            note,
            project,
            ids: Vec::new(),
            names: Vec::new(),
            workflows: BTreeSet::new(),
            config: BTreeSet::new(),
            tags: BTreeSet::new(),
            targets: BTreeSet::new(),
            reruns: BTreeSet::new(),
        }
    }

    fn add(&mut self, new: &NewExecution, identity: &Identity, target: Option<String>) {
        self.ids.push(identity.id);
        self.names.push(identity.display_name.clone());
        self.workflows.insert(match new.workflow_revision {
            0 => identity.workflow.clone(),
            revision => format!("{}@{revision}", identity.workflow),
        });
        self.config.extend(new.config.keys().cloned());
        let tags = new.tags.iter().map(|(key, value)| format!("{key}={value}"));
        self.tags.extend(tags);
        self.targets.extend(target);
        let again = new.rerun.as_ref().map(|rerun| match rerun.failed {
            true => format!("{} (what failed)", rerun.name),
            false => rerun.name.clone(),
        });
        self.reruns.extend(again);
    }

    fn row(&self, now: Timestamp) -> Result<row::Model, Failure> {
        let mut note = Note::clone(&self.note);
        let joined = |all: &BTreeSet<String>| {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            all.join(", ")
        };
        for (name, value) in [
            ("count", self.ids.len().to_string()),
            ("executions", self.names.join(", ")),
            ("workflows", joined(&self.workflows)),
            ("config", joined(&self.config)),
            ("tags", joined(&self.tags)),
            ("targets", joined(&self.targets)),
            ("rerun_of", joined(&self.reruns)),
        ] {
            if !value.is_empty() {
                note.inputs.insert(name.to_owned(), value);
            }
        }
        let mut row = new_row(&note, Some(self.project), now)?;
        if let [id] = self.ids[..] {
            row.resource = below(&note.resource, &id.to_string());
        }
        let ids: Vec<String> = self.ids.iter().map(ToString::to_string).collect();
        row.after_json = json(&serde_json::json!({ "executions": ids }))?;
        Ok(row)
    }
}
