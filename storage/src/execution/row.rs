//! Rows of executions: read into records, and changed by an event of the state machine.
//!
//! Which transition follows is decided by `muster_core::execution` alone.

use jiff::Timestamp;
use muster_core::{
    execution::{Effect, Event, Lease, Lifecycle, Pause, State, Stop},
    id::{AttemptId, ExecutionId, ProjectId},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
};

use super::{Changed, Execution, LogSummary, child};
use crate::{
    Error,
    entity::{self, execution as row, execution_event as event_row},
    error::Kind,
    text, time,
    transaction::Failure,
};

/// An execution that is being changed in a transaction which holds its row.
#[derive(Debug)]
pub(crate) struct Change {
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
        Ok(Self::new(row, now))
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
        Ok(Self::new(row, now))
    }

    /// Takes a row that the transaction has locked already.
    pub(crate) const fn new(row: row::Model, now: Timestamp) -> Self {
        Self {
            row,
            effects: Vec::new(),
            now,
            events: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> ExecutionId {
        self.row.id.into()
    }

    pub(crate) fn lifecycle(&self) -> Result<Lifecycle, Failure> {
        lifecycle(&self.row)
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
        self.row.pause_sequence = next.pause.sequence;
        self.row.pause_wanted = next.pause.paused;
        self.row.last_epoch = next.last_epoch;
        let now = time::millis(self.now);
        if next.state == State::Assigned {
            self.row.assign_time = Some(now);
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

    /// Sets why it is where it is.
    pub(crate) fn explain(&mut self, reason: &str, message: &str) {
        self.row.reason = text::reason(reason);
        self.row.message = text::message(message);
    }

    /// Adds remarks that are not there yet.
    pub(crate) fn warn(&mut self, warnings: &[String]) -> Result<(), Failure> {
        if warnings.is_empty() {
            return Ok(());
        }
        let mut all: Vec<String> = text::decode(&self.row.warnings_json)?;
        for warning in warnings.iter().map(|warning| text::message(warning)) {
            if !all.contains(&warning) {
                all.push(warning);
            }
        }
        self.row.warnings_json = text::encode(&all)?;
        Ok(())
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

    /// Counts one artifact more, up to a limit.
    pub(crate) fn count_artifact(&mut self, limit: u32) -> Result<(), Error> {
        if i64::from(self.row.artifact_count) >= i64::from(limit) {
            let reason = format!("the execution has {limit} artifacts, which is the limit");
            return Err(Error::invalid("artifacts", reason));
        }
        self.row.artifact_count += 1;
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

    /// Writes the row on top of the revision that was read, and its events.
    pub(crate) async fn save<C: ConnectionTrait>(self, db: &C) -> Result<Changed, Failure> {
        let (events, changed) = self.save_row(db).await?;
        entity::insert_all::<event_row::Entity, _>(db, events).await?;
        Ok(changed)
    }

    /// Writes the row alone and returns the events for the caller to write.
    pub(crate) async fn save_row<C: ConnectionTrait>(
        mut self,
        db: &C,
    ) -> Result<(Vec<event_row::Model>, Changed), Failure> {
        let read = self.row.revision;
        self.row.revision += 1;
        let row = &self.row;
        let values = row::ActiveModel {
            revision: Set(row.revision),
            state: Set(row.state.clone()),
            lease_attempt_id: Set(row.lease_attempt_id),
            lease_epoch: Set(row.lease_epoch),
            stop: Set(row.stop.clone()),
            pause_sequence: Set(row.pause_sequence),
            pause_wanted: Set(row.pause_wanted),
            last_epoch: Set(row.last_epoch),
            reason: Set(row.reason.clone()),
            message: Set(row.message.clone()),
            assign_time: Set(row.assign_time),
            start_time: Set(row.start_time),
            finish_time: Set(row.finish_time),
            log_size: Set(row.log_size),
            log_sha256: Set(row.log_sha256.clone()),
            log_complete: Set(row.log_complete),
            artifact_count: Set(row.artifact_count),
            warnings_json: Set(row.warnings_json.clone()),
            event_count: Set(row.event_count),
            ..Default::default()
        };
        let changed = row::Entity::update_many()
            .set(values)
            .filter(row::Column::Id.eq(row.id))
            .filter(row::Column::Revision.eq(read))
            .exec(db)
            .await?;
        if changed.rows_affected != 1 {
            return Err(Error::Conflict {
                kind: Kind::Execution,
                id: self.id().to_string(),
            }
            .into());
        }
        Ok((
            self.events,
            Changed {
                execution: record(self.row)?,
                effects: self.effects,
            },
        ))
    }

    /// The execution as it was read, when nothing is to be written.
    pub(crate) fn unchanged(self) -> Result<Changed, Failure> {
        Ok(Changed {
            execution: record(self.row)?,
            effects: self.effects,
        })
    }
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
        pause: Pause {
            sequence: row.pause_sequence,
            paused: row.pause_wanted,
        },
        last_epoch: row.last_epoch,
    })
}

pub(crate) fn record(row: row::Model) -> Result<Execution, Failure> {
    Ok(Execution {
        lifecycle: lifecycle(&row)?,
        origin: child::origin(&row),
        id: row.id.into(),
        project: row.project_id.into(),
        workflow: row.workflow,
        workflow_revision: row.workflow_revision,
        number: row.number,
        display_name: row.display_name,
        reason: row.reason,
        message: row.message,
        tags: text::decode(&row.tags_json)?,
        labels: text::decode(&row.labels_json)?,
        config: text::decode(&row.config_json)?,
        target: text::decode(&row.target_json)?,
        warnings: text::decode(&row.warnings_json)?,
        priority: i32::try_from(-row.queue_rank).unwrap_or(0),
        creator: row.creator,
        create_time: time::timestamp(row.create_time),
        assign_time: row.assign_time.map(time::timestamp),
        start_time: row.start_time.map(time::timestamp),
        finish_time: row.finish_time.map(time::timestamp),
        queue_deadline: row.queue_deadline.map(time::timestamp),
        log: LogSummary {
            size: row.log_size,
            sha256: row.log_sha256,
            complete: row.log_complete,
        },
        artifact_count: u32::try_from(row.artifact_count).unwrap_or(0),
        revision: row.revision,
    })
}
