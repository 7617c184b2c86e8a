//! Labels: which workflows have had executions with one is noted once, and not with each execution,
//! whose acceptance must cost nothing more. What no workflow with executions has any more is forgotten, later
//! than any server remembers that it is noted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};
use muster_core::id::ProjectId;
use sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait, Statement, Value,
    sea_query::{OnConflict, SimpleExpr},
};

use super::{custom, numbered};
use crate::{
    Error, Store, entity::workflow_label as label_row, retention::Keeper, time,
    transaction::Failure,
};

/// Most sets of labels that are remembered as noted; then it is begun anew.
const MOST_KNOWN: usize = 10_000;
/// How long it is remembered that a set is noted; then it is noted again.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// How long nobody must have needed a note until it goes: longer than any server goes without noting it
/// again, with an hour for clocks that differ.
const UNUSED: SignedDuration = SignedDuration::from_hours(3);

/// What is noted already, as far as this process knows, and since when.
#[derive(Debug, Default)]
pub(crate) struct KnownLabels(Mutex<HashMap<Known, Timestamp>>);

type Known = (ProjectId, String, BTreeMap<String, String>);

impl Store {
    /// Notes that executions of a workflow have these labels, before there is one.
    pub(crate) async fn know_labels(
        &self,
        project: ProjectId,
        workflow: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        if labels.is_empty() {
            return Ok(());
        }
        let known = (project, workflow.to_owned(), labels.clone());
        let now = self.clock().now();
        {
            let all = self.known_labels().0.lock();
            let all = all.unwrap_or_else(PoisonError::into_inner);
            let fresh = |since: &Timestamp| {
                let age = now.duration_since(*since);
                !age.is_negative() && age < REMEMBERED
            };
            if all.get(&known).is_some_and(fresh) {
                return Ok(());
            }
        }
        self.transaction("know_workflow_labels", |tx| async move {
            let rows = labels.iter().map(|(key, value)| label_row::ActiveModel {
                project_id: sea_orm::ActiveValue::Set(project.as_uuid()),
                key: sea_orm::ActiveValue::Set(key.clone()),
                value: sea_orm::ActiveValue::Set(value.clone()),
                workflow: sea_orm::ActiveValue::Set(workflow.to_owned()),
                unused_time: sea_orm::ActiveValue::Set(None),
            });
            let key = [
                label_row::Column::ProjectId,
                label_row::Column::Key,
                label_row::Column::Value,
                label_row::Column::Workflow,
            ];
            let again = OnConflict::columns(key)
                .update_column(label_row::Column::UnusedTime)
                .to_owned();
            label_row::Entity::insert_many(rows)
                .on_conflict(again)
                .exec_without_returning(&*tx)
                .await
                .map_err(|error| {
                    Failure::from(error).on_missing_reference(|| {
                        Error::not_found(crate::error::Kind::Project, project)
                    })
                })?;
            Ok(())
        })
        .await?;
        let all = self.known_labels().0.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KNOWN {
            all.clear();
        }
        all.insert(known, now);
        Ok(())
    }
}

impl Keeper<'_> {
    /// Forgets notes of labels whose workflow has had no execution for a while, at most `limit`, and marks
    /// those that have none now. Returns how many were forgotten.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_labels(&self, limit: u32) -> Result<u64, Error> {
        let now = self.store.clock().now();
        let before = now.checked_sub(UNUSED).unwrap_or(Timestamp::MIN);
        let unused = "NOT EXISTS (SELECT 1 FROM executions AS e
            WHERE e.project_id = l.project_id AND e.workflow = l.workflow)";
        let some = |condition: &str| {
            format!(
                "(project_id, key, value, workflow) IN (SELECT l.project_id, l.key, l.value, l.workflow
                 FROM workflow_labels AS l WHERE {condition} AND {unused} LIMIT {limit})"
            )
        };
        // What is noted again in between has no mark, and stays.
        let forget = format!(
            "DELETE FROM workflow_labels WHERE unused_time < $1 AND {}",
            some("l.unused_time < $1")
        );
        let unmark = "UPDATE workflow_labels SET unused_time = NULL WHERE unused_time IS NOT NULL
            AND EXISTS (SELECT 1 FROM executions AS e WHERE e.project_id = workflow_labels.project_id
              AND e.workflow = workflow_labels.workflow)";
        let mark = format!(
            "UPDATE workflow_labels SET unused_time = $1 WHERE unused_time IS NULL AND {}",
            some("l.unused_time IS NULL")
        );
        self.store
            .transaction("forget_labels", |tx| {
                let (forget, mark) = (forget.clone(), mark.clone());
                async move {
                    let backend = tx.get_database_backend();
                    let run = async |sql: String, values: Vec<Value>| {
                        let statement = Statement::from_sql_and_values(backend, sql, values);
                        Ok::<_, Failure>(tx.execute_raw(statement).await?.rows_affected())
                    };
                    run(unmark.to_owned(), Vec::new()).await?;
                    let forgotten = run(forget, vec![time::millis(before).into()]).await?;
                    run(mark, vec![time::millis(now).into()]).await?;
                    Ok(forgotten)
                }
            })
            .await
    }
}

/// Names that a query finds, at most so many.
pub(super) async fn names<C: ConnectionTrait>(
    db: &C,
    query: &str,
    values: Vec<Value>,
    most: usize,
) -> Result<Vec<String>, Failure> {
    let backend = db.get_database_backend();
    let sql = format!("{query} LIMIT {most}");
    let sql = match backend {
        DbBackend::Postgres => numbered(&sql, 0),
        _ => sql,
    };
    let rows = db
        .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let mut names = Vec::with_capacity(rows.len());
    for row in rows {
        names.push(row.try_get_by_index(0)?);
    }
    Ok(names)
}

/// Whether an execution has a label. Labels stand in its row as JSON that this crate has written:
/// without spaces, and with a backslash before each quote of a text, so that a quote behind a brace or a
/// comma begins a key and nothing else.
pub(super) fn has(backend: DbBackend, key: &str, value: Option<&str>) -> SimpleExpr {
    let json = |text: &str| serde_json::Value::from(text).to_string();
    let pair = match value {
        Some(value) => format!("{}:{}", json(key), json(value)),
        None => format!("{}:", json(key)),
    };
    let sql = match backend {
        DbBackend::Postgres => "(strpos(labels_json, ?) > 0 OR strpos(labels_json, ?) > 0)",
        _ => "(instr(labels_json, ?) > 0 OR instr(labels_json, ?) > 0)",
    };
    let first = format!("{{{pair}");
    let later = format!(",{pair}");
    custom(backend, sql, [first.into(), later.into()])
}
