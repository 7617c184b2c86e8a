//! Attempts: placements of executions on agents, as they are stored and shown.

mod held;

use jiff::Timestamp;
use muster_core::{
    execution::{Lease, Phase},
    id::{AgentId, AttemptId, ExecutionId, ProjectId},
};

use sea_orm::{Condition, sea_query::Expr};

use crate::{entity::attempt as row, execution::StepResult, text, time, transaction::Failure};

pub(crate) use held::{Held, find, lease, save_all};

/// One placement of an execution on one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// Its execution.
    pub execution: ExecutionId,
    /// The project of its execution.
    pub project: ProjectId,
    /// Its agent.
    pub agent: AgentId,
    /// Name of its agent, which may be deleted.
    pub agent_name: String,
    /// Epoch of its lease.
    pub epoch: i64,
    /// How it stands.
    pub status: Status,
    /// Where the agent told it is.
    pub phase: Option<Phase>,
    /// Last committed sequence of its reports.
    pub sequence: i64,
    /// The log as its completion record told it.
    pub told_log: Option<ToldLog>,
    /// Nothing will be added to its log any more.
    pub log_ended: bool,
    /// Its log has the length and the SHA-256 that its completion record told.
    pub log_complete: bool,
    /// When its lease ends if it is not renewed.
    pub lease_expire_time: Timestamp,
    /// When it counts as lost if it is not renewed: by policy later than the lease.
    pub lose_time: Timestamp,
    /// Durable bytes of its log.
    pub log_offset: i64,
    /// When the agent got it.
    pub create_time: Timestamp,
    /// When the conductor began to walk the plan.
    pub start_time: Option<Timestamp>,
    /// When its result was accepted or its lease was lost.
    pub finish_time: Option<Timestamp>,
    /// What it waits for or why it ended, `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Where other pods of its cluster reach it; empty until known.
    pub address: String,
    /// It is a service, and ready.
    pub ready: bool,
    /// The results of its steps, when another attempt has taken its place; empty else.
    pub steps: Vec<StepResult>,
}

/// What a completion record says of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldLog {
    /// Its length in bytes.
    pub size: i64,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

impl Attempt {
    /// The lease that it has or had.
    #[must_use]
    pub const fn lease(&self) -> Lease {
        Lease {
            attempt: self.id,
            epoch: self.epoch,
        }
    }
}

/// How an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Its lease is the live one.
    Live,
    /// Its completion record was accepted.
    Completed,
    /// It was given back before it was started.
    Declined,
    /// It ended without a completion record.
    Lost,
}

impl Status {
    /// The name that is stored.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Completed => "completed",
            Self::Declined => "declined",
            Self::Lost => "lost",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Live, Self::Completed, Self::Declined, Self::Lost]
            .into_iter()
            .find(|status| status.as_str() == name)
    }
}

/// The condition of the partial indexes, letter by letter: SQLite does not use them for a
/// parameter.
pub(crate) fn is_live() -> Condition {
    Condition::all().add(Expr::cust("status = 'live'"))
}

pub(crate) const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Finishing => "finishing",
    }
}

fn phase(name: &str) -> Option<Phase> {
    [
        Phase::Preparing,
        Phase::Running,
        Phase::Paused,
        Phase::Finishing,
    ]
    .into_iter()
    .find(|phase| phase_name(*phase) == name)
}

pub(crate) fn status(row: &row::Model) -> Result<Status, Failure> {
    Status::from_name(&row.status).ok_or_else(|| {
        Failure::internal(
            "read an attempt",
            format!("unknown status '{}'", row.status),
        )
    })
}

pub(crate) fn record(row: row::Model) -> Result<Attempt, Failure> {
    Ok(Attempt {
        status: status(&row)?,
        id: row.id.into(),
        execution: row.execution_id.into(),
        project: row.project_id.into(),
        agent: row.agent_id.into(),
        agent_name: row.agent_name,
        epoch: row.epoch,
        phase: row.phase.as_deref().and_then(phase),
        sequence: row.sequence,
        told_log: row
            .log_size
            .zip(row.log_sha256)
            .map(|(size, sha256)| ToldLog { size, sha256 }),
        log_ended: row.log_ended,
        log_complete: row.log_complete,
        lease_expire_time: time::timestamp(row.lease_expire_time),
        lose_time: time::timestamp(row.lose_time),
        log_offset: row.log_offset,
        create_time: time::timestamp(row.create_time),
        start_time: row.start_time.map(time::timestamp),
        finish_time: row.finish_time.map(time::timestamp),
        reason: row.reason,
        message: row.message,
        address: row.address.unwrap_or_default(),
        ready: row.ready.unwrap_or(false),
        steps: match row.steps_json {
            Some(json) => text::decode(&json)?,
            None => Vec::new(),
        },
    })
}
