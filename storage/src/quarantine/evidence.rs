//! The reports that a step of an attempt has left.

use muster_core::id::AttemptId;
use sea_orm::{
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::Query,
};

use super::Quarantine;
use crate::{
    Error,
    entity::{artifact as artifact_row, report as report_row},
    report::{self, Report, State},
    text,
};

impl Quarantine<'_> {
    /// Counts the reports among the artifacts of a step of an attempt that are not read yet.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn pending_reports_of(&self, attempt: AttemptId, step: &str) -> Result<u64, Error> {
        self.store
            .read("count_pending_reports_of_step", || async {
                let pending = self
                    .of_step(attempt, step)
                    .filter(report_row::Column::State.eq(State::Pending.as_str()));
                Ok(pending.count(self.store.reader()).await?)
            })
            .await
    }

    /// Returns the reports among the artifacts of a step of an attempt, by path; one more than `most` when
    /// there are more.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn reports_of(
        &self,
        attempt: AttemptId,
        step: &str,
        most: usize,
    ) -> Result<Vec<Report>, Error> {
        self.store
            .read("list_reports_of_step", || async {
                let rows = self
                    .of_step(attempt, step)
                    .order_by_asc(report_row::Column::Path)
                    .limit(most as u64 + 1)
                    .all(self.store.reader())
                    .await?;
                rows.into_iter().map(report::record).collect()
            })
            .await
    }

    fn of_step(&self, attempt: AttemptId, step: &str) -> Select<report_row::Entity> {
        let files = Query::select()
            .column(artifact_row::Column::Id)
            .from(artifact_row::Entity)
            .and_where(artifact_row::Column::ProjectId.eq(self.project.as_uuid()))
            .and_where(artifact_row::Column::AttemptId.eq(attempt.as_uuid()))
            // As it is stored.
            .and_where(artifact_row::Column::Step.eq(text::reason(step)))
            .to_owned();
        report_row::Entity::find().filter(report_row::Column::ArtifactId.in_subquery(files))
    }
}
