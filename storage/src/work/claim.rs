//! Claiming: from the queue to leases of one agent.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use muster_core::{
    execution::{Event, Lease},
    id::{AttemptId, ProjectId},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Select,
    sea_query::{Expr, LockBehavior, LockType},
};
use uuid::Uuid;

use super::{Assignment, Claim, Work};
use crate::{
    Error, agent,
    agent::Agent,
    attempt::{self, Status},
    entity::{
        self, attempt as attempt_row, execution as execution_row, execution_event as event_row,
        execution_plan as plan_row, project as project_row,
    },
    execution::{Change, Target},
    text, time,
    transaction::Failure,
};

/// Most executions of one claim.
const MOST: u32 = 256;
/// How many queued executions are looked at together.
const WINDOW: u32 = 200;
/// How many windows one claim looks at: what waits behind that many executions for other agents
/// has to wait until some of them are gone.
const WINDOWS: u32 = 50;

/// What is looked at before a row is locked.
#[derive(Debug, FromQueryResult)]
struct Candidate {
    id: Uuid,
    queue_rank: i64,
    target_json: String,
}

impl Work<'_> {
    pub(super) async fn claim_queued(&self, claim: &Claim) -> Result<Vec<Assignment>, Error> {
        if claim.limit == 0 {
            return Ok(Vec::new());
        }
        // Where nothing waits no transaction is needed: on SQLite it would hold up writers.
        let waits = self
            .store
            .read("look_at_queue", || async {
                let first = queued(claim).limit(1).one(self.store.reader()).await?;
                Ok(first.is_some())
            })
            .await?;
        if !waits {
            return Ok(Vec::new());
        }
        let now = self.store.clock().now();
        self.store
            .transaction("claim_executions", |tx| async move {
                let agent = agent::load(&*tx, self.agent).await?;
                let rows = pick(&*tx, claim).await?;
                assign(&*tx, &agent, rows, claim.lease_expire_time, now).await
            })
            .await
    }
}

fn queued(claim: &Claim) -> Select<execution_row::Entity> {
    let query = execution_row::Entity::find()
        // Letter by letter the condition of the partial index, see `attempt::is_live`.
        .filter(Expr::cust("state = 'queued'"))
        // What is left of a parent that has ended waits for the sweep that ends it.
        .filter(Expr::cust(
            "(parent_attempt_id IS NULL OR role = 'detached' OR EXISTS (SELECT 1 FROM attempts AS parents \
             WHERE parents.id = executions.parent_attempt_id AND parents.status = 'live'))",
        ))
        .order_by_asc(execution_row::Column::QueueRank)
        .order_by_asc(execution_row::Column::Id);
    if claim.projects.is_empty() {
        return query;
    }
    let projects = claim.projects.iter().map(|project| project.as_uuid());
    query.filter(execution_row::Column::ProjectId.is_in(projects))
}

/// Locks as many executions as were asked for, in the order of the queue.
async fn pick<C: ConnectionTrait>(
    db: &C,
    claim: &Claim,
) -> Result<Vec<execution_row::Model>, Failure> {
    let wanted = Ord::min(claim.limit, MOST) as usize;
    let mut picked = Vec::new();
    let mut after = None;
    for _ in 0..WINDOWS {
        let window = window(db, claim, after).await?;
        after = window.last().map(|last| (last.queue_rank, last.id));
        let last = window.len() < WINDOW as usize;
        let mut suitable = Vec::new();
        for candidate in window {
            let target: Target = text::decode(&candidate.target_json)?;
            if target.accepts(&claim.labels) {
                suitable.push(candidate.id);
            }
        }
        let mut suitable = suitable.as_slice();
        while picked.len() < wanted && !suitable.is_empty() {
            let (now, later) = suitable.split_at(Ord::min(suitable.len(), wanted - picked.len()));
            suitable = later;
            picked.extend(lock(db, now).await?);
        }
        if last || picked.len() >= wanted {
            break;
        }
    }
    Ok(picked)
}

