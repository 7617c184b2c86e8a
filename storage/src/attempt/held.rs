//! Attempts and their executions, locked together in a transaction that changes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use muster_core::{
    execution::{Event, IllegalTransition, Lease, State},
    id::{AgentId, AttemptId, ExecutionId},
    policy::{Ending, Verdict},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    Value,
};
use uuid::Uuid;

use super::{Status, status};
use crate::{
    Error,
    entity::{
        self, Changing, attempt as row, execution as execution_row, execution_steps as steps_row,
    },
    error::Kind,
    execution::{self, Change, Changed, Recent, Saved, StepOutput, StepResult},
    text, time,
    transaction::Failure,
};

/// Both rows, locked: the execution first, as everywhere.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) change: Change,
    pub(crate) attempt: row::Model,
    /// The attempt as it was read.
    read: row::Model,
    now: Timestamp,
    /// Results of the steps that are to be written, as JSON.
    steps: Option<String>,
    /// The same of what they gave out.
    outputs: Option<String>,
}

impl Held {
    /// Locks an attempt and its execution.
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

    /// Refuses whoever does not hold the attempt by this lease, or when it is none of these.
    pub(crate) fn require_lease(&self, lease: Lease, statuses: &[Status]) -> Result<(), Failure> {
        if self.lease() != lease || !statuses.contains(&status(&self.attempt)?) {
            let lost = IllegalTransition::LeaseLost { epoch: lease.epoch };
            return Err(Error::from(lost).into());
        }
        Ok(())
    }

    /// Locks attempts and their executions, as far as they are there, whosever they are. Where two
    /// attempts are of one execution, one of them is missing.
    pub(crate) async fn lock_all<C: ConnectionTrait>(
        db: &C,
        recent: &Recent,
        ids: &BTreeSet<Uuid>,
        now: Timestamp,
    ) -> Result<BTreeMap<AttemptId, Self>, Failure> {
        let ids = entity::padded(ids.iter().copied());
        let of_attempts = row::Entity::find()
            .select_only()
            .column(row::Column::ExecutionId)
            .filter(row::Column::Id.is_in(ids.iter().copied()))
            .into_query();
        // In one order for all, so that they can not wait for each other in a circle.
        let executions = execution_row::Entity::find()
            .filter(execution_row::Column::Id.in_subquery(of_attempts))
            .order_by_asc(execution_row::Column::Id)
            .lock_exclusive();
        let executions = recent.locked(db, executions).await?;
        let attempts = row::Entity::find()
            .filter(row::Column::Id.is_in(ids.iter().copied()))
            .order_by_asc(row::Column::Id)
            .lock_exclusive()
            .all(db)
            .await?;
        let mut changes: HashMap<Uuid, Change> = executions
            .into_iter()
            .map(|row| (row.id, Change::new(row, now)))
            .collect();
        let held = attempts.into_iter().filter_map(|attempt| {
            let change = changes.remove(&attempt.execution_id)?;
            Some((attempt.id.into(), Self::new(change, attempt, now)))
        });
        Ok(held.collect())
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
        Ok(Self::new(change, attempt, now))
    }

    fn new(change: Change, attempt: row::Model, now: Timestamp) -> Self {
        Self {
            change,
            read: attempt.clone(),
            attempt,
            now,
            steps: None,
            outputs: None,
        }
    }

    /// Whether it is this agent's.
    pub(crate) fn is_of(&self, agent: AgentId) -> bool {
        self.attempt.agent_id == agent.as_uuid()
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
        let state = self.change.lifecycle()?.state;
        self.change.event(event, message);
        self.change.explain(reason, message);
        if state.is_terminal() {
            self.change.log(&execution::LogSummary {
                size: self.attempt.log_offset,
                sha256: None,
                complete: false,
            });
            self.end_steps(db, state).await?;
        } else if state == State::Queued {
            self.reset_steps(db).await?;
        }
        self.change.state_event(message);
        Ok(())
    }

    /// Replaces the results of the steps.
    pub(crate) fn write_steps(&mut self, steps: &[StepResult]) -> Result<(), Failure> {
        self.steps = Some(text::encode(&steps)?);
        Ok(())
    }

    /// Replaces what the steps gave out.
    pub(crate) fn write_outputs(&mut self, outputs: &[StepOutput]) -> Result<(), Failure> {
        self.outputs = Some(text::encode(&outputs)?);
        Ok(())
    }

