//! The reports that a step of an attempt has left.

use muster_core::id::AttemptId;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::Query};

use super::Quarantine;
use crate::{
    Error,
    entity::{artifact as artifact_row, report as report_row},
    report::{self, Report},
    text,
};

impl Quarantine<'_> {
    /// Returns the reports among the artifacts of a step of an attempt, by path.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn reports_of(&self, attempt: AttemptId, step: &str) -> Result<Vec<Report>, Error> {
        self.store
            .read("list_reports_of_step", || async {
                let files = Query::select()
                    .column(artifact_row::Column::Id)
                    .from(artifact_row::Entity)
                    .and_where(artifact_row::Column::ProjectId.eq(self.project.as_uuid()))
                    .and_where(artifact_row::Column::AttemptId.eq(attempt.as_uuid()))
                    // As it is stored.
                    .and_where(artifact_row::Column::Step.eq(text::reason(step)))
                    .to_owned();
                let rows = report_row::Entity::find()
                    .filter(report_row::Column::ArtifactId.in_subquery(files))
                    .order_by_asc(report_row::Column::Path)
                    .all(self.store.reader())
                    .await?;
                rows.into_iter().map(report::record).collect()
            })
            .await
    }
}
