//! Reports of test tools: artifacts that tell of tests. A report waits until it is read; then its tests
//! are rows, which are in [`test`](mod@crate::test).
//!
//! What is a report, and what it says, is not known here.

mod keep;

use jiff::Timestamp;
use muster_core::id::{ArtifactId, ExecutionId, ProjectId};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use crate::{
    Error, Store,
    entity::{attempt as attempt_row, execution as execution_row, report as row},
    error::Kind,
    execution::counts_for,
    page,
    queue::Queue,
    time,
    transaction::Failure,
};

pub use keep::{NewCase, PART, Read};

/// Deepest nesting of executions that is followed to the one at the top.
const DEEPEST: usize = 64;
/// Most reports of an execution and what it has started that are listed.
pub const MOST: u64 = 1000;

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was not read yet.
    Pending,
    /// It was read whole.
    Read,
    /// It could not be read, or not to its end; the tests before that place are rows.
    Broken,
}

impl State {
    const ALL: [Self; 3] = [Self::Pending, Self::Read, Self::Broken];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Read => "read",
            Self::Broken => "broken",
        }
    }
}

/// How many tests of a report ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// As they should, flaky ones too.
    pub passed: i64,
    /// What they check does not hold.
    pub failed: i64,
    /// They could not check.
    pub errors: i64,
    /// They did not run.
    pub skipped: i64,
    /// Of those that passed, the ones that did not at first.
    pub flaky: i64,
    /// Of those that did not pass, the ones that were in quarantine.
    pub quarantined: i64,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The artifact that it is.
    pub artifact: ArtifactId,
    /// Its project.
    pub project: ProjectId,
    /// The execution that left it.
    pub execution: ExecutionId,
    /// Epoch of the attempt that left it.
    pub epoch: i64,
    /// Path of the artifact.
    pub path: String,
    /// Name of its format.
    pub format: String,
    /// What became of it.
    pub state: State,
    /// Why it is broken, for people.
    pub message: String,
    /// Its tests.
    pub counts: Counts,
    /// How long all took, in milliseconds.
    pub duration: Option<i64>,
    /// What else it says, a JSON object: tool, metrics, thresholds, properties, warnings.
    pub summary: String,
    /// When it came.
    pub create_time: Timestamp,
}

/// The reports of one project.
#[derive(Debug)]
pub struct Reports<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
}

impl Reports<'_> {
    /// Lists the reports of an execution and of all that it has started, at most [`MOST`], by path.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn list(&self, execution: ExecutionId) -> Result<Vec<Report>, Error> {
        self.store
            .read("list_reports", || async {
                let db = self.store.reader();
                let of = self.of(db, execution).await?;
                let rows = row::Entity::find()
                    .filter(of)
                    .order_by_asc(row::Column::Path)
                    .order_by_asc(row::Column::ArtifactId)
                    .limit(MOST)
                    .all(db)
                    .await?;
                rows.into_iter().map(record).collect()
            })
            .await
    }
}

impl Reports<'_> {
    /// Counts the reports of an execution and of all that it has started which were not read yet.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn pending(&self, execution: ExecutionId) -> Result<u64, Error> {
        self.store
            .read("count_pending_reports", || async {
                let db = self.store.reader();
                let of = self.of(db, execution).await?;
                let pending = row::Entity::find()
                    .filter(of)
                    .filter(row::Column::State.eq(State::Pending.as_str()));
                Ok(pending.count(db).await?)
            })
            .await
    }

    /// The condition for reports of an execution and, of one at the top, of all below it and of what it
    /// has taken over.
    async fn of<C: ConnectionTrait>(
        &self,
        db: &C,
        execution: ExecutionId,
    ) -> Result<Expr, Failure> {
        let (top, own) = (row::Column::RootId, row::Column::ExecutionId);
        match is_top(db, self.project, execution).await? {
            true => counts_for(db, execution, top, own).await,
            false => Ok(own.eq(execution.as_uuid())),
        }
    }
}

