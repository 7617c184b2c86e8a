//! Labels: which workflows have had executions with one is noted once, and not with each execution,
//! whose acceptance must cost nothing more.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
};

use muster_core::id::ProjectId;
use sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait, Statement, Value,
    sea_query::{OnConflict, SimpleExpr},
};

use super::{custom, numbered};
use crate::{Error, Store, entity::workflow_label as label_row, transaction::Failure};

/// Most sets of labels that are remembered as noted; then it is begun anew.
const MOST_KNOWN: usize = 10_000;

/// What is noted already, as far as this process knows.
#[derive(Debug, Default)]
pub(crate) struct KnownLabels(Mutex<HashSet<Known>>);

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
        {
            let all = self.known_labels().0.lock();
            if all.unwrap_or_else(PoisonError::into_inner).contains(&known) {
                return Ok(());
            }
        }
        self.transaction("know_workflow_labels", |tx| async move {
            let rows = labels.iter().map(|(key, value)| label_row::ActiveModel {
                project_id: sea_orm::ActiveValue::Set(project.as_uuid()),
                key: sea_orm::ActiveValue::Set(key.clone()),
                value: sea_orm::ActiveValue::Set(value.clone()),
                workflow: sea_orm::ActiveValue::Set(workflow.to_owned()),
            });
            label_row::Entity::insert_many(rows)
                .on_conflict(OnConflict::new().do_nothing().to_owned())
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
        all.insert(known);
        Ok(())
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
