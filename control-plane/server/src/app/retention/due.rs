//! What a sweep is about to delete, and the word of it in the audit log, so that nothing is gone
//! unexplained. It is noted before it is deleted; where that fails, it stays.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_core::{id::ExecutionId, retention::Verdict};
use muster_storage::{
    audit::{Actor, NewAuditEvent, Note, Outcome},
    project::Project,
    retention::{Candidate, Part},
};

use super::{part_name, part_of};
use crate::app::{App, Error};

/// The action of whole units that go.
const DELETE_EXECUTIONS: &str = "Retention/DeleteExecutions";
/// The action of logs or artifacts that go alone.
const DELETE_FILES: &str = "Retention/DeleteFiles";

/// Units that a process remembers to have noted, 3 MiB.
const MOST_REMEMBERED: usize = 50_000;

/// A unit that is to be deleted, or files of it.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) candidate: Candidate,
    pub(super) part: Part,
    /// Beyond which limit it is.
    pub(super) limit: &'static str,
}

impl Due {
    /// What a verdict says of a unit; nothing when all of it stays.
    pub(super) fn new((candidate, verdict): (Candidate, Verdict)) -> Option<Self> {
        let (part, limit) = part_of(verdict)?;
        Some(Self {
            candidate,
            part,
            limit,
        })
    }

    const fn action(&self) -> &'static str {
        match self.part {
            Part::All => DELETE_EXECUTIONS,
            Part::Files { .. } => DELETE_FILES,
        }
    }

    /// Why it goes, or which files go.
    const fn kind(&self) -> &'static str {
        match self.part {
            Part::All => self.limit,
            Part::Files { .. } => part_name(self.part),
        }
    }

    /// Bytes of logs and of artifacts that go.
    const fn bytes(&self) -> (u64, u64) {
        let unit = &self.candidate.unit;
        match self.part {
            Part::All => (unit.log_bytes, unit.artifact_bytes),
            Part::Files { logs, artifacts } => (
                if logs { unit.log_bytes } else { 0 },
                if artifacts { unit.artifact_bytes } else { 0 },
            ),
        }
    }
}

impl App {
    /// Notes units of a workflow, the newest first, that are about to be deleted.
    pub(super) async fn note_due(
        &self,
        project: &Project,
        workflow: &str,
        due: &[Due],
    ) -> Result<(), Error> {
        for action in [DELETE_EXECUTIONS, DELETE_FILES] {
            let those = due.iter().filter(|due| due.action() == action);
            let those: Vec<&Due> = those.filter(|due| !self.noted_due.has(due)).collect();
            if let [newest, ..] = those[..] {
                let event = event(project, workflow, newest, &those);
                self.store.add_audit_event(event).await?;
                self.noted_due.add(&those);
            }
        }
        Ok(())
    }
}

/// What this process has noted: what stays all the same, as something of it goes on, is not noted again by each
/// sweep.
#[derive(Debug, Default)]
pub(crate) struct NotedDue(Mutex<HashSet<(ExecutionId, Part)>>);

impl NotedDue {
    fn has(&self, due: &Due) -> bool {
        self.lock().contains(&(due.candidate.id, due.part))
    }

    fn add(&self, those: &[&Due]) {
        let mut noted = self.lock();
        if noted.len() > MOST_REMEMBERED {
            noted.clear();
        }
        noted.extend(those.iter().map(|due| (due.candidate.id, due.part)));
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(ExecutionId, Part)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn event(project: &Project, workflow: &str, newest: &Due, due: &[&Due]) -> NewAuditEvent {
    let oldest = due.last().copied().unwrap_or(newest);
    let (mut executions, mut logs, mut artifacts) = (0_u64, 0_u64, 0_u64);
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for due in due {
        let (log, artifact) = due.bytes();
        executions = executions.saturating_add(due.candidate.executions);
        logs = logs.saturating_add(log);
        artifacts = artifacts.saturating_add(artifact);
        *kinds.entry(due.kind()).or_default() += 1;
    }
    let kinds = kinds.iter().map(|(kind, count)| format!("{kind}: {count}"));
    let kinds: Vec<String> = kinds.collect();
    let inputs = [
        ("units", due.len().to_string()),
        ("executions", executions.to_string()),
        ("log_bytes", logs.to_string()),
        ("artifact_bytes", artifacts.to_string()),
        ("first", oldest.candidate.id.to_string()),
        ("last", newest.candidate.id.to_string()),
        (
            match newest.part {
                Part::All => "limits",
                Part::Files { .. } => "files",
            },
            kinds.join("; "),
        ),
    ];
    let ids = due.iter().rev().map(|due| due.candidate.id.to_string());
    let ids: Vec<String> = ids.collect();
    NewAuditEvent {
        note: Note {
            actor: Actor::server("retention"),
            action: newest.action().to_owned(),
            resource: format!("projects/{}/workflows/{workflow}", project.name),
            peer: String::new(),
            inputs: inputs.map(|(name, value)| (name.to_owned(), value)).into(),
            request_id: None,
        },
        project: Some(project.id),
        before: Some(serde_json::json!({ "executions": ids }).to_string()),
        outcome: Outcome::Done,
        reason: String::new(),
    }
}