    /// The results of the steps, as they will be stored.
    async fn steps<C: ConnectionTrait>(&self, db: &C) -> Result<Vec<StepResult>, Failure> {
        match &self.steps {
            Some(json) => text::decode(json),
            None => execution::steps(db, self.change.id()).await,
        }
    }

    /// Ends the steps of an execution that ended without a completion record.
    async fn end_steps<C: ConnectionTrait>(&mut self, db: &C, state: State) -> Result<(), Failure> {
        let mut steps = self.steps(db).await?;
        execution::end(&mut steps, state);
        self.write_steps(&steps)
    }

    /// Keeps the results of the steps with the attempt, and takes them back for the next one.
    pub(crate) async fn reset_steps<C: ConnectionTrait>(&mut self, db: &C) -> Result<(), Failure> {
        let mut steps = self.steps(db).await?;
        self.attempt.steps_json = Some(text::encode(&steps)?);
        execution::reset(&mut steps);
        self.write_steps(&steps)?;
        self.write_outputs(&[])
    }

    /// Sets how long after the end of its lease the attempt counts as lost: by policy once steps
    /// have begun, at once when it is to end.
    pub(crate) fn keep_for(&mut self) -> Result<(), Failure> {
        let stopping = self.change.lifecycle()?.stop.is_some();
        let begun = self.attempt.start_time.is_some() && !stopping;
        let wait = self.change.policy()?.lost_after(begun).as_millis();
        let wait = i64::try_from(wait).unwrap_or(i64::MAX);
        self.attempt.lost_after = wait;
        // Who renews the lease meanwhile waits for the lock on the attempt, and adds the new time.
        self.attempt.lose_time = self.attempt.lease_expire_time.saturating_add(wait);
        Ok(())
    }

    /// Writes the attempt alone.
    pub(crate) async fn save_attempt<C: ConnectionTrait>(&self, db: &C) -> Result<(), Failure> {
        save_attempts(db, std::slice::from_ref(self)).await
    }

    /// Writes both rows and the history.
    pub(crate) async fn save<C: ConnectionTrait>(mut self, db: &C) -> Result<Changed, Failure> {
        let effects = self.change.take_effects();
        let Saved { execution, .. } = save_all(db, vec![self])
            .await?
            .pop()
            .ok_or_else(|| Failure::internal("save an attempt", "nothing was saved"))?;
        Ok(Changed { execution, effects })
    }
}

/// What can change of an attempt, apart from its lease's end and its log's offset.
const CHANGING: [Changing<row::Model>; 16] = entity::changing!(row:
    Status status,
    Phase phase,
    Sequence sequence,
    StartTime start_time,
    FinishTime finish_time,
    Reason reason,
    Message message,
    LogSize log_size,
    LogSha256 log_sha256,
    LogEnded log_ended,
    LogComplete log_complete,
    Address address,
    Ready ready,
    StepsJson steps_json,
    LostAfter lost_after,
    LoseTime lose_time,
);

/// Writes attempts, their executions and the history as far as they have changed, a statement for
/// each table. The caller bounds their number. Returns the executions in the same order.
pub(crate) async fn save_all<C: ConnectionTrait>(
    db: &C,
    all: Vec<Held>,
) -> Result<Vec<Saved>, Failure> {
    save_attempts(db, &all).await?;
    let mut changes = Vec::with_capacity(all.len());
    let (mut steps, mut outputs): (Vec<Vec<Value>>, Vec<Vec<Value>>) = (Vec::new(), Vec::new());
    for held in all {
        let execution: Value = held.change.id().as_uuid().into();
        steps.extend(held.steps.map(|json| vec![execution.clone(), json.into()]));
        outputs.extend(held.outputs.map(|json| vec![execution, json.into()]));
        changes.push(held.change);
    }
    let key = [steps_row::Column::ExecutionId];
    for (column, rows) in [
        (steps_row::Column::StepsJson, steps),
        (steps_row::Column::OutputsJson, outputs),
    ] {
        entity::update_all::<steps_row::Entity, _>(db, &key, &[column], rows).await?;
    }
    execution::save_all(db, changes).await
}

async fn save_attempts<C: ConnectionTrait>(db: &C, all: &[Held]) -> Result<(), Failure> {
    let rows = all.iter().map(|held| (&held.read, &held.attempt));
    let columns = entity::changed(&CHANGING, rows);
    let rows = all
        .iter()
        .map(|held| entity::change(&held.attempt, row::Column::Id, &columns));
    let rows = rows.collect();
    entity::update_all::<row::Entity, _>(db, &[row::Column::Id], &columns, rows).await?;
    Ok(())
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