impl Queue<'_> {
    /// Returns a report that waits to be read; `None` when it does not.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn pending_report(&self, artifact: ArtifactId) -> Result<Option<Report>, Error> {
        self.store
            .read("get_pending_report", || async {
                row::Entity::find_by_id(artifact.as_uuid())
                    .filter(row::Column::State.eq(State::Pending.as_str()))
                    .one(self.store.reader())
                    .await?
                    .map(record)
                    .transpose()
            })
            .await
    }

    /// Returns reports of all projects that wait to be read, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn pending_reports(&self, limit: u32) -> Result<Vec<Report>, Error> {
        self.store
            .read("list_pending_reports", || async {
                let rows = row::Entity::find()
                    .filter(row::Column::State.eq(State::Pending.as_str()))
                    .order_by_asc(row::Column::ArtifactId)
                    .limit(u64::from(page::limit(limit)))
                    .all(self.store.reader())
                    .await?;
                rows.into_iter().map(record).collect()
            })
            .await
    }
}

/// Whether nobody has started an execution: what it has started counts as its own then.
pub(crate) async fn is_top<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    execution: ExecutionId,
) -> Result<bool, Failure> {
    let found: Option<Option<Uuid>> = execution_row::Entity::find_by_id(execution.as_uuid())
        .filter(execution_row::Column::ProjectId.eq(project.as_uuid()))
        .select_only()
        .column(execution_row::Column::ParentId)
        .into_tuple()
        .one(db)
        .await?;
    let parent = found.ok_or_else(|| Error::not_found(Kind::Execution, execution))?;
    Ok(parent.is_none())
}

/// The execution at the top of one that may be a child.
pub(crate) async fn root<C: ConnectionTrait>(db: &C, execution: Uuid) -> Result<Uuid, Failure> {
    let mut at = execution;
    for _ in 0..DEEPEST {
        let parent: Option<Option<Uuid>> = execution_row::Entity::find_by_id(at)
            .select_only()
            .column(execution_row::Column::ParentId)
            .into_tuple()
            .one(db)
            .await?;
        match parent.flatten() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    Ok(at)
}

/// Takes note, beside the artifact itself, that it is a report.
pub(crate) async fn add<C: ConnectionTrait>(
    db: &C,
    artifact: Uuid,
    attempt: &attempt_row::Model,
    (path, format): (&str, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    let row = row::Model {
        artifact_id: artifact,
        project_id: attempt.project_id,
        execution_id: attempt.execution_id,
        root_id: root(db, attempt.execution_id).await?,
        epoch: attempt.epoch,
        path: path.to_owned(),
        format: format.to_owned(),
        state: State::Pending.as_str().to_owned(),
        message: String::new(),
        passed: 0,
        failed: 0,
        errors: 0,
        skipped: 0,
        flaky: 0,
        duration: None,
        summary_json: "{}".to_owned(),
        create_time: time::millis(now),
        quarantined: 0,
    };
    crate::entity::insert::<row::Entity, _>(db, row).await?;
    Ok(())
}

pub(crate) fn record(row: row::Model) -> Result<Report, Failure> {
    let state = State::ALL
        .into_iter()
        .find(|state| state.as_str() == row.state);
    Ok(Report {
        state: state.ok_or_else(|| Failure::internal("read a report", "unknown state"))?,
        artifact: row.artifact_id.into(),
        project: row.project_id.into(),
        execution: row.execution_id.into(),
        epoch: row.epoch,
        path: row.path,
        format: row.format,
        message: row.message,
        counts: Counts {
            passed: row.passed,
            failed: row.failed,
            errors: row.errors,
            skipped: row.skipped,
            flaky: row.flaky,
            quarantined: row.quarantined,
        },
        duration: row.duration,
        summary: row.summary_json,
        create_time: time::timestamp(row.create_time),
    })
}
