//! How long tests took in earlier runs of a workflow. What is made of it is not decided here.

use muster_core::{id::ExecutionId, test_duration::TestDuration};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Statement, sea_query::Expr,
};
use uuid::Uuid;

use super::Tests;
use crate::{
    Error,
    entity::{execution as execution_row, place, report as report_row},
    report,
    transaction::Failure,
};

/// Runs that count: the newest so many.
const MOST_RUNS: usize = 20;
/// Runs among which those with results are looked for.
const MOST_LOOKED_AT: u64 = 100;
/// Results after which no older run is taken.
const ENOUGH_RESULTS: i64 = 400_000;
/// Most results that are looked at.
const MOST_RESULTS: i64 = 1_000_000;
/// Most tests.
const MOST_TESTS: i64 = 200_000;

/// How long tests took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// Runs that were looked at.
    pub runs: usize,
    /// The tests, each with the middle one of its times.
    pub tests: Vec<TestDuration>,
}

#[derive(Debug, FromQueryResult)]
struct Row {
    class: String,
    suite: String,
    name: String,
    parameters: Option<String>,
    file: Option<String>,
    duration: i64,
}

impl Tests<'_> {
    /// Returns how long tests took in earlier runs of the workflow at the top of an execution: where
    /// they passed, in the newest runs with results that had ended before the one at the top was given to
    /// an agent. So it is the same for as long as that one runs.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn durations(&self, execution: ExecutionId) -> Result<Durations, Error> {
        self.store
            .read("get_test_durations", || async {
                let db = self.store.searcher();
                // Whether it is one of this project's.
                report::is_top(db, self.project, execution).await?;
                let runs = self.earlier(db, execution.as_uuid()).await?;
                if runs.is_empty() {
                    return Ok(Durations::default());
                }
                let backend = db.get_database_backend();
                let place = |number| place(backend, number);
                let places: Vec<String> = (0..runs.len()).map(|index| place(index + 2)).collect();
                // The lower one of two in the middle.
                let sql = format!(
                    "SELECT t.class, t.suite, t.name, t.parameters, t.file, r.duration FROM (
                       SELECT project_id, identity, duration,
                              row_number() OVER (PARTITION BY identity ORDER BY duration) AS place,
                              count(*) OVER (PARTITION BY identity) AS total
                       FROM (
                         SELECT project_id, identity, duration FROM test_results
                         WHERE project_id = {} AND root_id IN ({}) AND rank = 1
                           AND state = 'passed' AND duration IS NOT NULL
                         LIMIT {MOST_RESULTS}
                       ) AS passed
                     ) AS r
                     JOIN tests AS t ON t.project_id = r.project_id AND t.identity = r.identity
                     WHERE r.place = (r.total + 1) / 2
                     ORDER BY r.identity LIMIT {MOST_TESTS}",
                    place(1),
                    places.join(", "),
                );
                let mut values: Vec<sea_orm::Value> = vec![self.project.as_uuid().into()];
                values.extend(runs.iter().map(|run| (*run).into()));
                let statement = Statement::from_sql_and_values(backend, sql, values);
                let rows = Row::find_by_statement(statement).all(db).await?;
                Ok(Durations {
                    runs: runs.len(),
                    tests: rows.into_iter().map(test).collect(),
                })
            })
            .await
    }

    /// The newest earlier runs of the workflow at the top that have results.
    async fn earlier<C: ConnectionTrait>(
        &self,
        db: &C,
        execution: Uuid,
    ) -> Result<Vec<Uuid>, Failure> {
        let root = report::root(db, execution).await?;
        let found: Option<(String, i64, Option<i64>)> = execution_row::Entity::find_by_id(root)
            .filter(execution_row::Column::ProjectId.eq(self.project.as_uuid()))
            .select_only()
            .columns([
                execution_row::Column::Workflow,
                execution_row::Column::CreateTime,
                execution_row::Column::AssignTime,
            ])
            .into_tuple()
            .one(db)
            .await?;
        let Some((workflow, created, assigned)) = found else {
            return Ok(Vec::new());
        };
        let ended: Vec<Uuid> = execution_row::Entity::find()
            .filter(execution_row::Column::ProjectId.eq(self.project.as_uuid()))
            .filter(execution_row::Column::Workflow.eq(workflow))
            .filter(execution_row::Column::Id.lt(root))
            .filter(execution_row::Column::ParentId.is_null())
            .filter(execution_row::Column::FinishTime.lte(assigned.unwrap_or(created)))
            .select_only()
            .column(execution_row::Column::Id)
            .order_by_desc(execution_row::Column::Id)
            .limit(MOST_LOOKED_AT)
            .into_tuple()
            .all(db)
            .await?;
        let passed: Vec<(Uuid, i64)> = report_row::Entity::find()
            .filter(report_row::Column::RootId.is_in(ended))
            .filter(report_row::Column::Passed.gt(0))
            .select_only()
            .column(report_row::Column::RootId)
            .column_as(Expr::cust("CAST(SUM(passed) AS BIGINT)"), "passed")
            .group_by(report_row::Column::RootId)
            .order_by_desc(report_row::Column::RootId)
            .into_tuple()
            .all(db)
            .await?;
        let (mut runs, mut results) = (Vec::new(), 0);
        for (run, passed) in passed {
            if runs.len() >= MOST_RUNS || results >= ENOUGH_RESULTS {
                break;
            }
            runs.push(run);
            results += passed;
        }
        Ok(runs)
    }
}

fn test(row: Row) -> TestDuration {
    TestDuration {
        class: match row.class.is_empty() {
            true => row.suite,
            false => row.class,
        },
        name: row.name,
        parameters: row.parameters,
        file: row.file,
        millis: u64::try_from(row.duration).unwrap_or_default(),
    }
}