async fn window<C: ConnectionTrait>(
    db: &C,
    claim: &Claim,
    after: Option<(i64, Uuid)>,
) -> Result<Vec<Candidate>, Failure> {
    let mut query = queued(claim)
        .select_only()
        .column(execution_row::Column::Id)
        .column(execution_row::Column::QueueRank)
        .column(execution_row::Column::TargetJson)
        .limit(u64::from(WINDOW));
    if let Some((rank, id)) = after {
        let last = Expr::tuple([Expr::value(rank), Expr::value(id)]);
        let columns = [execution_row::Column::QueueRank, execution_row::Column::Id];
        query = query.filter(Expr::tuple(columns.map(Expr::col)).gt(last));
    }
    Ok(query.into_model().all(db).await?)
}

/// Locks those that are still queued and that nobody else is about to claim.
async fn lock<C: ConnectionTrait>(
    db: &C,
    ids: &[Uuid],
) -> Result<Vec<execution_row::Model>, Failure> {
    Ok(execution_row::Entity::find()
        .filter(execution_row::Column::Id.is_in(ids.iter().copied()))
        .filter(execution_row::Column::State.eq("queued"))
        .order_by_asc(execution_row::Column::QueueRank)
        .order_by_asc(execution_row::Column::Id)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(db)
        .await?)
}

async fn assign<C: ConnectionTrait>(
    db: &C,
    agent: &Agent,
    rows: Vec<execution_row::Model>,
    lease_expire_time: Timestamp,
    now: Timestamp,
) -> Result<Vec<Assignment>, Failure> {
    let mut events = Vec::new();
    let mut attempts = Vec::new();
    let mut executions = Vec::new();
    for row in rows {
        let mut change = Change::new(row, now);
        let lease = Lease {
            attempt: AttemptId::generate(),
            epoch: change.lifecycle()?.last_epoch + 1,
        };
        change.apply(Event::Assign(lease))?;
        change.explain("", "");
        change.state_event(&format!("to agent {}", agent.name));
        let (new_events, changed) = change.save_row(db).await?;
        events.extend(new_events);
        let execution = changed.execution;
        attempts.push(attempt_row::Model {
            id: lease.attempt.as_uuid(),
            execution_id: execution.id.as_uuid(),
            project_id: execution.project.as_uuid(),
            agent_id: agent.id.as_uuid(),
            agent_name: agent.name.clone(),
            epoch: lease.epoch,
            status: Status::Live.as_str().to_owned(),
            phase: None,
            sequence: 0,
            lease_expire_time: time::millis(lease_expire_time),
            create_time: time::millis(now),
            start_time: None,
            finish_time: None,
            reason: String::new(),
            message: String::new(),
            log_offset: 0,
            log_size: None,
            log_sha256: None,
            log_ended: false,
            address: None,
            ready: None,
        });
        executions.push(execution);
    }
    entity::insert_all::<event_row::Entity, _>(db, events).await?;
    entity::insert_all::<attempt_row::Entity, _>(db, attempts.clone()).await?;
    let mut plans = plans(db, executions.iter().map(|item| item.id.as_uuid())).await?;
    let names = project_names(db, executions.iter().map(|item| item.project)).await?;
    let mut assignments = Vec::with_capacity(executions.len());
    for (attempt, execution) in attempts.into_iter().zip(executions) {
        assignments.push(Assignment {
            attempt: attempt::record(attempt)?,
            project_name: names.get(&execution.project).cloned().unwrap_or_default(),
            plan: plans.remove(&execution.id.as_uuid()).unwrap_or_default(),
            execution,
        });
    }
    Ok(assignments)
}

pub(super) async fn plans<C: ConnectionTrait>(
    db: &C,
    executions: impl Iterator<Item = Uuid>,
) -> Result<BTreeMap<Uuid, Bytes>, Failure> {
    let rows = plan_row::Entity::find()
        .filter(plan_row::Column::ExecutionId.is_in(executions))
        .all(db)
        .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| (row.execution_id, Bytes::from(row.plan)))
        .collect())
}

pub(super) async fn project_names<C: ConnectionTrait>(
    db: &C,
    projects: impl Iterator<Item = ProjectId>,
) -> Result<BTreeMap<ProjectId, String>, Failure> {
    let mut ids: Vec<Uuid> = projects.map(ProjectId::as_uuid).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = project_row::Entity::find()
        .filter(project_row::Column::Id.is_in(ids))
        .all(db)
        .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| (ProjectId::from(row.id), row.name))
        .collect())
}
