//! What an agent holds: found for reconciliation, and renewed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use muster_core::{execution::Lease, id::AttemptId};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use uuid::Uuid;

use super::{Assignment, Live, Work};
use crate::{
    Error,
    attempt::{self, Attempt},
    entity::{attempt as attempt_row, execution as execution_row},
    execution, queue, time,
    transaction::Failure,
};

/// How many ids go into one statement.
const CHUNK: usize = 1000;

impl Work<'_> {
    pub(super) async fn load_live(&self) -> Result<Vec<Live>, Error> {
        self.store
            .snapshot("list_live_attempts", |tx| async move {
                let rows = attempt_row::Entity::find()
                    .filter(attempt::is_live())
                    .filter(attempt_row::Column::AgentId.eq(self.agent.as_uuid()))
                    .order_by_asc(attempt_row::Column::Id)
                    .all(&*tx)
                    .await?;
                with_executions(&*tx, rows).await
            })
            .await
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
                    let names = queue::project_names(&*tx, projects).await?;
                    assignments.extend(live.into_iter().map(|live| {
                        Assignment {
                            project_name: names
                                .get(&live.execution.project)
                                .cloned()
                                .unwrap_or_default(),
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
        // In one order for all, so that renewals can not wait for each other in a circle.
        let mut ids: Vec<AttemptId> = leases.iter().map(|lease| lease.attempt).collect();
        ids.sort_unstable();
        ids.dedup();
        let ids = &ids;
        let renewed = self
            .store
            .transaction("renew_leases", |tx| async move {
                let mut renewed = BTreeSet::new();
                for ids in ids.chunks(CHUNK) {
                    let mine = || {
                        attempt::is_live()
                            .add(attempt_row::Column::AgentId.eq(self.agent.as_uuid()))
                            .add(attempt_row::Column::Id.is_in(uuids(ids)))
                    };
                    attempt_row::Entity::update_many()
                        .col_expr(
                            attempt_row::Column::LeaseExpireTime,
                            Expr::value(time::millis(until)),
                        )
                        .col_expr(
                            attempt_row::Column::LoseTime,
                            Expr::col(attempt_row::Column::LostAfter).add(time::millis(until)),
                        )
                        .filter(mine())
                        .exec(&*tx)
                        .await?;
                    let live: Vec<(Uuid, i64)> = attempt_row::Entity::find()
                        .select_only()
                        .column(attempt_row::Column::Id)
                        .column(attempt_row::Column::Epoch)
                        .filter(mine())
                        .into_tuple()
                        .all(&*tx)
                        .await?;
                    renewed.extend(live);
                }
                Ok(renewed)
            })
            .await?;
        let lost = leases.iter().copied();
        Ok(lost
            .filter(|lease| !renewed.contains(&(lease.attempt.as_uuid(), lease.epoch)))
            .collect())
    }
}

fn uuids(ids: &[AttemptId]) -> impl Iterator<Item = Uuid> + '_ {
    ids.iter().map(|id| id.as_uuid())
}

async fn with_executions<C: ConnectionTrait>(
    db: &C,
    rows: Vec<attempt_row::Model>,
) -> Result<Vec<Live>, Failure> {
    let mut executions = BTreeMap::new();
    for rows in rows.chunks(CHUNK) {
        let found = execution_row::Entity::find()
            .filter(execution_row::Column::Id.is_in(rows.iter().map(|row| row.execution_id)))
            .all(db)
            .await?;
        executions.extend(found.into_iter().map(|row| (row.id, row)));
    }
    let mut live = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(execution) = executions.remove(&row.execution_id) {
            live.push(Live {
                attempt: attempt::record(row)?,
                execution: execution::record(execution)?,
            });
        }
    }
    Ok(live)
}
