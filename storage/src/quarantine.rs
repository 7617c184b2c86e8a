//! Tests in quarantine: entries with a reason and an end, and what they mean for reports that come.
//!
//! What is forgiven for it is not decided here: that is `muster_core::quarantine`.

mod change;
mod evidence;

use std::collections::HashMap;

use jiff::Timestamp;
use muster_core::id::ProjectId;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait as _, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use crate::{
    Error, Page, Store,
    entity::{quarantined_test as row, test_result as result_row},
    page,
    test::{Identity, Test, identity},
    time,
    transaction::Failure,
};

pub use change::NewQuarantine;

/// Why and until when failures of a test do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Why, for people.
    pub reason: String,
    /// From then on they do.
    pub expire_time: Timestamp,
}

impl Mark {
    /// Of a result that has one.
    pub(crate) fn of(row: &result_row::Model) -> Option<Self> {
        Self::from_columns(row.quarantine_reason.as_deref(), row.quarantine_until)
    }

    /// From the two columns of a result.
    pub(crate) fn from_columns(reason: Option<&str>, until: Option<i64>) -> Option<Self> {
        Some(Self {
            reason: reason.unwrap_or_default().to_owned(),
            expire_time: time::timestamp(until?),
        })
    }
}

/// A test in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedTest {
    /// The id of the entry.
    pub id: Uuid,
    /// The test.
    pub test: Test,
    /// Only in runs of this workflow; empty for all.
    pub workflow: String,
    /// Why and until when.
    pub mark: Mark,
    /// Who has put it there, last.
    pub creator: String,
    /// When it was put there first.
    pub create_time: Timestamp,
}

/// Where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// End of the last one, in milliseconds since 1970.
    pub expire_time: i64,
    /// Its id.
    pub id: Uuid,
}

/// The tests of one project that are in quarantine.
#[derive(Debug)]
pub struct Quarantine<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
}

impl Quarantine<'_> {
    /// Lists tests that are in quarantine now, or those that were and have expired; those with the
    /// earliest end first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        expired: bool,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<QuarantinedTest, Cursor>, Error> {
        let limit = page::limit(limit);
        let now = time::millis(self.store.clock().now());
        self.store
            .read("list_quarantined_tests", || async {
                let db = self.store.reader();
                let over = match expired {
                    true => row::Column::ExpireTime.lte(now),
                    false => row::Column::ExpireTime.gt(now),
                };
                let mut query = row::Entity::find()
                    .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                    .filter(over)
                    .order_by_asc(row::Column::ExpireTime)
                    .order_by_asc(row::Column::Id)
                    .limit(u64::from(limit) + 1);
                if let Some(after) = after {
                    let last = Expr::tuple([Expr::value(after.expire_time), Expr::value(after.id)]);
                    let columns = [row::Column::ExpireTime, row::Column::Id];
                    query = query.filter(Expr::tuple(columns.map(Expr::col)).gt(last));
                }
                let rows = query.all(db).await?;
                let tests = self.store.tests(self.project);
                let names = tests.names(db, rows.iter().map(|row| &row.identity));
                let names = names.await?;
                let items = rows
                    .into_iter()
                    .filter_map(|row| Some(record(&row, names.get(&row.identity)?.clone())));
                let key = |item: &QuarantinedTest| Cursor {
                    expire_time: time::millis(item.mark.expire_time),
                    id: item.id,
                };
                Ok(Page::new(items.collect(), limit, key))
            })
            .await
    }

    /// Whether a test is in quarantine now in runs of a workflow.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn is_used(&self, workflow: &str) -> Result<bool, Error> {
        let now = self.store.clock().now();
        self.store
            .read("count_quarantined_tests", || async {
                let found = in_force(self.project.as_uuid(), workflow, now);
                Ok(found.count(self.store.reader()).await? > 0)
            })
            .await
    }
}

fn in_force(project: Uuid, workflow: &str, now: Timestamp) -> sea_orm::Select<row::Entity> {
    row::Entity::find()
        .filter(row::Column::ProjectId.eq(project))
        .filter(row::Column::Workflow.is_in(["", workflow]))
        .filter(row::Column::ExpireTime.gt(time::millis(now)))
}

/// Those of some tests that are in quarantine in runs of a workflow.
pub(crate) async fn marks<C: ConnectionTrait>(
    db: &C,
    project: Uuid,
    workflow: &str,
    identities: Vec<Vec<u8>>,
    now: Timestamp,
) -> Result<HashMap<Identity, Mark>, Failure> {
    if identities.is_empty() {
        return Ok(HashMap::new());
    }
    // The entry of the workflow itself comes last, and says more.
    let rows = in_force(project, workflow, now)
        .filter(row::Column::Identity.is_in(identities))
        .order_by_asc(row::Column::Workflow)
        .all(db)
        .await?;
    let marks = rows.into_iter().map(|row| {
        let mark = Mark {
            reason: row.reason,
            expire_time: time::timestamp(row.expire_time),
        };
        Ok((identity(&row.identity)?, mark))
    });
    marks.collect()
}

fn record(row: &row::Model, test: Test) -> QuarantinedTest {
    QuarantinedTest {
        id: row.id,
        test,
        workflow: row.workflow.clone(),
        mark: Mark {
            reason: row.reason.clone(),
            expire_time: time::timestamp(row.expire_time),
        },
        creator: row.creator.clone(),
        create_time: time::timestamp(row.create_time),
    }
}
