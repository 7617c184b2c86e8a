//! Tests that an execution itself has failed, for a rerun of them alone.

use std::collections::HashMap;

use muster_core::id::ExecutionId;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{Test, Tests, row};
use crate::{Error, entity::report as report_row};

/// A test that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The test.
    pub test: Test,
    /// Path of the report that tells of it.
    pub report: String,
    /// Name of that report's format.
    pub format: String,
}

impl Tests<'_> {
    /// Returns the tests that an execution itself has failed, without what it has started, at most
    /// `limit` and one more, in the order of their reports.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn failed(&self, execution: ExecutionId, limit: u64) -> Result<Vec<Failed>, Error> {
        self.store
            .read("list_failed_tests", || async {
                let db = self.store.reader();
                self.store
                    .executions(self.project)
                    .require(db, execution)
                    .await?;
                let rows: Vec<(Vec<u8>, Uuid)> = row::Entity::find()
                    .select_only()
                    .columns([row::Column::Identity, row::Column::ArtifactId])
                    .filter(row::Column::ExecutionId.eq(execution.as_uuid()))
                    .filter(row::Column::Rank.eq(0))
                    .order_by_asc(row::Column::ArtifactId)
                    .order_by_asc(row::Column::Position)
                    .limit(limit.saturating_add(1))
                    .into_tuple()
                    .all(db)
                    .await?;
                let mut names = HashMap::new();
                for part in rows.chunks(500) {
                    let identities = part.iter().map(|(identity, _)| identity);
                    names.extend(self.names(db, identities).await?);
                }
                let reports: Vec<(Uuid, String, String)> = report_row::Entity::find()
                    .select_only()
                    .columns([
                        report_row::Column::ArtifactId,
                        report_row::Column::Path,
                        report_row::Column::Format,
                    ])
                    .filter(report_row::Column::ExecutionId.eq(execution.as_uuid()))
                    .into_tuple()
                    .all(db)
                    .await?;
                let reports: HashMap<Uuid, (String, String)> = reports
                    .into_iter()
                    .map(|(id, path, format)| (id, (path, format)))
                    .collect();
                let failed = rows.into_iter().filter_map(|(identity, artifact)| {
                    let (report, format) = reports.get(&artifact).cloned()?;
                    let test = names.get(&identity)?.clone();
                    Some(Failed {
                        test,
                        report,
                        format,
                    })
                });
                Ok(failed.collect())
            })
            .await
    }
}
