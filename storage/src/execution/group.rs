//! Concurrency groups: what is too many beside a new execution.

use muster_core::id::ExecutionId;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use uuid::Uuid;

use super::{Execution, Executions};
use crate::{Error, entity::execution as row};

impl Executions<'_> {
    pub(super) async fn load_beyond_group(
        &self,
        newest: &Execution,
    ) -> Result<Vec<ExecutionId>, Error> {
        let Some(concurrency) = &newest.concurrency else {
            return Ok(Vec::new());
        };
        self.store
            .read("list_concurrency_group", || async {
                let older: Vec<Uuid> = row::Entity::find()
                    .select_only()
                    .column(row::Column::Id)
                    .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                    .filter(row::Column::ConcurrencyGroup.eq(concurrency.group.as_str()))
                    // Letter by letter the condition of the partial index.
                    .filter(Expr::cust(
                        "concurrency_group IS NOT NULL AND finish_time IS NULL",
                    ))
                    .filter(row::Column::Id.lt(newest.id.as_uuid()))
                    .filter(Expr::cust("stop IS NULL"))
                    .order_by_desc(row::Column::Id)
                    // The newest of them may stay beside it.
                    .offset(u64::from(concurrency.most.saturating_sub(1)))
                    .limit(MOST)
                    .into_tuple()
                    .all(self.store.reader())
                    .await?;
                Ok(older.into_iter().rev().map(ExecutionId::from).collect())
            })
            .await
    }
}

/// Most executions that one new one ends.
const MOST: u64 = 10_000;
