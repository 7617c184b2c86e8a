//! What an agent holds: found for reconciliation, and renewed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_core::{execution::Lease, id::AttemptId};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{
    Assignment, Live, Work,
    lease::{LiveOf, Renewal},
};
use crate::{
    Error,
    attempt::{self, Attempt},
    entity::{self, attempt as attempt_row, execution as execution_row},
    execution, queue,
    transaction::Failure,
};

/// How many ids go into one statement.
pub(super) const CHUNK: usize = 1000;

impl Work<'_> {
    pub(super) async fn load_live(&self) -> Result<Vec<Live>, Error> {
        let call = LiveOf(self.agent);
        self.store.gathers().live.call(self.store, call).await
    }

    pub(super) async fn load_assignments(
        &self,
        ids: &[AttemptId],
    ) -> Result<Vec<Assignment>, Error> {
        self.store
            .snapshot("load_assignments", |tx| async move {
                let mut assignments = Vec::with_capacity(ids.len());
                for ids in ids.chunks(CHUNK) {
                    let rows = attempt_row::Entity::find()
                        .filter(attempt::is_live())
                        .filter(attempt_row::Column::AgentId.eq(self.agent.as_uuid()))
                        .filter(attempt_row::Column::Id.is_in(uuids(ids)))
                        .all(&*tx)
                        .await?;
                    let live = with_executions(&*tx, rows).await?;
                    let executions = live.iter().map(|live| live.execution.id.as_uuid());
                    let mut plans = queue::plans(&*tx, executions).await?;
                    let projects = live.iter().map(|live| live.execution.project);
                    let serving = queue::serving(&*tx, projects).await?;
                    assignments.extend(live.into_iter().map(|live| {
                        Assignment {
                            project_name: serving.name(live.execution.project),
                            max_log: serving.max_log(live.execution.project),
                            plan: plans
                                .remove(&live.execution.id.as_uuid())
                                .unwrap_or_default(),
                            attempt: live.attempt,
                            execution: live.execution,
                        }
                    }));
                }
                Ok(assignments)
            })
            .await
    }

    pub(super) async fn load_attempts(&self, ids: &[AttemptId]) -> Result<Vec<Attempt>, Error> {
        self.store
            .read("list_attempts", || async {
                let mut attempts = Vec::with_capacity(ids.len());
                for ids in ids.chunks(CHUNK) {
                    let rows = attempt_row::Entity::find()
                        .filter(attempt_row::Column::AgentId.eq(self.agent.as_uuid()))
                        .filter(attempt_row::Column::Id.is_in(uuids(ids)))
                        .all(self.store.reader())
                        .await?;
                    for row in rows {
                        attempts.push(attempt::record(row)?);
                    }
                }
                Ok(attempts)
            })
            .await
    }

    pub(super) async fn load_attempt(&self, id: AttemptId) -> Result<Attempt, Error> {
        self.store
            .read("get_attempt", || async {
                let row = attempt::find(self.store.reader(), Some(self.agent), id).await?;
                attempt::record(row)
            })
            .await
    }

    pub(super) async fn renew_leases(
        &self,
        leases: &[Lease],
        until: Timestamp,
    ) -> Result<Vec<Lease>, Error> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let call = Renewal {
            agent: self.agent,
            leases: leases.to_vec(),
            until,
        };
        self.store.gathers().renewals.call(self.store, call).await
    }
}

fn uuids(ids: &[AttemptId]) -> impl Iterator<Item = Uuid> + '_ {
    ids.iter().map(|id| id.as_uuid())
}

pub(super) async fn with_executions<C: ConnectionTrait>(
    db: &C,
    rows: Vec<attempt_row::Model>,
) -> Result<Vec<Live>, Failure> {
    let mut executions = BTreeMap::new();
    for rows in rows.chunks(CHUNK) {
        let found = execution_row::Entity::find()
            .filter(
                execution_row::Column::Id
                    .is_in(entity::padded(rows.iter().map(|row| row.execution_id))),
            )
            .all(db)
            .await?;
        executions.extend(found.into_iter().map(|row| (row.id, row)));
    }
    let mut live = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(execution) = executions.remove(&row.execution_id) {
            live.push(Live {
                attempt: attempt::record(row)?,
                execution: execution::record(&execution)?,
            });
        }
    }
    Ok(live)
}
