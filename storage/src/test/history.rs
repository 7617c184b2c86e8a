//! Results of tests over runs: of one test, of those that are not steady, of two runs side by side.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use muster_core::{
    id::{ExecutionId, ProjectId},
    test_history::{TestResult, TestState},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Statement, sea_query::Expr,
};
use uuid::Uuid;

use super::{Identity, Test, Tests, identity, state};
use crate::{
    Error,
    entity::{attempt as attempt_row, execution as execution_row, test_result as row},
    quarantine::Mark,
    text, time,
    transaction::Failure,
};

/// Most results of one test that are looked at.
pub(crate) const MOST_RESULTS: u32 = 1000;
/// Most tests of two runs that are compared.
const MOST_COMPARED: u64 = 500_000;
/// Most results that are not steady in a stretch of time, from which tests are taken.
const MOST_UNSTEADY: u64 = 5000;
/// Results of each of them that are looked at.
const EACH: u32 = 100;

/// A result of a test, and the run that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The execution.
    pub execution: ExecutionId,
    /// Its name for people.
    pub display_name: String,
    /// Its workflow.
    pub workflow: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Name of the agent that ran it.
    pub agent: String,
    /// When the execution was made.
    pub run_time: Timestamp,
    /// What came of the test.
    pub result: TestResult,
    /// How often it was tried.
    pub tries: i32,
    /// Why it did not pass.
    pub message: Option<String>,
    /// It did not pass and was in quarantine.
    pub quarantine: Option<Mark>,
}

/// A test that is not steady, with its results, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsteady {
    /// The test.
    pub test: Test,
    /// Its newest results.
    pub results: Vec<TestResult>,
    /// When the newest of them was.
    pub last_time: Timestamp,
}

/// What came of a test in one run, for a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended; the worst of all, when several children ran it.
    pub state: TestState,
    /// How long it took, in milliseconds.
    pub duration: Option<i64>,
    /// It did not pass and was in quarantine.
    pub quarantined: bool,
}

impl Outcome {
    /// What is worse weighs more.
    fn weight(&self) -> u8 {
        match (self.state.is_bad(), self.quarantined) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => 2,
        }
    }
}

/// Identity, state, duration, and the end of its quarantine.
type Narrower = (Vec<u8>, String, Option<i64>, Option<i64>);

#[derive(Debug, FromQueryResult)]
struct Narrow {
    identity: Vec<u8>,
    state: String,
    flaky: bool,
    duration: Option<i64>,
    revision: Option<String>,
}

impl Tests<'_> {
    /// Returns a test and its newest results, at most 1,000, the newest first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the project has no such test.
    pub async fn history(&self, id: Identity, limit: u32) -> Result<(Test, Vec<Entry>), Error> {
        let limit = limit.clamp(1, MOST_RESULTS);
        self.store
            .read("get_test_history", || async {
                let db = self.store.reader();
                let test = self.require(db, id).await?;
                let rows = row::Entity::find()
                    .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                    .filter(row::Column::Identity.eq(id.to_vec()))
                    .order_by_desc(row::Column::RunTime)
                    .order_by_desc(row::Column::ExecutionId)
                    .limit(u64::from(limit))
                    .all(db)
                    .await?;
                let runs = runs(db, self.project, &rows).await?;
                let entries = rows.into_iter().filter_map(|row| {
                    let run = runs.get(&row.execution_id)?;
                    Some(entry(row, run))
                });
                Ok((test, entries.collect::<Result<_, _>>()?))
            })
            .await
    }

    /// Returns tests that have passed on a retry or failed since a time, with their newest results;
    /// those with the newest such result first, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn unsteady(&self, since: Timestamp, limit: u32) -> Result<Vec<Unsteady>, Error> {
        let since = time::millis(since);
        self.store
            .read("list_unsteady_tests", || async {
                let db = self.store.reader();
                let mut newest: HashMap<Vec<u8>, i64> = HashMap::new();
                // In the words of their indexes. Failures say nothing of steadiness unless it is known what
                // was tested.
                let flaky = Expr::cust("flaky");
                let bad = Expr::cust("rank = 0 AND revision IS NOT NULL");
                for condition in [flaky, bad] {
                    let found: Vec<(Vec<u8>, i64)> = row::Entity::find()
                        .select_only()
                        .columns([row::Column::Identity, row::Column::RunTime])
                        .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                        .filter(row::Column::RunTime.gte(since))
                        .filter(condition)
                        .order_by_desc(row::Column::RunTime)
                        .limit(MOST_UNSTEADY)
                        .into_tuple()
                        .all(db)
                        .await?;
                    for (identity, at) in found {
                        let last = newest.entry(identity).or_insert(at);
                        *last = at.max(*last);
                    }
                }
                let mut all: Vec<(Vec<u8>, i64)> = newest.into_iter().collect();
                all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                all.truncate(limit as usize);
                let names = self
                    .names(db, all.iter().map(|(identity, _)| identity))
                    .await?;
                let mut results = newest_results(db, self.project, &all, since).await?;
                let unsteady = all.into_iter().filter_map(|(identity, last)| {
                    Some(Unsteady {
                        test: names.get(&identity)?.clone(),
                        results: results.remove(&identity)?,
                        last_time: time::timestamp(last),
                    })
                });
                Ok(unsteady.collect())
            })
            .await
    }

    /// Returns what came of each test in an execution and all that it has started.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn outcomes(
        &self,
        execution: ExecutionId,
    ) -> Result<HashMap<Identity, Outcome>, Error> {
        self.store
            .read("compare_tests", || async {
                let db = self.store.reader();
                let rows: Vec<Narrower> = row::Entity::find()
                    .select_only()
                    .columns([
                        row::Column::Identity,
                        row::Column::State,
                        row::Column::Duration,
                        row::Column::QuarantineUntil,
                    ])
                    .filter(self.of(db, execution).await?)
                    .limit(MOST_COMPARED)
                    .into_tuple()
                    .all(db)
                    .await?;
                let mut outcomes: HashMap<Identity, Outcome> = HashMap::with_capacity(rows.len());
                for (id, name, duration, until) in rows {
                    let new = Outcome {
                        state: state(&name)?,
                        duration,
                        quarantined: until.is_some(),
                    };
                    let known = outcomes.entry(identity(&id)?).or_insert(new);
                    if new.weight() > known.weight() {
                        *known = new;
                    }
                }
                Ok(outcomes)
            })
            .await
    }

    /// Returns tests by their identities, at most 1,000; those that are not there are left out.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn named(&self, identities: &[Identity]) -> Result<Vec<Test>, Error> {
        self.store
            .read("get_tests", || async {
                let wanted: Vec<Vec<u8>> =
                    identities.iter().take(1000).map(|id| id.to_vec()).collect();
                let names = self.names(self.store.reader(), wanted.iter()).await?;
                Ok(names.into_values().collect())
            })
            .await
    }
}

