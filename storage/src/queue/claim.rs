//! From grants to leases, for several agents in one transaction.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use muster_core::{
    execution::{Event, Lease},
    id::{AgentId, AttemptId, ExecutionId, ProjectId},
    schedule::Grant,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockBehavior, LockType},
};
use uuid::Uuid;

use super::{Claimed, Queue, picture};
use crate::{
    Error,
    attempt::{self, Status},
    entity::{
        self, agent as agent_row, attempt as attempt_row, execution as execution_row,
        execution_plan as plan_row, project as project_row,
    },
    execution::{self, Change, Recent, Saved},
    time,
    transaction::Failure,
    work::Assignment,
};

impl Queue<'_> {
    pub(super) async fn claim_granted(
        &self,
        grants: &[Grant],
        lease_expire_time: Timestamp,
    ) -> Result<Claimed, Error> {
        if grants.is_empty() {
            return Ok(Claimed::default());
        }
        let now = self.store.clock().now();
        self.store
            .transaction("claim_executions", |tx| async move {
                let agents = agents(&*tx, grants).await?;
                let mut claimed = Claimed::default();
                let mut wanted = BTreeMap::new();
                for grant in grants {
                    if let Some(agent) = claimed.takes(grant.agent, &agents) {
                        wanted.insert(grant.execution.as_uuid(), agent);
                    }
                }
                let projects = Limits::lock(&*tx, grants).await?;
                let recent = self.store.recent();
                let rows = lock(&*tx, recent, wanted.keys().copied()).await?;
                let rows = projects.admit(&*tx, rows).await?;
                let pairs = rows
                    .into_iter()
                    .filter_map(|row| Some((*wanted.get(&row.id)?, row)));
                let pairs = pairs.collect();
                let assigned = assign(&*tx, recent, pairs, lease_expire_time, now).await?;
                claimed.assignments = assigned.0;
                Ok((claimed, assigned.1))
            })
            .await
            .map(|(claimed, rows)| {
                self.store.recent().keep_all(rows);
                claimed
            })
    }
}

impl Claimed {
    /// The agent of a grant, when it takes work; what keeps it from that is noted.
    pub(super) fn takes<'a>(
        &mut self,
        agent: AgentId,
        agents: &'a HashMap<Uuid, Agent>,
    ) -> Option<&'a Agent> {
        let refused = match agents.get(&agent.as_uuid()) {
            Some(agent) if !agent.cordoned => return Some(agent),
            Some(_) => &mut self.cordoned,
            None => &mut self.gone,
        };
        if !refused.contains(&agent) {
            refused.push(agent);
        }
        None
    }
}

/// What a claim asks of an agent.
pub(super) struct Agent {
    id: Uuid,
    name: String,
    cordoned: bool,
}

/// The agents of grants, as they are now.
pub(super) async fn agents<C: ConnectionTrait>(
    db: &C,
    grants: &[Grant],
) -> Result<HashMap<Uuid, Agent>, Failure> {
    let ids: BTreeSet<Uuid> = grants.iter().map(|grant| grant.agent.as_uuid()).collect();
    let rows: Vec<(Uuid, String, bool)> = agent_row::Entity::find()
        .filter(agent_row::Column::Id.is_in(entity::padded(ids)))
        .select_only()
        .columns([
            agent_row::Column::Id,
            agent_row::Column::Name,
            agent_row::Column::Cordoned,
        ])
        .into_tuple()
        .all(db)
        .await?;
    let agents = rows
        .into_iter()
        .map(|(id, name, cordoned)| Agent { id, name, cordoned });
    Ok(agents.map(|agent| (agent.id, agent)).collect())
}

/// Quotas and concurrency groups, which count exactly: those who claim for the same project wait
/// for one another here, as long as it has some.
struct Limits {
    /// Places left in a project with a quota.
    quotas: HashMap<Uuid, u32>,
}

