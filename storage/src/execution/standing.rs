//! Where an execution stands in the queue: for people who ask why it waits.

use muster_core::id::ExecutionId;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QuerySelect,
    sea_query::Expr,
};

use super::{Execution, Executions};
use crate::{Error, entity::execution as row, queue, transaction::Failure};

/// Most executions that are counted before another one.
pub const MOST_COUNTED: u64 = 100_000;

/// Where a queued execution stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many of its project come before it, counted up to [`MOST_COUNTED`].
    pub before: u64,
    /// How many of its project count for the quota of running ones.
    pub running: u32,
    /// How many of its concurrency group run.
    pub group_running: u32,
}

impl Executions<'_> {
    pub(super) async fn load_standing(&self, execution: &Execution) -> Result<Standing, Error> {
        self.store
            .read("explain_execution", || async {
                let db = self.store.reader();
                let project = self.project.as_uuid();
                let group_running = match &execution.concurrency {
                    Some(concurrency) => queue::of_group(db, project, &concurrency.group).await?,
                    None => 0,
                };
                Ok(Standing {
                    before: self.before(db, execution.id, execution.priority).await?,
                    running: queue::counted(db, project).await?,
                    group_running,
                })
            })
            .await
    }

    /// How many of the project are queued and come before one.
    async fn before<C: ConnectionTrait>(
        &self,
        db: &C,
        id: ExecutionId,
        priority: i32,
    ) -> Result<u64, Failure> {
        let place = [Expr::value(-i64::from(priority)), Expr::value(id.as_uuid())];
        let columns = [row::Column::QueueRank, row::Column::Id];
        Ok(row::Entity::find()
            .select_only()
            .column(row::Column::Id)
            .filter(Expr::cust("state = 'queued'"))
            .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
            .filter(Expr::tuple(columns.map(Expr::col)).lt(Expr::tuple(place)))
            .limit(MOST_COUNTED)
            .count(db)
            .await?)
    }
}
