//! The audit log: who may read it, and what of refused calls comes into it. Changes are noted by the
//! store, in their own transactions; who reads what runs left behind, by [`reading`].

mod reading;

use std::{sync::Mutex, time::Duration};

use jiff::Timestamp;
use muster_core::{execution::Lease, id::ProjectId};
use muster_storage::{
    Page,
    agent::Agent,
    audit::{Actor, ActorKind, AuditEvent, AuditFilter, NewAuditEvent, Note, Outcome, Scope},
    token::Role,
};
use tonic::Code;
use uuid::Uuid;

use super::{Access, App, Call, Caller, Error};
pub(super) use reading::{Reading, Readings};

/// How many refusals are noted at once, and how many of each kind in a second after that: enough for
/// people and their mistakes, and too few to fill the database with.
const BURST: f64 = 100.0;
/// See [`BURST`].
const A_SECOND: f64 = 5.0;
/// How long a refused caller waits until its refusal is noted; then it goes without, for the
/// database is busy or away.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most sweeps of old events in a row: the rest is for the next time.
const MOST_SWEEPS: u32 = 10;

/// How many refusals of a kind may be noted now.
#[derive(Debug)]
struct Allowance(Mutex<Left>);

#[derive(Debug, Default)]
struct Left {
    /// What is there, and since when it has not grown; full at the beginning.
    tokens: Option<(f64, Timestamp)>,
    /// How many were left out since one was noted.
    left_out: u64,
}

impl Allowance {
    /// Takes one; returns how many were left out before it.
    fn take(&self, now: Timestamp) -> Option<u64> {
        let mut left = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (tokens, since) = left.tokens.unwrap_or((BURST, now));
        let seconds = now.duration_since(since).as_secs_f64().max(0.0);
        let tokens = seconds.mul_add(A_SECOND, tokens).min(BURST);
        if tokens < 1.0 {
            left.tokens = Some((tokens, now));
            left.left_out += 1;
            metrics::counter!(crate::metrics::AUDIT_LEFT_OUT).increment(1);
            return None;
        }
        left.tokens = Some((tokens - 1.0, now));
        Some(std::mem::take(&mut left.left_out))
    }
}

/// How many refusals may be noted: those of strangers can not keep out those of known callers, nor those
/// of runs beyond a quota those of other changes.
#[derive(Debug)]
pub(super) struct Allowances {
    strangers: Allowance,
    runs: Allowance,
    known: Allowance,
}

impl Default for Allowances {
    fn default() -> Self {
        let full = || Allowance(Mutex::new(Left::default()));
        Self {
            strangers: full(),
            runs: full(),
            known: full(),
        }
    }
}

/// Who an agent is in the audit log.
pub(crate) fn agent(agent: &Agent) -> Actor {
    Actor {
        kind: ActorKind::Agent,
        id: Some(agent.id.as_uuid()),
        name: agent.name.clone(),
        role: String::new(),
    }
}

impl App {
    /// Events, newest first: of one project, or all that the caller may see.
    pub(crate) async fn list_audit_events(
        &self,
        caller: &Caller,
        project: Option<&str>,
        filter: &AuditFilter,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Page<AuditEvent, Uuid>, Error> {
        let scope = match (project, caller.project) {
            (Some(name), _) => Scope::Project(self.project(caller, name, Access::Write).await?.id),
            (None, None) => {
                caller.require_admin()?;
                Scope::Instance
            }
            (None, Some(_)) if caller.role == Role::Viewer => {
                let text = "the audit log needs a token with role member or admin";
                return Err(Error::PermissionDenied(text.to_owned()));
            }
            (None, Some(own)) => Scope::Project(own),
        };
        Ok(self.store.audit(scope).list(filter, after, limit).await?)
    }

    /// Notes a refused call, when it is one that matters: who had no good token, was not allowed to,
    /// reached for a foreign project, or could not change what it wanted to.
    pub(crate) async fn note_refusal(&self, call: &Call, code: Code, message: &str) {
        self.note_refused(call.note(), call, code, message).await;
    }

    /// Notes that runs of a batch were refused, of which this is told of the first.
    pub(crate) async fn note_refused_runs(
        &self,
        call: &Call,
        count: usize,
        code: Code,
        message: &str,
    ) {
        let mut note = call.note();
        let count = count.to_string();
        note.inputs.insert("refused_runs".to_owned(), count);
        self.note_refused(note, call, code, message).await;
    }

    async fn note_refused(&self, mut note: Note, call: &Call, code: Code, message: &str) {
        let matters = match code {
            Code::Unauthenticated | Code::PermissionDenied => true,
            Code::NotFound => call.is_change() || call.was_foreign(),
            Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::ResourceExhausted => call.is_change(),
            _ => false,
        };
        if !matters {
            return;
        }
        let allowance = match code {
            Code::Unauthenticated => &self.allowances.strangers,
            _ if call.is_creation() => &self.allowances.runs,
            _ => &self.allowances.known,
        };
        let Some(left_out) = allowance.take(self.clock.now()) else {
            return;
        };
        if left_out > 0 {
            let count = left_out.to_string();
            note.inputs.insert("left_out_before".to_owned(), count);
        }
        let reason = match code {
            // It may repeat what was given, and that may be a secret.
            Code::InvalidArgument => "what was given can not be used".to_owned(),
            _ => message.to_owned(),
        };
        let event = NewAuditEvent {
            note,
            project: call.project(),
            before: None,
            outcome: Outcome::Refused,
            reason,
        };
        let added = self.store.add_audit_event(event);
        match tokio::time::timeout(PATIENCE, added).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                metrics::counter!(crate::metrics::AUDIT_FAILED).increment(1);
                tracing::warn!(%error, "a refusal is not in the audit log");
            }
            Err(_late) => tracing::warn!("a refusal comes late into the audit log"),
        }
    }

    /// Notes that an agent is given the value of a credential; when that fails, it is not given.
    pub(super) async fn note_credential(
        &self,
        call: &Call,
        project: ProjectId,
        name: &str,
        execution: &str,
        lease: Lease,
    ) -> Result<(), Error> {
        let mut note = call.note();
        let project_name = self.project_name(project).await?;
        note.resource = format!("projects/{project_name}/credentials/{name}");
        note.inputs = [
            ("execution".to_owned(), execution.to_owned()),
            ("attempt".to_owned(), lease.attempt.to_string()),
        ]
        .into();
        let event = NewAuditEvent {
            note,
            project: Some(project),
            before: None,
            outcome: Outcome::Done,
            reason: String::new(),
        };
        Ok(self.store.add_audit_event(event).await?)
    }

    /// Removes events of the audit log that are too old.
    pub(crate) async fn expire_audit_events(&self) -> Result<(), Error> {
        let age = jiff::SignedDuration::try_from(self.config.audit_max_age).unwrap_or_default();
        let Ok(before) = self.clock.now().checked_sub(age) else {
            return Ok(());
        };
        for _ in 0..MOST_SWEEPS {
            if self.store.expire_audit_events(before).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_noted() {
        let allowance = Allowance(Mutex::new(Left::default()));
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().expect("a time");
        let noted = (0..1000).filter(|_| allowance.take(now).is_some());
        assert_eq!(noted.count(), 100);
        let later = now + jiff::SignedDuration::from_secs(1);
        assert_eq!(allowance.take(later), Some(900), "those that were left out");
        let noted = (0..1000).filter(|_| allowance.take(later).is_some());
        assert_eq!(noted.count(), 4);
    }
}
