//! A call under way: what the audit log would have to be told of it, gathered as it becomes known.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use muster_core::id::ProjectId;
use muster_storage::audit::{Actor, Note};

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    /// `Service/Method`.
    action: Arc<str>,
    /// The address that it comes from; may be empty.
    peer: String,
    actor: OnceLock<Actor>,
    project: OnceLock<ProjectId>,
    /// What a change is about; stays empty for what only looks.
    note: OnceLock<Arc<Note>>,
    foreign: AtomicBool,
}

impl Call {
    pub(crate) fn new(action: Arc<str>, peer: String) -> Self {
        Self {
            action,
            peer,
            actor: OnceLock::new(),
            project: OnceLock::new(),
            note: OnceLock::new(),
            foreign: AtomicBool::new(false),
        }
    }

    /// Notes who calls; the first word counts, here and below.
    pub(crate) fn is_by(&self, actor: Actor) {
        self.actor.get_or_init(|| actor);
    }

    /// Notes whose it is.
    pub(crate) fn is_in(&self, project: ProjectId) {
        self.project.get_or_init(|| project);
    }

    /// Notes that it reached for a project that its caller can not see.
    pub(crate) fn is_foreign(&self) {
        self.foreign.store(true, Ordering::Relaxed);
    }

    /// Notes what is to be changed; returns what is noted of the call, which runs of a batch share.
    pub(crate) fn changes(&self, note: Note) -> Arc<Note> {
        Arc::clone(self.note.get_or_init(|| Arc::new(note)))
    }

    pub(super) fn project(&self) -> Option<ProjectId> {
        self.project.get().copied()
    }

    /// Whether it is a change.
    pub(super) fn is_change(&self) -> bool {
        self.note.get().is_some()
    }

    /// Whether it is to make executions.
    pub(super) fn is_creation(&self) -> bool {
        matches!(
            &*self.action,
            "ExecutionService/CreateExecution" | "ExecutionService/BatchCreateExecutions"
        )
    }

    /// Whether it reached for a project that its caller can not see.
    pub(super) fn was_foreign(&self) -> bool {
        self.foreign.load(Ordering::Relaxed)
    }

    /// What is known of it.
    pub(crate) fn note(&self) -> Note {
        let told = self.note.get().map(|note| Note::clone(note));
        told.unwrap_or_else(|| Note {
            actor: self.actor.get().cloned().unwrap_or_else(Actor::nobody),
            action: self.action.to_string(),
            resource: String::new(),
            peer: self.peer.clone(),
            inputs: std::collections::BTreeMap::new(),
            request_id: None,
        })
    }
}
