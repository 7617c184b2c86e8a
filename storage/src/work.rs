//! What one agent may do: claim, renew, report, append to logs, add artifacts. Every call checks
//! that the attempt is this agent's; a stale epoch is refused by the state machine of `core`.

mod assignment;
mod claim;
mod direct;
mod evidence;
mod lease;
mod report;

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use muster_core::{
    execution::{Lease, Outcome, Phase},
    id::{AgentId, AttemptId, ProjectId},
};

pub use direct::NewDirect;
pub(crate) use lease::{LiveOf, Renewal};
pub(crate) use report::Told;

use crate::{
    Error, Store,
    artifact::{Artifact, NewArtifact, NewMissing},
    attempt::Attempt,
    execution::{Changed, Execution, StepOutput, StepResult},
};

/// What an agent asks for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its labels, those of the administrator won already.
    pub labels: BTreeMap<String, String>,
    /// Projects that it may serve; empty for all.
    pub projects: Vec<ProjectId>,
    /// At most this many.
    pub limit: u32,
    /// How long the leases last.
    pub lease_expire_time: Timestamp,
}

/// An attempt that its agent holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// The attempt.
    pub attempt: Attempt,
    /// Its execution.
    pub execution: Execution,
}

/// An attempt with all that its agent needs to run it.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The attempt.
    pub attempt: Attempt,
    /// Its execution.
    pub execution: Execution,
    /// Name of the project.
    pub project_name: String,
    /// Longest log, in bytes, as the project has it.
    pub max_log: Option<i64>,
    /// The compiled plan.
    pub plan: Bytes,
}

/// What an agent tells of one attempt: a snapshot.
#[derive(Debug, Clone)]
pub struct Report {
    /// The lease under which it tells.
    pub lease: Lease,
    /// Grows with every report of the attempt.
    pub sequence: i64,
    /// Where the attempt is.
    pub progress: Progress,
    /// What it waits for or why it is lost, `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// All steps; empty leaves what is stored.
    pub steps: Vec<StepResult>,
    /// What the steps gave out; empty leaves what is stored.
    pub outputs: Vec<StepOutput>,
    /// When the conductor began to walk the plan.
    pub start_time: Option<Timestamp>,
    /// What the plan asks for and has no effect there; added to those of the execution.
    pub warnings: Vec<String>,
    /// Where other pods of its cluster reach it; empty until known.
    pub address: String,
    /// It is a service, and ready.
    pub ready: bool,
    /// The log as far as it is durable, with the SHA-256 that the server has computed. Where this
    /// is what the completion record says, the log is ended with it.
    pub log: Option<DurableLog>,
}

/// What a server knows of a log of which it has taken every byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableLog {
    /// Its length in bytes.
    pub size: i64,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// Where a report says that its attempt is.
#[derive(Debug, Clone)]
pub enum Progress {
    /// It lives.
    At(Phase),
    /// The completion record is there.
    Completed(Completion),
    /// The infrastructure ended it without a completion record.
    Lost,
}

/// The conductor's record that the plan was walked to its end.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The outcome.
    pub outcome: Outcome,
    /// Reason, `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Length of the log.
    pub log_size: i64,
    /// SHA-256 of the log, lower-case hexadecimal.
    pub log_sha256: String,
    /// When the last step ended.
    pub finish_time: Option<Timestamp>,
}

/// What became of a report. Everything but a lost lease is acknowledged to the agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Reported {
    /// It was stored.
    Applied {
        /// The execution, and what is to be done.
        changed: Box<Changed>,
        /// The log is whole and was ended with it.
        log_ended: bool,
    },
    /// Its sequence was committed before.
    Repeat {
        /// The last committed sequence.
        sequence: i64,
    },
    /// The result of this very attempt and epoch was accepted before.
    AlreadyEnded {
        /// The last committed sequence.
        sequence: i64,
    },
    /// The lease is not the live one: the agent must stop.
    LeaseLost,
}

/// A stretch of a log whose blob is durable already.
#[derive(Debug, Clone)]
pub struct NewSegment {
    /// The lease under which it came.
    pub lease: Lease,
    /// Offset of its first byte.
    pub start: i64,
    /// Offset behind its last byte.
    pub end: i64,
    /// Key of its blob.
    pub blob: String,
    /// Size of its blob.
    pub blob_size: i64,
    /// How many lines end in it: its bytes that are line feeds.
    pub lines: i64,
    /// When its first byte was printed, milliseconds since the epoch, as the conductor told it.
    pub first_time: i64,
    /// When its last byte was printed.
    pub last_time: i64,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is the newest part of the log now.
    Stored {
        /// Every byte below is durable.
        durable: i64,
    },
    /// It does not begin at the durable offset: go on from there, and drop its blob.
    Elsewhere {
        /// Every byte below is durable.
        durable: i64,
    },
    /// The lease is not the live one, or the log is finished: drop the blob and stop.
    Refused,
}

/// What became of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The artifact as it is listed.
    pub artifact: Artifact,
    /// A blob that nothing names any more, to be deleted: that of a repeat or of a replaced file.
    pub discard: Option<String>,
}

