//! Keeping what a report says: its tests as rows, in parts, then the report itself. A part may be kept
//! again: what comes of it is the same.

use std::collections::HashMap;

use jiff::Timestamp;
use muster_core::{
    id::{ArtifactId, ProjectId},
    test_history::TestState,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, Set, Statement,
    sea_query::OnConflict,
};

use super::{Counts, State};
use crate::{
    Error,
    entity::{
        self, execution as execution_row, report as row, test as test_row,
        test_result as result_row,
    },
    error::Kind,
    quarantine,
    queue::Queue,
    text, time,
    transaction::Failure,
};

/// Tests that are kept in one transaction.
pub const PART: usize = 250;
/// Tags of an execution that tell what was tested, the first that it has.
const REVISION_TAGS: [&str; 3] = ["commit", "revision", "sha"];

/// A test as a report tells of it. Texts are bounded and without NUL.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCase {
    /// What it is over all runs, 16 bytes.
    pub identity: [u8; 16],
    /// The suites around it.
    pub suite: String,
    /// Its class, module or file.
    pub class: String,
    /// Its name.
    pub name: String,
    /// Parameters in its name.
    pub parameters: Option<String>,
    /// What sets it apart in one run: browser, project.
    pub variants: String,
    /// The file that it stands in.
    pub file: Option<String>,
    /// The line there.
    pub line: Option<u32>,
    /// How it ended.
    pub state: TestState,
    /// It passed after a try that did not.
    pub flaky: bool,
    /// How often it was tried.
    pub tries: u32,
    /// How long it took, in milliseconds.
    pub duration: Option<i64>,
    /// Why it did not pass.
    pub message: Option<String>,
    /// The type of the failure.
    pub kind: Option<String>,
    /// The whole account of it.
    pub stack: Option<String>,
    /// Places of its output in the report, attachments, properties: a JSON object.
    pub detail: Option<String>,
}

/// What a report says as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Why it could not be read to its end; `None` when it was.
    pub broken: Option<String>,
    /// Its tests.
    pub counts: Counts,
    /// How long all took, in milliseconds.
    pub duration: Option<i64>,
    /// What else it says, a JSON object.
    pub summary: String,
}

impl Queue<'_> {
    /// Keeps what a report says. Safe to repeat, also after a part of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the report is gone: its file was replaced, or deleted.
    pub async fn keep_report(
        &self,
        artifact: ArtifactId,
        cases: &[NewCase],
        read: &Read,
    ) -> Result<(), Error> {
        let mut quarantined = 0;
        for (number, part) in cases.chunks(PART).enumerate() {
            quarantined += self.keep_cases(artifact, number * PART, part).await?;
        }
        self.end_report(artifact, read, quarantined).await
    }

    /// Keeps some tests of a report, at most [`PART`], of which the first is number `first`. For reports that
    /// are not to be held whole; [`end_report`](Self::end_report) comes last. Returns how many of them did
    /// not pass and are in quarantine.
    ///
    /// # Errors
    ///
    /// As of [`keep_report`](Self::keep_report).
    pub async fn keep_cases(
        &self,
        artifact: ArtifactId,
        first: usize,
        part: &[NewCase],
    ) -> Result<i64, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("keep_tests", |tx| async move {
                keep(&*tx, artifact, first, part, now).await
            })
            .await
    }

    /// Counts the tests of other reports of an execution, of the one that it all began with, and of all that
    /// this has started.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_other_results(&self, artifact: ArtifactId) -> Result<u64, Error> {
        self.store
            .read("count_other_results", || async {
                let db = self.store.reader();
                let backend = db.get_database_backend();
                let place = entity::place(backend, 1);
                let sql = format!(
                    "SELECT CAST(COALESCE(sum(r.passed + r.failed + r.errors + r.skipped), 0) AS bigint) AS many
                     FROM reports AS own JOIN reports AS r ON r.root_id = own.root_id AND r.artifact_id <> own.artifact_id
                     WHERE own.artifact_id = {place}"
                );
                let values = [artifact.as_uuid().into()];
                let statement = Statement::from_sql_and_values(backend, sql, values);
                let row = db.query_one_raw(statement).await?;
                let many: i64 = match row {
                    Some(row) => row.try_get("", "many")?,
                    None => 0,
                };
                Ok(u64::try_from(many).unwrap_or(0))
            })
            .await
    }

    /// Keeps what a report says as a whole, when its tests are kept, of which so many are in quarantine.
    ///
    /// # Errors
    ///
    /// As of [`keep_report`](Self::keep_report).
    pub async fn end_report(
        &self,
        artifact: ArtifactId,
        read: &Read,
        quarantined: i64,
    ) -> Result<(), Error> {
        self.store
            .transaction("keep_report", |tx| async move {
                let state = match read.broken {
                    Some(_) => State::Broken,
                    None => State::Read,
                };
                let counts = read.counts;
                let changed = row::ActiveModel {
                    state: Set(state.as_str().to_owned()),
                    message: Set(text::message(read.broken.as_deref().unwrap_or(""))),
                    passed: Set(counts.passed),
                    failed: Set(counts.failed),
                    errors: Set(counts.errors),
                    skipped: Set(counts.skipped),
                    flaky: Set(counts.flaky),
                    quarantined: Set(quarantined),
                    duration: Set(read.duration),
                    summary_json: Set(read.summary.clone()),
                    ..Default::default()
                };
                let done = row::Entity::update_many()
                    .set(changed)
                    .filter(row::Column::ArtifactId.eq(artifact.as_uuid()))
                    .exec(&*tx)
                    .await?;
                match done.rows_affected {
                    0 => Err(Error::not_found(Kind::Artifact, artifact).into()),
                    _ => Ok(()),
                }
            })
            .await
    }
}

