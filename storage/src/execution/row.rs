//! Rows of executions: read into records, and changed by an event of the state machine.
//!
//! Which transition follows is decided by `muster_core::execution` alone.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use muster_core::{
    execution::{Cause, Effect, Event, Lease, Lifecycle, Pause, State, Stop},
    id::{AgentId, AttemptId, ExecutionId, ProjectId},
    policy::{Policy, Spent},
    timer::Timer,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ModelTrait, QueryFilter, QuerySelect, Value,
};

use crate::artifact;

use super::{Changed, Concurrency, Execution, LogSummary, Pin, child, lane};
use crate::{
    Error, audit,
    entity::{self, Changing, execution as row, execution_event as event_row},
    error::Kind,
    number::{signed, unsigned},
    text, time,
    transaction::Failure,
};

/// How many agents are remembered where an attempt could not begin.
const MOST_AVOIDED: usize = 8;

/// An execution that is being changed in a transaction which holds its row.
#[derive(Debug)]
pub(crate) struct Change {
    /// As it was read.
    read: Arc<row::Model>,
    row: row::Model,
    effects: Vec<Effect>,
    now: Timestamp,
    events: Vec<event_row::Model>,
}

impl Change {
    /// Locks an execution of a project.
    pub(crate) async fn of_project<C: ConnectionTrait>(
        db: &C,
        project: ProjectId,
        id: ExecutionId,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let row = row::Entity::find_by_id(id.as_uuid())
            .filter(row::Column::ProjectId.eq(project.as_uuid()))
            .lock_exclusive()
            .one(db)
            .await?
            .ok_or_else(|| Error::not_found(Kind::Execution, id))?;
        Ok(Self::new(Arc::new(row), now))
    }

    /// Locks an execution that the caller has come to by one of its attempts.
    pub(crate) async fn of_attempt<C: ConnectionTrait>(
        db: &C,
        id: ExecutionId,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let row = row::Entity::find_by_id(id.as_uuid())
            .lock_exclusive()
            .one(db)
            .await?
            .ok_or_else(|| Error::not_found(Kind::Execution, id))?;
        Ok(Self::new(Arc::new(row), now))
    }

