//! An attempt and its execution, locked together in a transaction that changes them.

use jiff::Timestamp;
use muster_core::{
    execution::{Event, Lease, State},
    id::{AgentId, AttemptId, ExecutionId},
    policy::{Ending, Verdict},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter,
    QuerySelect, sea_query::Expr,
};

use super::Status;
use crate::{
    Error,
    entity::attempt as row,
    error::Kind,
    execution::{self, Change, Changed},
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
        Self::of(db, change, id, now).await
    }

    /// Takes an execution that the transaction has locked already, and locks one of its attempts.
    pub(crate) async fn of<C: ConnectionTrait>(
        db: &C,
        change: Change,
        id: AttemptId,
        now: Timestamp,
    ) -> Result<Self, Failure> {
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
    /// `told` says whether its agent knows.
    pub(crate) async fn lose<C: ConnectionTrait>(
        &mut self,
        db: &C,
        ending: Ending<'_>,
        told: bool,
        reason: &str,
        message: &str,
    ) -> Result<(), Failure> {
        let verdict = self.change.policy()?.after(self.change.spent(), ending);
        let lease = self.lease();
        let retry = verdict.is_again();
        self.change.apply(match told {
            true => Event::AttemptLost { lease, retry },
            false => Event::Revoke { lease, retry },
        })?;
        self.change.spend(verdict.spent());
        if retry {
            self.change.avoid(self.attempt.agent_id.into())?;
        }
        self.end(Status::Lost, reason, message);
        if let Verdict::Over {
            poison: true,
            spent,
        } = verdict
        {
            let message = format!(
                "{} agents were lost while they ran it, so no other one gets it: it may be what \
                 kills them; the last one: {message}",
                spent.lost_agents
            );
            return self.give_up(db, "ATTEMPT_LOST", "POISON", &message).await;
        }
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
            self.reset_steps(db).await?;
        }
        self.change.state_event(message);
        Ok(())
    }

    /// Keeps the results of the steps with the attempt, and takes them back for the next one.
    pub(crate) async fn reset_steps<C: ConnectionTrait>(&mut self, db: &C) -> Result<(), Failure> {
        let kept = execution::reset_steps(db, self.change.id()).await?;
        self.attempt.steps_json = Some(kept);
        Ok(())
    }

    /// Sets how long after the end of its lease the attempt counts as lost: by policy once steps
    /// have begun, at once when it is to end.
    pub(crate) async fn keep_for<C: ConnectionTrait>(&mut self, db: &C) -> Result<(), Failure> {
        let stopping = self.change.lifecycle()?.stop.is_some();
        let begun = self.attempt.start_time.is_some() && !stopping;
        let wait = self.change.policy()?.lost_after(begun).as_millis();
        let wait = i64::try_from(wait).unwrap_or(i64::MAX);
        if wait == self.attempt.lost_after {
            return Ok(());
        }
        self.attempt.lost_after = wait;
        // The end of the lease is renewed without a lock on the execution: never written from here.
        row::Entity::update_many()
            .col_expr(row::Column::LostAfter, Expr::value(wait))
            .col_expr(
                row::Column::LoseTime,
                Expr::col(row::Column::LeaseExpireTime).add(wait),
            )
            .filter(row::Column::Id.eq(self.attempt.id))
            .exec(db)
            .await?;
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
        steps_json: Set(row.steps_json.clone()),
        ..Default::default()
    };
    row::Entity::update_many()
        .set(values)
        .filter(row::Column::Id.eq(row.id))
        .exec(db)
        .await?;
    Ok(())
}