/// The newest results of some tests, each with the newest first.
async fn newest_results<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    tests: &[(Vec<u8>, i64)],
    since: i64,
) -> Result<HashMap<Vec<u8>, Vec<TestResult>>, Failure> {
    let mut results: HashMap<Vec<u8>, Vec<TestResult>> = HashMap::new();
    for part in tests.chunks(100) {
        let backend = db.get_database_backend();
        let place = |number: usize| match backend {
            sea_orm::DbBackend::Postgres => format!("${number}"),
            _ => "?".to_owned(),
        };
        let places: Vec<String> = (0..part.len()).map(|index| place(index + 3)).collect();
        let sql = format!(
            "SELECT identity, state, flaky, duration, revision FROM (
               SELECT identity, state, flaky, duration, run_time, revision,
                      row_number() OVER (PARTITION BY identity ORDER BY run_time DESC) AS place
               FROM test_results
               WHERE project_id = {} AND run_time >= {} AND identity IN ({})
             ) AS ranked WHERE place <= {EACH} ORDER BY identity, run_time DESC",
            place(1),
            place(2),
            places.join(", "),
        );
        let mut values: Vec<sea_orm::Value> = vec![project.as_uuid().into(), since.into()];
        values.extend(part.iter().map(|(identity, _)| identity.clone().into()));
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = Narrow::find_by_statement(statement).all(db).await?;
        for row in rows {
            let result = TestResult {
                state: state(&row.state)?,
                flaky: row.flaky,
                duration: duration(row.duration),
                revision: row.revision,
            };
            results.entry(row.identity).or_default().push(result);
        }
    }
    Ok(results)
}

/// What is shown of a run.
struct Run {
    display_name: String,
    workflow: String,
    tags: BTreeMap<String, String>,
    agent: String,
}

async fn runs<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    rows: &[row::Model],
) -> Result<HashMap<Uuid, Run>, Failure> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.execution_id).collect();
    let mut runs = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(500) {
        let found: Vec<(Uuid, String, String, String)> = execution_row::Entity::find()
            .select_only()
            .columns([
                execution_row::Column::Id,
                execution_row::Column::DisplayName,
                execution_row::Column::Workflow,
                execution_row::Column::TagsJson,
            ])
            .filter(execution_row::Column::Id.is_in(ids.to_vec()))
            .filter(execution_row::Column::ProjectId.eq(project.as_uuid()))
            .into_tuple()
            .all(db)
            .await?;
        for (id, display_name, workflow, tags) in found {
            let run = Run {
                display_name,
                workflow,
                tags: text::decode(&tags)?,
                agent: String::new(),
            };
            runs.insert(id, run);
        }
        let agents: Vec<(Uuid, String)> = attempt_row::Entity::find()
            .select_only()
            .columns([
                attempt_row::Column::ExecutionId,
                attempt_row::Column::AgentName,
            ])
            .filter(attempt_row::Column::ExecutionId.is_in(ids.to_vec()))
            .order_by_asc(attempt_row::Column::Epoch)
            .into_tuple()
            .all(db)
            .await?;
        for (id, agent) in agents {
            if let Some(run) = runs.get_mut(&id) {
                run.agent = agent;
            }
        }
    }
    Ok(runs)
}

fn entry(row: row::Model, run: &Run) -> Result<Entry, Failure> {
    Ok(Entry {
        quarantine: Mark::of(&row),
        execution: row.execution_id.into(),
        display_name: run.display_name.clone(),
        workflow: run.workflow.clone(),
        tags: run.tags.clone(),
        agent: run.agent.clone(),
        run_time: time::timestamp(row.run_time),
        result: TestResult {
            state: state(&row.state)?,
            flaky: row.flaky,
            duration: duration(row.duration),
            revision: row.revision,
        },
        tries: row.tries,
        message: row.message,
    })
}

fn duration(millis: Option<i64>) -> Option<Duration> {
    millis
        .and_then(|millis| u64::try_from(millis).ok())
        .map(Duration::from_millis)
}