    /// Takes a row that the transaction has locked already.
    pub(crate) fn new(read: Arc<row::Model>, now: Timestamp) -> Self {
        Self {
            row: (*read).clone(),
            read,
            effects: Vec::new(),
            now,
            events: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> ExecutionId {
        self.row.id.into()
    }

    pub(crate) fn project(&self) -> ProjectId {
        self.row.project_id.into()
    }

    pub(crate) fn lifecycle(&self) -> Result<Lifecycle, Failure> {
        lifecycle(&self.row)
    }

    /// What the audit log is told of it.
    pub(crate) fn told(&self) -> Result<Option<String>, Failure> {
        audit::json(&serde_json::json!({
            "display_name": self.row.display_name,
            "state": self.row.state,
            "stop": self.row.stop,
            "pause": self.row.pause_wanted,
            "pinned": self.row.pinned,
        }))
    }

    /// What the user chose.
    pub(crate) fn policy(&self) -> Result<Policy, Failure> {
        text::decode(&self.row.policy_json)
    }

    /// What is spent of it.
    pub(crate) fn spent(&self) -> Spent {
        spent(&self.row)
    }

    /// Notes what is spent.
    pub(crate) fn spend(&mut self, spent: Spent) {
        self.row.infrastructure_retries = signed(spent.infrastructure);
        self.row.test_retries = signed(spent.tests);
        self.row.lost_agents = signed(spent.lost_agents);
    }

    /// Prefers other agents from now on.
    pub(crate) fn avoid(&mut self, agent: AgentId) -> Result<(), Failure> {
        let mut avoided: Vec<AgentId> = text::decode(&self.row.avoid_json)?;
        avoided.retain(|known| *known != agent);
        avoided.push(agent);
        let surplus = avoided.len().saturating_sub(MOST_AVOIDED);
        avoided.drain(..surplus);
        self.row.avoid_json = text::encode(&avoided)?;
        self.row.lane = Some(lane::of(&self.row));
        Ok(())
    }

    /// When what it does now has taken too long.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.row.stage_deadline.map(time::timestamp)
    }

    /// Lets an event happen; whether the lifecycle changed.
    pub(crate) fn apply(&mut self, event: Event) -> Result<bool, Failure> {
        let old = self.lifecycle()?;
        let transition = old.on(event).map_err(Error::from)?;
        self.effects.extend(transition.effects);
        let next = transition.next;
        if next == old {
            return Ok(false);
        }
        self.row.state = next.state.as_str().to_owned();
        self.row.lease_attempt_id = next.lease.map(|lease| lease.attempt.as_uuid());
        self.row.lease_epoch = next.lease.map(|lease| lease.epoch);
        self.row.stop = next.stop.map(stop_name).map(str::to_owned);
        self.row.stop_cause = next.stop.map(|_| cause_name(next.cause).to_owned());
        self.row.pause_sequence = next.pause.sequence;
        self.row.pause_wanted = next.pause.paused;
        self.row.last_epoch = next.last_epoch;
        let timer = self.timer().after(&self.policy()?, &old, &next, self.now);
        self.row.stage_deadline = timer.deadline.map(time::millis);
        let left = timer.left.map(|left| left.as_millis());
        self.row.run_left = left.map(|left| i64::try_from(left).unwrap_or(i64::MAX));
        let now = time::millis(self.now);
        if next.state == State::Assigned && old.state != State::Assigned {
            self.row.assign_time = Some(now);
            // What is known of the log is that of the newest attempt.
            self.log(&LogSummary::default());
        }
        if next.state == State::Queued {
            self.row.assign_time = None;
            self.row.start_time = None;
        }
        if next.state.is_terminal() {
            self.row.finish_time = Some(now);
        }
        Ok(true)
    }

    fn timer(&self) -> Timer {
        let left = self.row.run_left.and_then(|left| u64::try_from(left).ok());
        Timer {
            deadline: self.deadline(),
            left: left.map(Duration::from_millis),
        }
    }

    /// Sets why it is where it is.
    pub(crate) fn explain(&mut self, reason: &str, message: &str) {
        self.row.reason = text::reason(reason);
        self.row.message = text::message(message);
    }

    /// Adds remarks that are not there yet; whether there were any.
    pub(crate) fn warn(&mut self, warnings: &[String]) -> Result<bool, Failure> {
        if warnings.is_empty() {
            return Ok(false);
        }
        let mut all: Vec<String> = text::decode(&self.row.warnings_json)?;
        let before = all.len();
        for warning in warnings.iter().map(|warning| text::message(warning)) {
            if !all.contains(&warning) {
                all.push(warning);
            }
        }
        self.row.warnings_json = text::encode(&all)?;
        Ok(all.len() > before)
    }

    /// Notes when the conductor began; the first note stays.
    pub(crate) fn started(&mut self, at: Timestamp) {
        let at = time::millis(at);
        self.row.start_time.get_or_insert(at);
    }

    /// Sets what is known of its log.
    pub(crate) fn log(&mut self, summary: &LogSummary) {
        self.row.log_size = summary.size;
        self.row.log_sha256.clone_from(&summary.sha256);
        self.row.log_complete = summary.complete;
    }

    /// Takes back that its log is complete; whether it was.
    pub(crate) const fn spoil_log(&mut self) -> bool {
        std::mem::replace(&mut self.row.log_complete, false)
    }

    /// Counts one artifact more, up to a limit.
    pub(crate) fn count_artifact(&mut self, limit: u32) -> Result<(), Error> {
        if i64::from(self.row.artifact_count) >= i64::from(limit) {
            return Err(Error::QuotaExceeded(artifact::too_many()));
        }
        self.row.artifact_count += 1;
        Ok(())
    }

    /// Counts the bytes of an artifact that takes the place of one with `before` bytes, up to a limit.
    pub(crate) fn count_artifact_bytes(
        &mut self,
        before: i64,
        size: i64,
        limit: i64,
    ) -> Result<(), Error> {
        let bytes = (self.row.artifact_bytes - before)
            .max(0)
            .saturating_add(size);
        if bytes > limit {
            return Err(Error::invalid("artifacts", artifact::too_long(limit)));
        }
        self.row.artifact_bytes = bytes;
        Ok(())
    }

    /// Whether it is pinned.
    pub(crate) const fn is_pinned(&self) -> bool {
        self.row.pinned
    }

    /// Pins it, or lets it go.
    pub(crate) fn pin(&mut self, pin: Option<&Pin>) -> Result<(), Failure> {
        self.row.pinned = pin.is_some();
        self.row.pin_json = pin.map(text::encode).transpose()?;
        Ok(())
    }

    /// Adds to its history.
    pub(crate) fn event(&mut self, kind: &str, message: &str) {
        self.row.event_count += 1;
        self.events.push(event_row::Model {
            execution_id: self.row.id,
            sequence: self.row.event_count,
            time: time::millis(self.now),
            kind: kind.to_owned(),
            message: text::message(message),
        });
    }

    /// Adds the state that it has now to its history.
    pub(crate) fn state_event(&mut self, message: &str) {
        let kind = self.row.state.to_uppercase();
        self.event(&kind, message);
    }

    /// What is to be done once all of this is committed, since this was last asked.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Writes the row on top of the revision that was read, and its events.
    pub(crate) async fn save<C: ConnectionTrait>(mut self, db: &C) -> Result<Changed, Failure> {
        let effects = self.take_effects();
        let mut saved = save_all(db, vec![self]).await?;
        let Saved { execution, .. } = saved
            .pop()
            .ok_or_else(|| Failure::internal("save an execution", "nothing was saved"))?;
        Ok(Changed { execution, effects })
    }

    /// The row and the events of one that is not stored yet: this change is its second one.
    pub(crate) fn into_new(mut self) -> (row::Model, Vec<event_row::Model>) {
        self.row.revision += 1;
        (self.row, self.events)
    }

    /// The execution as it was read, when nothing is to be written.
    pub(crate) fn unchanged(self) -> Result<Changed, Failure> {
        Ok(Changed {
            execution: record(&self.row)?,
            effects: self.effects,
        })
    }
}

/// What can change of an execution.
const CHANGING: [Changing<row::Model>; 30] = entity::changing!(row:
    Revision revision,
    State state,
    LeaseAttemptId lease_attempt_id,
    LeaseEpoch lease_epoch,
    Stop stop,
    StopCause stop_cause,
    PauseSequence pause_sequence,
    PauseWanted pause_wanted,
    LastEpoch last_epoch,
    Reason reason,
    Message message,
    WarningsJson warnings_json,
    AssignTime assign_time,
    StartTime start_time,
    FinishTime finish_time,
    LogSize log_size,
    LogSha256 log_sha256,
    LogComplete log_complete,
    ArtifactCount artifact_count,
    ArtifactBytes artifact_bytes,
    EventCount event_count,
    Lane lane,
    AvoidJson avoid_json,
    InfrastructureRetries infrastructure_retries,
    TestRetries test_retries,
    LostAgents lost_agents,
    StageDeadline stage_deadline,
    RunLeft run_left,
    Pinned pinned,
    PinJson pin_json,
);

/// An execution as it was written.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) execution: Execution,
    /// For [`Recent`](super::Recent), once it is committed.
    pub(crate) row: Arc<row::Model>,
}

