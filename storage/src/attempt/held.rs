//! An attempt and its execution, locked together in a transaction that changes them.

use jiff::Timestamp;
use muster_core::{
    execution::{Event, Lease, State},
    id::{AgentId, AttemptId, ExecutionId},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
};

use super::Status;
use crate::{
    Error,
    entity::attempt as row,
    error::Kind,
    execution::{self, Change, Changed},
    queue::Retry,
    text, time,
    transaction::Failure,
};

/// Both rows, locked: the execution first, as everywhere.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) change: Change,
    pub(crate) attempt: row::Model,
    now: Timestamp,
}

impl Held {
    /// Locks an attempt, of one agent where one is given, and its execution.
    pub(crate) async fn lock<C: ConnectionTrait>(
        db: &C,
        agent: Option<AgentId>,
        id: AttemptId,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let attempt = find(db, agent, id).await?;
        let execution = ExecutionId::from(attempt.execution_id);
        let change = Change::of_attempt(db, execution, now).await?;
        // Read again: it may have changed before the execution was locked.
        let attempt = row::Entity::find_by_id(id.as_uuid())
            .lock_exclusive()
            .one(db)
            .await?
            .ok_or_else(|| Error::not_found(Kind::Attempt, id))?;
        Ok(Self {
            change,
            attempt,
            now,
        })
    }

    pub(crate) fn lease(&self) -> Lease {
        lease(&self.attempt)
    }

    /// Ends the attempt.
    pub(crate) fn end(&mut self, status: Status, reason: &str, message: &str) {
        self.attempt.status = status.as_str().to_owned();
        self.attempt.finish_time = Some(time::millis(self.now));
        self.attempt.reason = text::reason(reason);
        self.attempt.message = text::message(message);
        // Without a completion record nobody may add to the log.
        if status != Status::Completed {
            self.attempt.log_ended = true;
        }
    }

    /// Ends an attempt that has no completion record; its execution is queued again or ends.
    pub(crate) async fn lose<C: ConnectionTrait>(
        &mut self,
        db: &C,
        retry: Retry,
        reason: &str,
        message: &str,
    ) -> Result<(), Failure> {
        let again = retry.allows(self.attempt.epoch, self.attempt.start_time.is_some());
        let lease = self.lease();
        self.change.apply(Event::AttemptLost {
            lease,
            retry: again,
        })?;
        self.end(Status::Lost, reason, message);
        self.give_up(db, "ATTEMPT_LOST", reason, message).await
    }

    /// Follows an attempt that ended without a completion record: steps, log, reason, history.
    pub(crate) async fn give_up<C: ConnectionTrait>(
        &mut self,
        db: &C,
        event: &str,
        reason: &str,
        message: &str,
    ) -> Result<(), Failure> {
        let id = self.change.id();
        let state = self.change.lifecycle()?.state;
        self.change.event(event, message);
        self.change.explain(reason, message);
        if state.is_terminal() {
            self.change.log(&execution::LogSummary {
                size: self.attempt.log_offset,
                sha256: None,
                complete: false,
            });
            execution::end_steps(db, id, state).await?;
        } else if state == State::Queued {
            execution::reset_steps(db, id).await?;
        }
        self.change.state_event(message);
        Ok(())
    }

    /// Writes both rows and the history.
    pub(crate) async fn save<C: ConnectionTrait>(self, db: &C) -> Result<Changed, Failure> {
        save_attempt(db, &self.attempt).await?;
        self.change.save(db).await
    }
}

pub(crate) fn lease(row: &row::Model) -> Lease {
    Lease {
        attempt: row.id.into(),
        epoch: row.epoch,
    }
}

/// Finds an attempt, of one agent where one is given.
pub(crate) async fn find<C: ConnectionTrait>(
    db: &C,
    agent: Option<AgentId>,
    id: AttemptId,
) -> Result<row::Model, Failure> {
    let mut query = row::Entity::find_by_id(id.as_uuid());
    if let Some(agent) = agent {
        query = query.filter(row::Column::AgentId.eq(agent.as_uuid()));
    }
    query
        .one(db)
        .await?
        .ok_or_else(|| Error::not_found(Kind::Attempt, id).into())
}

/// Writes what can change of an attempt, apart from its lease's end and its log's offset.
pub(crate) async fn save_attempt<C: ConnectionTrait>(
    db: &C,
    row: &row::Model,
) -> Result<(), Failure> {
    let values = row::ActiveModel {
        status: Set(row.status.clone()),
        phase: Set(row.phase.clone()),
        sequence: Set(row.sequence),
        start_time: Set(row.start_time),
        finish_time: Set(row.finish_time),
        reason: Set(row.reason.clone()),
        message: Set(row.message.clone()),
        log_size: Set(row.log_size),
        log_sha256: Set(row.log_sha256.clone()),
        log_ended: Set(row.log_ended),
        address: Set(row.address.clone()),
        ready: Set(row.ready),
        ..Default::default()
    };
    row::Entity::update_many()
        .set(values)
        .filter(row::Column::Id.eq(row.id))
        .exec(db)
        .await?;
    Ok(())
}