/// What one agent may do.
#[derive(Debug)]
pub struct Work<'a> {
    pub(crate) store: &'a Store,
    pub(crate) agent: AgentId,
}

impl Work<'_> {
    /// Claims queued executions whose target accepts the agent, as if it were the only one:
    /// [`Queue::picture`](crate::queue::Queue::picture), a plan for this agent alone, and
    /// [`Queue::claim`](crate::queue::Queue::claim).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the agent is deleted.
    pub async fn claim(&self, claim: &Claim) -> Result<Vec<Assignment>, Error> {
        self.claim_alone(claim).await
    }

    /// Returns all attempts that the agent holds, oldest first, for reconciliation.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn live(&self) -> Result<Vec<Live>, Error> {
        self.load_live().await
    }

    /// Returns the whole assignments of those of the named attempts that the agent holds, to
    /// deliver them again.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn assignments(&self, ids: &[AttemptId]) -> Result<Vec<Assignment>, Error> {
        self.load_assignments(ids).await
    }

    /// Returns those of the named attempts that are or were this agent's, in no order.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn attempts(&self, ids: &[AttemptId]) -> Result<Vec<Attempt>, Error> {
        self.load_attempts(ids).await
    }

    /// Returns one attempt.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none or it is another agent's.
    pub async fn attempt(&self, id: AttemptId) -> Result<Attempt, Error> {
        self.load_attempt(id).await
    }

    /// Extends leases to `until`, all in one transaction, and returns those that are lost.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing is known about any lease.
    pub async fn renew(&self, leases: &[Lease], until: Timestamp) -> Result<Vec<Lease>, Error> {
        self.renew_leases(leases, until).await
    }

    /// Stores a report: attempt, steps, execution and event in one transaction, together with those
    /// that come at the same time. Safe to repeat. Reports are heard in the order of the calls, not
    /// in that in which their futures are awaited; one is stored even when nobody awaits it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the attempt is not this agent's.
    pub fn report(
        &self,
        report: Report,
    ) -> impl Future<Output = Result<Reported, Error>> + Send + use<> {
        self.store_report(report)
    }

    /// Gives an attempt back that was never started; its execution is queued again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::IllegalTransition`] when the lease is lost or it was started.
    pub async fn decline(
        &self,
        lease: Lease,
        reason: &str,
        message: &str,
    ) -> Result<Changed, Error> {
        self.give_back(lease, reason, message).await
    }

    /// Adds a segment to the log of an attempt if it begins at the durable offset. Safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the attempt is not this agent's; [`Error::Invalid`] for an empty
    /// segment.
    pub async fn append_log(&self, segment: &NewSegment) -> Result<Appended, Error> {
        self.store_segment(segment).await
    }

    /// Takes note that the bytes of a log below `to` that are not durable are not to be had any more:
    /// they are a gap. Safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the attempt is not this agent's.
    pub async fn skip_log(&self, lease: Lease, to: i64) -> Result<Appended, Error> {
        self.leave_gap(lease, to).await
    }

    /// Adds a complete artifact. The same path again replaces it within the attempt.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the attempt is not this agent's; [`Error::IllegalTransition`] when
    /// the lease is lost; [`Error::QuotaExceeded`] when the execution has too many;
    /// [`Error::Invalid`] when their bytes would be more than `limit`.
    pub async fn add_artifact(
        &self,
        lease: Lease,
        new: &NewArtifact,
        limit: i64,
    ) -> Result<Added, Error> {
        self.store_artifact(lease, new, limit, None).await
    }

    /// Takes note of a blob that an attempt may put itself; whether it may. It may not when it has been
    /// given too many that are no artifacts, or their bytes and those of the artifacts would be more than
    /// `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the attempt is not this agent's; [`Error::IllegalTransition`] when
    /// the lease is lost.
    pub async fn give_out_blob(
        &self,
        lease: Lease,
        new: &NewDirect,
        limit: i64,
    ) -> Result<bool, Error> {
        self.doom_direct(lease, new, limit).await
    }

    /// Adds a complete artifact whose blob the attempt has put itself, as [`Work::add_artifact`] does.
    /// Safe to repeat.
    ///
    /// # Errors
    ///
    /// Those of [`Work::add_artifact`]; [`Error::NotFound`] when the blob was not given out to the attempt,
    /// or is to be deleted before `after`.
    pub async fn add_direct_artifact(
        &self,
        lease: Lease,
        new: &NewArtifact,
        limit: i64,
        after: Timestamp,
    ) -> Result<Added, Error> {
        self.store_artifact(lease, new, limit, Some(after)).await
    }

    /// Takes note of files that could not be collected, or whose uploads did not come to their ends, also
    /// when the lease is lost by now. An artifact itself, when it comes, takes the place of its note.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the attempt is not this agent's.
    pub async fn miss_artifacts(&self, lease: Lease, new: &[NewMissing]) -> Result<(), Error> {
        self.note_missing(lease, new).await
    }
}
