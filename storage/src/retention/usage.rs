//! What uses the space, from sums over what has ended; one index has all that they ask.

use muster_core::id::ExecutionId;
use sea_orm::{ConnectionTrait, Statement, Value};
use uuid::Uuid;

use super::Retained;
use crate::{Error, Page, page, transaction::Failure};

/// How much space something takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// How many executions, with workers, services and members of suites.
    pub executions: i64,
    /// Bytes of their logs as they were printed; they are stored packed.
    pub log_bytes: i64,
    /// Bytes of their artifacts.
    pub artifact_bytes: i64,
}

/// The space of something that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Name of a workflow, or of an execution for people.
    pub name: String,
    /// Its space.
    pub space: Space,
}

/// Bytes of logs that are there.
const LOGS: &str = "CASE WHEN logs_delete_time IS NULL THEN log_size ELSE 0 END";
/// Bytes of artifacts that are there.
const ARTIFACTS: &str = "CASE WHEN artifacts_delete_time IS NULL THEN artifact_bytes ELSE 0 END";

impl Retained<'_> {
    /// Sums up the executions of each workflow that have ended, by its name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn usage(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Usage, String>, Error> {
        let limit = page::limit(limit);
        let sql = format!(
            "SELECT workflow, COUNT(*) AS executions, CAST(SUM({LOGS}) AS bigint) AS logs, \
             CAST(SUM({ARTIFACTS}) AS bigint) AS artifacts FROM executions \
             WHERE project_id = $1 AND finish_time IS NOT NULL AND workflow > $2 \
             GROUP BY workflow ORDER BY workflow LIMIT {}",
            u64::from(limit) + 1
        );
        self.store
            .read("sum_usage", || async {
                let values: Vec<Value> =
                    vec![self.project.as_uuid().into(), after.unwrap_or("").into()];
                let items = self.rows(&sql, values, "workflow").await?;
                Ok(Page::new(items, limit, |item: &Usage| item.name.clone()))
            })
            .await
    }

    /// Returns the executions that have ended and take the most space, each by itself, the largest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn largest(&self, limit: u32) -> Result<Vec<Usage>, Error> {
        let limit = page::limit(limit);
        let sql = format!(
            "SELECT id, {LOGS} AS logs, {ARTIFACTS} AS artifacts FROM executions \
             WHERE project_id = $1 AND finish_time IS NOT NULL \
             ORDER BY {LOGS} + {ARTIFACTS} DESC, id DESC LIMIT {limit}"
        );
        let found: Vec<(ExecutionId, Space)> = self
            .store
            .read("list_largest_executions", || async {
                let db = self.store.reader();
                let values: Vec<Value> = vec![self.project.as_uuid().into()];
                let statement =
                    Statement::from_sql_and_values(db.get_database_backend(), &sql, values);
                let rows = db.query_all_raw(statement).await?;
                let rows = rows.iter().map(|row| {
                    let id: Uuid = row.try_get("", "id")?;
                    let space = Space {
                        executions: 1,
                        log_bytes: row.try_get("", "logs")?,
                        artifact_bytes: row.try_get("", "artifacts")?,
                    };
                    Ok((id.into(), space))
                });
                rows.collect::<Result<_, Failure>>()
            })
            .await?;
        let ids: Vec<_> = found.iter().map(|(id, _)| *id).collect();
        let mut names = self.names(&ids).await?;
        // One that was deleted in between has no name any more.
        let found = found.into_iter();
        Ok(found
            .filter_map(|(id, space)| {
                Some(Usage {
                    name: names.remove(&id)?,
                    space,
                })
            })
            .collect())
    }

    async fn rows(&self, sql: &str, values: Vec<Value>, name: &str) -> Result<Vec<Usage>, Failure> {
        let db = self.store.reader();
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        let rows = db.query_all_raw(statement).await?;
        let rows = rows.iter().map(|row| {
            Ok(Usage {
                name: row.try_get("", name)?,
                space: Space {
                    executions: row.try_get("", "executions")?,
                    log_bytes: row.try_get("", "logs")?,
                    artifact_bytes: row.try_get("", "artifacts")?,
                },
            })
        });
        rows.collect()
    }
}
