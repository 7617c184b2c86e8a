//! Results of one test over runs.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use muster_core::{
    id::{ExecutionId, ProjectId},
    test_history::TestResult,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use super::{Identity, Test, Tests, state};
use crate::{
    Error,
    entity::{attempt as attempt_row, execution as execution_row, test_result as row},
    quarantine::Mark,
    text, time,
    transaction::Failure,
};

/// Most results of one test that are looked at.
pub(crate) const MOST_RESULTS: u32 = 1000;
/// Results that are looked at together for those of the wanted runs.
const WINDOW: u32 = 250;
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

/// Which runs of a test are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only of executions with these tags.
    pub tags: BTreeMap<String, String>,
    /// Only of this agent; empty for all.
    pub agent: String,
    /// Only of this workflow; empty for all.
    pub workflow: String,
}

impl RunFilter {
    fn is_all(&self) -> bool {
        self.tags.is_empty() && self.agent.is_empty() && self.workflow.is_empty()
    }

    fn wants(&self, run: &Run) -> bool {
        (self.agent.is_empty() || run.agent == self.agent)
            && (self.workflow.is_empty() || run.workflow == self.workflow)
            && self
                .tags
                .iter()
                .all(|(name, value)| run.tags.get(name) == Some(value))
    }
}

/// What a history shows of a result.
#[derive(Debug, FromQueryResult)]
struct Told {
    execution_id: Uuid,
    state: String,
    flaky: bool,
    tries: i32,
    duration: Option<i64>,
    run_time: i64,
    revision: Option<String>,
    message: Option<String>,
    quarantine_reason: Option<String>,
    quarantine_until: Option<i64>,
}

impl Tests<'_> {
    /// Returns a test and its newest results of the wanted runs, at most `limit`, the newest first. They are
    /// chosen from the newest 1,000.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the project has no such test.
    pub async fn history(
        &self,
        id: Identity,
        wanted: &RunFilter,
        limit: u32,
    ) -> Result<(Test, Vec<Entry>), Error> {
        let limit = limit.clamp(1, MOST_RESULTS);
        self.store
            .read("get_test_history", || async {
                let db = self.store.searcher();
                let test = self.require(db, id).await?;
                let mut entries: Vec<Entry> = Vec::new();
                let (mut looked, mut last) = (0, None);
                loop {
                    let missing = limit - u32::try_from(entries.len()).unwrap_or(limit);
                    let window = match wanted.is_all() {
                        true => missing,
                        false => WINDOW,
                    };
                    let window = Ord::min(window, MOST_RESULTS - looked);
                    if window == 0 {
                        break;
                    }
                    let rows = self.results(db, id, last, window).await?;
                    let runs = runs(db, self.project, &rows).await?;
                    looked += window;
                    let all_seen = rows.len() < window as usize;
                    last = rows.last().map(|row| (row.run_time, row.execution_id));
                    for row in rows {
                        let run = runs.get(&row.execution_id);
                        let Some(run) = run.filter(|run| wanted.wants(run)) else {
                            continue;
                        };
                        if entries.len() < limit as usize {
                            entries.push(entry(row, run)?);
                        }
                    }
                    if all_seen {
                        break;
                    }
                }
                Ok((test, entries))
            })
            .await
    }

    /// Results of a test behind one, the newest first, without what a history does not show.
    async fn results<C: ConnectionTrait>(
        &self,
        db: &C,
        id: Identity,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<Told>, Failure> {
        let mut query = row::Entity::find()
            .select_only()
            .columns([
                row::Column::ExecutionId,
                row::Column::State,
                row::Column::Flaky,
                row::Column::Tries,
                row::Column::Duration,
                row::Column::RunTime,
                row::Column::Revision,
                row::Column::Message,
                row::Column::QuarantineReason,
                row::Column::QuarantineUntil,
            ])
            .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
            .filter(row::Column::Identity.eq(id.to_vec()))
            .order_by_desc(row::Column::RunTime)
            .order_by_desc(row::Column::ExecutionId)
            .limit(u64::from(limit));
        if let Some((time, execution)) = after {
            let columns = [row::Column::RunTime, row::Column::ExecutionId];
            let last = Expr::tuple([Expr::value(time), Expr::value(execution)]);
            query = query.filter(ExprTrait::lt(Expr::tuple(columns.map(Expr::col)), last));
        }
        Ok(query.into_model().all(db).await?)
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
                let names = self.names(self.store.searcher(), wanted.iter()).await?;
                Ok(names.into_values().collect())
            })
            .await
    }
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
    rows: &[Told],
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

fn entry(row: Told, run: &Run) -> Result<Entry, Failure> {
    Ok(Entry {
        quarantine: Mark::from_columns(row.quarantine_reason.as_deref(), row.quarantine_until),
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

pub(super) fn duration(millis: Option<i64>) -> Option<Duration> {
    millis
        .and_then(|millis| u64::try_from(millis).ok())
        .map(Duration::from_millis)
}