impl Limits {
    async fn lock<C: ConnectionTrait>(db: &C, grants: &[Grant]) -> Result<Self, Failure> {
        let ids: BTreeSet<Uuid> = grants.iter().map(|grant| grant.project.as_uuid()).collect();
        let projects = project_row::Entity::find()
            .filter(project_row::Column::Id.is_in(ids))
            .filter(project_row::Column::MaxRunning.is_not_null())
            .order_by_asc(project_row::Column::Id)
            // Not what a new execution's reference to its project has to wait for.
            .lock(LockType::NoKeyUpdate)
            .all(db)
            .await?;
        let mut quotas = HashMap::new();
        for project in projects {
            if let Some(most) = project.max_running {
                let counted = picture::counted(db, project.id).await?;
                quotas.insert(project.id, picture::left(most, counted));
            }
        }
        Ok(Self { quotas })
    }

    /// Those of the rows that quotas and groups have places for.
    async fn admit<C: ConnectionTrait>(
        mut self,
        db: &C,
        rows: Vec<Arc<execution_row::Model>>,
    ) -> Result<Vec<Arc<execution_row::Model>>, Failure> {
        let mut groups: HashMap<(Uuid, String), u32> = HashMap::new();
        let mut admitted = Vec::with_capacity(rows.len());
        for row in rows {
            let key = row
                .concurrency_group
                .clone()
                .map(|name| (row.project_id, name));
            if let Some(key) = &key
                && !groups.contains_key(key)
            {
                lock_group(db, &row).await?;
                let running = picture::of_group(db, key.0, &key.1).await?;
                groups.insert(key.clone(), running);
            }
            let crowded = key.as_ref().is_some_and(|key| {
                let most = row.concurrency_most.unwrap_or(1).max(1);
                groups
                    .get(key)
                    .is_some_and(|running| picture::left(most, *running) == 0)
            });
            let quota = self.quotas.get_mut(&row.project_id);
            if crowded || quota.as_ref().is_some_and(|left| **left == 0) {
                continue;
            }
            if let Some(left) = quota {
                *left -= 1;
            }
            if let Some(running) = key.and_then(|key| groups.get_mut(&key)) {
                *running += 1;
            }
            admitted.push(row);
        }
        Ok(admitted)
    }
}

/// Lets one at a time count a concurrency group. SQLite has one writer anyway.
async fn lock_group<C: ConnectionTrait>(db: &C, row: &execution_row::Model) -> Result<(), Failure> {
    project_row::Entity::find_by_id(row.project_id)
        .lock(LockType::NoKeyUpdate)
        .one(db)
        .await?;
    Ok(())
}

/// Locks those that are still queued and that nobody else is about to claim. What is left of a
/// parent that has ended waits for the sweep that ends it.
async fn lock<C: ConnectionTrait>(
    db: &C,
    recent: &Recent,
    ids: impl Iterator<Item = Uuid>,
) -> Result<Vec<Arc<execution_row::Model>>, Failure> {
    let query = execution_row::Entity::find()
        .filter(execution_row::Column::Id.is_in(entity::padded(ids)))
        .filter(Expr::cust("state = 'queued'"))
        .filter(Expr::cust(
            "(parent_attempt_id IS NULL OR role = 'detached' OR EXISTS (SELECT 1 FROM attempts AS parents \
             WHERE parents.id = executions.parent_attempt_id AND parents.status = 'live'))",
        ))
        .order_by_asc(execution_row::Column::QueueRank)
        .order_by_asc(execution_row::Column::Id)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    recent.locked(db, query).await
}

async fn assign<C: ConnectionTrait>(
    db: &C,
    recent: &Recent,
    pairs: Vec<(&Agent, Arc<execution_row::Model>)>,
    lease_expire_time: Timestamp,
    now: Timestamp,
) -> Result<(Vec<Assignment>, Vec<Arc<execution_row::Model>>), Failure> {
    let mut changes = Vec::with_capacity(pairs.len());
    let mut attempts = Vec::with_capacity(pairs.len());
    for (agent, row) in pairs {
        if !recent.has(&row)
            && let Err(error) = execution::record(&row)
        {
            // One that is damaged does not keep the others from their agents.
            tracing::error!(execution = %row.id, ?error, "an execution in the queue can not be read");
            continue;
        }
        let (change, attempt) = lease(row, agent, lease_expire_time, now)?;
        attempts.push(attempt);
        changes.push(change);
    }
    let saved = execution::save_all(db, changes).await?;
    entity::insert_all::<attempt_row::Entity, _>(db, &attempts).await?;
    let mut plans = BTreeMap::new();
    let mut unknown = Vec::new();
    for id in saved.iter().map(|saved| saved.row.id) {
        match recent.plan(id) {
            Some(plan) => _ = plans.insert(id, plan),
            None => unknown.push(id),
        }
    }
    plans.extend(self::plans(db, unknown.into_iter()).await?);
    let serving = serving(db, saved.iter().map(|it| it.execution.project)).await?;
    let mut assignments = Vec::with_capacity(saved.len());
    let mut rows = Vec::with_capacity(saved.len());
    for (attempt, Saved { execution, row }) in attempts.into_iter().zip(saved) {
        rows.push(row);
        assignments.push(Assignment {
            attempt: attempt::record(attempt)?,
            project_name: serving.name(execution.project),
            max_log: serving.max_log(execution.project),
            plan: plans.remove(&execution.id.as_uuid()).unwrap_or_default(),
            execution,
        });
    }
    Ok((assignments, rows))
}