/// Keeps a part. Returns how many tests in it did not pass and are in quarantine.
async fn keep<C: ConnectionTrait>(
    db: &C,
    artifact: ArtifactId,
    first: usize,
    cases: &[NewCase],
    now: Timestamp,
) -> Result<i64, Failure> {
    // Against who replaces or deletes its file.
    let report = row::Entity::find_by_id(artifact.as_uuid())
        .lock_exclusive()
        .one(db)
        .await?
        .ok_or_else(|| Error::not_found(Kind::Artifact, artifact))?;
    let run: Option<(i64, String, String)> = execution_row::Entity::find_by_id(report.execution_id)
        .select_only()
        .columns([
            execution_row::Column::CreateTime,
            execution_row::Column::TagsJson,
            execution_row::Column::Workflow,
        ])
        .into_tuple()
        .one(db)
        .await?;
    let (run_time, tags, workflow) =
        run.ok_or_else(|| Error::not_found(Kind::Execution, report.execution_id))?;
    name(db, report.project_id.into(), cases, report.create_time).await?;
    let revision = revision(&tags)?;
    let identities: Vec<Vec<u8>> = cases.iter().map(|case| case.identity.to_vec()).collect();
    let known = result_row::Entity::find()
        .filter(result_row::Column::ExecutionId.eq(report.execution_id))
        .filter(result_row::Column::Identity.is_in(identities))
        .all(db)
        .await?;
    let mut known: HashMap<Vec<u8>, result_row::Model> = known
        .into_iter()
        .map(|row| (row.identity.clone(), row))
        .collect();
    let bad = cases.iter().filter(|case| case.state.is_bad());
    let bad = bad.map(|case| case.identity.to_vec()).collect();
    let marks = quarantine::marks(db, report.project_id, &workflow, bad, now).await?;
    let quarantined = i64::try_from(marks.len()).unwrap_or(i64::MAX);
    let mut rows = Vec::with_capacity(cases.len());
    let mut replaced = Vec::new();
    for (place, case) in cases.iter().enumerate() {
        let mark = marks.get(&case.identity);
        let new = result_row::Model {
            quarantine_reason: mark.map(|mark| mark.reason.clone()),
            quarantine_until: mark.map(|mark| time::millis(mark.expire_time)),
            execution_id: report.execution_id,
            identity: case.identity.to_vec(),
            project_id: report.project_id,
            root_id: report.root_id,
            artifact_id: report.artifact_id,
            epoch: report.epoch,
            position: i32::try_from(first + place).unwrap_or(i32::MAX),
            rank: rank(case.state),
            state: case.state.as_str().to_owned(),
            flaky: case.flaky,
            tries: i32::try_from(case.tries.max(1)).unwrap_or(i32::MAX),
            duration: case.duration,
            run_time,
            revision: revision.clone(),
            message: case.message.clone(),
            kind: case.kind.clone(),
            stack: case.stack.clone(),
            detail_json: case.detail.clone(),
        };
        match known.remove(&new.identity) {
            Some(old) => {
                let merged = merge(old.clone(), new);
                if merged != old {
                    replaced.push(old.identity);
                    rows.push(merged);
                }
            }
            None => rows.push(new),
        }
    }
    if !replaced.is_empty() {
        result_row::Entity::delete_many()
            .filter(result_row::Column::ExecutionId.eq(report.execution_id))
            .filter(result_row::Column::Identity.is_in(replaced))
            .exec(db)
            .await?;
    }
    // Two reports of one run may tell of the same tests at the same time.
    entity::insert_all::<result_row::Entity, _>(db, &rows)
        .await
        .map_err(|error| Failure::from(error).again_on_unique())?;
    Ok(quarantined)
}