/// Writes rows on top of the revisions that were read, as far as they have changed, and their events:
/// two statements for all. The caller bounds their number. Returns the executions in the same order.
pub(crate) async fn save_all<C: ConnectionTrait>(
    db: &C,
    mut changes: Vec<Change>,
) -> Result<Vec<Saved>, Failure> {
    let mut events = Vec::new();
    for change in &mut changes {
        change.row.revision += 1;
        events.append(&mut change.events);
    }
    let rows = changes.iter().map(|change| (&*change.read, &change.row));
    let columns = entity::changed(&CHANGING, rows);
    let updates = changes
        .iter()
        .map(|Change { read, row, .. }| -> Vec<Value> {
            let key = [row.get(row::Column::Id), read.revision.into()];
            let values = columns.iter().map(|column| row.get(*column));
            key.into_iter().chain(values).collect()
        });
    let updates: Vec<Vec<Value>> = updates.collect();
    let key = [row::Column::Id, row::Column::Revision];
    let updated = entity::update_all::<row::Entity, _>(db, &key, &columns, updates).await?;
    let mut saved = Vec::with_capacity(changes.len());
    for change in changes {
        let row = Arc::new(change.row);
        let execution = record(&row)?;
        saved.push(Saved { execution, row });
    }
    if updated != saved.len() as u64 {
        let first = saved.first().map(|it| it.execution.id.to_string());
        return Err(Error::Conflict {
            kind: Kind::Execution,
            id: first.unwrap_or_default(),
        }
        .into());
    }
    entity::insert_all::<event_row::Entity, _>(db, &events).await?;
    Ok(saved)
}