/// Leases an execution to an agent: the change, and the attempt that begins by it.
pub(super) fn lease(
    row: Arc<execution_row::Model>,
    agent: &Agent,
    lease_expire_time: Timestamp,
    now: Timestamp,
) -> Result<(Change, attempt_row::Model), Failure> {
    let mut change = Change::new(row, now);
    let lease = Lease {
        attempt: AttemptId::generate(),
        epoch: change.lifecycle()?.last_epoch + 1,
    };
    change.apply(Event::Assign(lease))?;
    change.explain("", "");
    change.state_event(&format!("to agent {}", agent.name));
    let attempt = new_attempt(&change, lease, agent, lease_expire_time, now);
    Ok((change, attempt))
}

fn new_attempt(
    change: &Change,
    lease: Lease,
    agent: &Agent,
    lease_expire_time: Timestamp,
    now: Timestamp,
) -> attempt_row::Model {
    attempt_row::Model {
        id: lease.attempt.as_uuid(),
        execution_id: ExecutionId::as_uuid(change.id()),
        project_id: change.project().as_uuid(),
        agent_id: agent.id,
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
        log_complete: false,
        address: None,
        ready: None,
        steps_json: None,
        lost_after: 0,
        lose_time: time::millis(lease_expire_time),
    }
}

pub(crate) async fn plans<C: ConnectionTrait>(
    db: &C,
    executions: impl Iterator<Item = Uuid>,
) -> Result<BTreeMap<Uuid, Bytes>, Failure> {
    let executions = entity::padded(executions);
    if executions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(Uuid, Vec<u8>)> = plan_row::Entity::find()
        .select_only()
        .columns([plan_row::Column::ExecutionId, plan_row::Column::Plan])
        .filter(plan_row::Column::ExecutionId.is_in(executions))
        .into_tuple()
        .all(db)
        .await?;
    let rows = rows.into_iter();
    Ok(rows.map(|(id, plan)| (id, Bytes::from(plan))).collect())
}

pub(crate) async fn serving<C: ConnectionTrait>(
    db: &C,
    projects: impl Iterator<Item = ProjectId>,
) -> Result<Serving, Failure> {
    let ids: BTreeSet<Uuid> = projects.map(ProjectId::as_uuid).collect();
    let rows: Vec<(Uuid, String, Option<i64>)> = project_row::Entity::find()
        .filter(project_row::Column::Id.is_in(ids))
        .select_only()
        .columns([
            project_row::Column::Id,
            project_row::Column::Name,
            project_row::Column::MaxLog,
        ])
        .into_tuple()
        .all(db)
        .await?;
    let rows = rows.into_iter();
    Ok(Serving(
        rows.map(|(id, name, max_log)| (ProjectId::from(id), (name, max_log)))
            .collect(),
    ))
}

/// What agents have to know of projects.
pub(crate) struct Serving(BTreeMap<ProjectId, (String, Option<i64>)>);

impl Serving {
    /// The name of a project.
    pub(crate) fn name(&self, project: ProjectId) -> String {
        let found = self.0.get(&project);
        found.map_or_else(String::new, |(name, _)| name.clone())
    }

    /// Its longest log.
    pub(crate) fn max_log(&self, project: ProjectId) -> Option<i64> {
        self.0.get(&project)?.1
    }
}