/// Two tellings of one test in one execution. That of a later attempt counts; it is flaky when it passed
/// and an earlier one did not. Of two reports of one attempt the worse word counts.
fn merge(old: result_row::Model, new: result_row::Model) -> result_row::Model {
    if old.artifact_id == new.artifact_id {
        // The same report once more, which knows nothing of earlier attempts.
        let flaky = new.flaky || (old.flaky && new.rank > 0);
        return result_row::Model { flaky, ..new };
    }
    if old.epoch == new.epoch {
        return if weight(&new) > weight(&old) {
            new
        } else {
            old
        };
    }
    let (mut last, before) = if new.epoch > old.epoch {
        (new, old)
    } else {
        (old, new)
    };
    last.flaky |= before.rank == 0 && last.state == TestState::Passed.as_str();
    last
}

/// Bad ones come first in lists.
fn rank(state: TestState) -> i32 {
    i32::from(!state.is_bad())
}

fn weight(row: &result_row::Model) -> u8 {
    match TestState::from_name(&row.state) {
        Some(TestState::Error | TestState::Failed) => 2,
        Some(TestState::Passed) => 1,
        Some(TestState::Skipped) | None => 0,
    }
}

/// Takes note of tests that the project did not have.
async fn name<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    cases: &[NewCase],
    now: i64,
) -> Result<(), Failure> {
    let identities: Vec<Vec<u8>> = cases.iter().map(|case| case.identity.to_vec()).collect();
    let known: Vec<Vec<u8>> = test_row::Entity::find()
        .filter(test_row::Column::ProjectId.eq(project.as_uuid()))
        .filter(test_row::Column::Identity.is_in(identities))
        .select_only()
        .column(test_row::Column::Identity)
        .into_tuple()
        .all(db)
        .await?;
    let new = cases
        .iter()
        .filter(|case| !known.iter().any(|one| one[..] == case.identity));
    let rows: Vec<test_row::ActiveModel> = new
        .map(|case| test_row::ActiveModel {
            project_id: Set(project.as_uuid()),
            identity: Set(case.identity.to_vec()),
            suite: Set(case.suite.clone()),
            class: Set(case.class.clone()),
            name: Set(case.name.clone()),
            parameters: Set(case.parameters.clone()),
            variants: Set(case.variants.clone()),
            file: Set(case.file.clone()),
            line: Set(case.line.and_then(|line| i32::try_from(line).ok())),
            create_time: Set(now),
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    // Another server may read a report with the same tests.
    let known = OnConflict::columns([test_row::Column::ProjectId, test_row::Column::Identity])
        .do_nothing()
        .to_owned();
    test_row::Entity::insert_many(rows)
        .on_conflict(known)
        .exec_without_returning(db)
        .await?;
    Ok(())
}

fn revision(tags: &str) -> Result<Option<String>, Failure> {
    let tags: std::collections::BTreeMap<String, String> = text::decode(tags)?;
    let found = REVISION_TAGS.iter().find_map(|name| tags.get(*name));
    Ok(found.map(|revision| text::reason(revision)))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn told(epoch: i64, report: u128, state: TestState) -> result_row::Model {
        result_row::Model {
            execution_id: Uuid::nil(),
            identity: vec![0; 16],
            project_id: Uuid::nil(),
            root_id: Uuid::nil(),
            artifact_id: Uuid::from_u128(report),
            epoch,
            position: 0,
            rank: rank(state),
            state: state.as_str().to_owned(),
            flaky: false,
            tries: 1,
            duration: None,
            run_time: 0,
            revision: None,
            message: None,
            kind: None,
            stack: None,
            detail_json: None,
            quarantine_reason: None,
            quarantine_until: None,
        }
    }

    #[test]
    fn a_later_attempt_counts_in_whatever_order_reports_are_read() {
        let (first, second) = (told(1, 1, TestState::Failed), told(2, 2, TestState::Passed));
        let merged = merge(first.clone(), second.clone());
        assert_eq!((merged.state.as_str(), merged.flaky), ("passed", true));
        assert_eq!(merge(second.clone(), first), merged);
        // And the same report again changes nothing.
        assert_eq!(merge(merged.clone(), second), merged);
    }

    #[test]
    fn of_two_reports_of_one_attempt_the_worse_word_counts() {
        let (good, bad) = (told(1, 1, TestState::Passed), told(1, 2, TestState::Error));
        for (old, new) in [(good.clone(), bad.clone()), (bad, good.clone())] {
            let merged = merge(old, new);
            assert_eq!((merged.state.as_str(), merged.flaky), ("error", false));
        }
        let skipped = told(1, 3, TestState::Skipped);
        assert_eq!(merge(skipped, good.clone()), good);
    }
}
