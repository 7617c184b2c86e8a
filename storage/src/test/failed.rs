//! Tests that an execution itself has failed, and those that it left out with them, for a rerun of them
//! alone.

use std::collections::{BTreeSet, HashMap};

use muster_core::{id::ExecutionId, test_history::TestState};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use uuid::Uuid;

use super::{Test, Tests, row};
use crate::{
    Error,
    entity::{artifact as artifact_row, execution as execution_row, report as report_row},
    transaction::Failure,
};

/// How many ids go into one statement.
const CHUNK: usize = 500;

/// What an execution has failed itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failed {
    /// Tests that did not pass, and behind them those that were skipped in reports of the same steps.
    pub tests: Vec<FailedTest>,
    /// Steps of the newest attempt with a report that tells of a test that did not pass.
    pub steps: BTreeSet<String>,
}

/// A test that did not pass, or that was skipped beside one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTest {
    /// The test.
    pub test: Test,
    /// Path of the report that tells of it.
    pub report: String,
    /// Name of that report's format.
    pub format: String,
}

/// A report, as far as it matters here.
struct Report {
    path: String,
    format: String,
    epoch: i64,
    is_bad: bool,
    /// Of the artifact that it is.
    step: String,
}

impl Tests<'_> {
    /// Returns the tests that an execution itself has failed, without what it has started, in the order
    /// of their reports. When there are some, those that were skipped in reports of the same steps come
    /// behind them: a tool may have left them out because of the others. At most `limit` and one more.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn failed(&self, execution: ExecutionId, limit: u64) -> Result<Failed, Error> {
        self.store
            .read("list_failed_tests", || async {
                let db = self.store.searcher();
                self.store
                    .executions(self.project)
                    .require(db, execution)
                    .await?;
                let most = limit.saturating_add(1);
                let own =
                    || row::Entity::find().filter(row::Column::ExecutionId.eq(execution.as_uuid()));
                let bad = own().filter(row::Column::Rank.eq(0));
                let mut rows = found(db, bad, most).await?;
                let reports = reports(db, execution).await?;
                let step_of = |artifact: &Uuid| reports.get(artifact).map(|report| &report.step);
                if !rows.is_empty() {
                    let steps: BTreeSet<&String> = rows
                        .iter()
                        .filter_map(|(_, artifact)| step_of(artifact))
                        .collect();
                    let beside =
                        |artifact: &&Uuid| step_of(artifact).is_some_and(|it| steps.contains(it));
                    let mut beside: Vec<Uuid> = reports.keys().filter(beside).copied().collect();
                    beside.sort_unstable();
                    for part in beside.chunks(CHUNK) {
                        let skipped = own()
                            .filter(row::Column::State.eq(TestState::Skipped.as_str()))
                            .filter(row::Column::ArtifactId.is_in(part.iter().copied()));
                        let room = most.saturating_sub(rows.len() as u64);
                        rows.extend(found(db, skipped, room).await?);
                    }
                }
                let mut names = HashMap::new();
                for part in rows.chunks(CHUNK) {
                    let identities = part.iter().map(|(identity, _)| identity);
                    names.extend(self.names(db, identities).await?);
                }
                let tests = rows.into_iter().filter_map(|(identity, artifact)| {
                    let report = reports.get(&artifact)?;
                    let test = names.get(&identity)?.clone();
                    Some(FailedTest {
                        test,
                        report: report.path.clone(),
                        format: report.format.clone(),
                    })
                });
                let newest: Option<i64> = execution_row::Entity::find_by_id(execution.as_uuid())
                    .select_only()
                    .column(execution_row::Column::LastEpoch)
                    .into_tuple()
                    .one(db)
                    .await?;
                let tell = reports
                    .values()
                    .filter(|report| report.is_bad && Some(report.epoch) == newest);
                Ok(Failed {
                    tests: tests.collect(),
                    steps: tell.map(|report| report.step.clone()).collect(),
                })
            })
            .await
    }
}

async fn found<C: ConnectionTrait>(
    db: &C,
    rows: Select<row::Entity>,
    most: u64,
) -> Result<Vec<(Vec<u8>, Uuid)>, Failure> {
    let found = rows
        .select_only()
        .columns([row::Column::Identity, row::Column::ArtifactId])
        .order_by_asc(row::Column::ArtifactId)
        .order_by_asc(row::Column::Position)
        .limit(most)
        .into_tuple()
        .all(db);
    Ok(found.await?)
}

/// The reports that an execution has left itself, by the artifacts that they are.
async fn reports<C: ConnectionTrait>(
    db: &C,
    execution: ExecutionId,
) -> Result<HashMap<Uuid, Report>, Failure> {
    let rows = report_row::Entity::find()
        .filter(report_row::Column::ExecutionId.eq(execution.as_uuid()))
        .all(db)
        .await?;
    let mut steps: HashMap<Uuid, String> = HashMap::with_capacity(rows.len());
    for part in rows.chunks(CHUNK) {
        let some: Vec<(Uuid, String)> = artifact_row::Entity::find()
            .select_only()
            .columns([artifact_row::Column::Id, artifact_row::Column::Step])
            .filter(artifact_row::Column::Id.is_in(part.iter().map(|row| row.artifact_id)))
            .into_tuple()
            .all(db)
            .await?;
        steps.extend(some);
    }
    let known = rows.into_iter().map(|row| {
        let report = Report {
            step: steps.remove(&row.artifact_id).unwrap_or_default(),
            path: row.path,
            format: row.format,
            epoch: row.epoch,
            is_bad: row.failed > 0 || row.errors > 0,
        };
        (row.artifact_id, report)
    });
    Ok(known.collect())
}