fn spent(row: &row::Model) -> Spent {
    Spent {
        infrastructure: unsigned(row.infrastructure_retries),
        tests: unsigned(row.test_retries),
        lost_agents: unsigned(row.lost_agents),
    }
}

const fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Caller => "caller",
        Cause::Deadline => "deadline",
    }
}

fn cause(name: &str) -> Option<Cause> {
    [Cause::Caller, Cause::Deadline]
        .into_iter()
        .find(|cause| cause_name(*cause) == name)
}

const fn stop_name(stop: Stop) -> &'static str {
    match stop {
        Stop::Orderly => "orderly",
        Stop::Forced => "forced",
    }
}

fn stop(name: &str) -> Option<Stop> {
    [Stop::Orderly, Stop::Forced]
        .into_iter()
        .find(|stop| stop_name(*stop) == name)
}

fn lifecycle(row: &row::Model) -> Result<Lifecycle, Failure> {
    let state = State::from_name(&row.state).ok_or_else(|| {
        Failure::internal(
            "read an execution",
            format!("unknown state '{}'", row.state),
        )
    })?;
    let lease = row
        .lease_attempt_id
        .zip(row.lease_epoch)
        .map(|(attempt, epoch)| Lease {
            attempt: AttemptId::from(attempt),
            epoch,
        });
    Ok(Lifecycle {
        state,
        lease,
        stop: row.stop.as_deref().and_then(stop),
        cause: row
            .stop_cause
            .as_deref()
            .and_then(cause)
            .unwrap_or_default(),
        pause: Pause {
            sequence: row.pause_sequence,
            paused: row.pause_wanted,
        },
        last_epoch: row.last_epoch,
    })
}

/// An execution as its row tells of it.
pub(crate) fn record(row: &row::Model) -> Result<Execution, Failure> {
    Ok(Execution {
        lifecycle: lifecycle(row)?,
        origin: child::origin(row),
        policy: text::decode(&row.policy_json)?,
        spent: spent(row),
        concurrency: row.concurrency_group.clone().map(|group| Concurrency {
            group,
            most: row.concurrency_most.map_or(1, unsigned).max(1),
        }),
        avoid: text::decode(&row.avoid_json)?,
        deadline: row.stage_deadline.map(time::timestamp),
        id: row.id.into(),
        project: row.project_id.into(),
        workflow: row.workflow.clone(),
        workflow_revision: row.workflow_revision,
        number: row.number,
        display_name: row.display_name.clone(),
        reason: row.reason.clone(),
        message: row.message.clone(),
        tags: text::decode(&row.tags_json)?,
        labels: text::decode(&row.labels_json)?,
        config: text::decode(&row.config_json)?,
        target: text::decode(&row.target_json)?,
        warnings: text::decode(&row.warnings_json)?,
        priority: i32::try_from(-row.queue_rank).unwrap_or(0),
        creator: row.creator.clone(),
        create_time: time::timestamp(row.create_time),
        assign_time: row.assign_time.map(time::timestamp),
        start_time: row.start_time.map(time::timestamp),
        finish_time: row.finish_time.map(time::timestamp),
        queue_deadline: row.queue_deadline.map(time::timestamp),
        log: LogSummary {
            size: row.log_size,
            sha256: row.log_sha256.clone(),
            complete: row.log_complete,
        },
        artifact_count: unsigned(row.artifact_count),
        artifact_bytes: row.artifact_bytes,
        pin: row.pin_json.as_deref().map(text::decode).transpose()?,
        rerun: row.rerun_json.as_deref().map(text::decode).transpose()?,
        logs_delete_time: row.logs_delete_time.map(time::timestamp),
        artifacts_delete_time: row.artifacts_delete_time.map(time::timestamp),
        revision: row.revision,
    })
}
