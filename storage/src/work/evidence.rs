//! What an attempt leaves behind: segments of its log, and artifacts. Blobs are durable before
//! they come here.

use std::collections::HashMap;

use jiff::Timestamp;
use muster_core::{execution::Lease, id::ArtifactId};
use sea_orm::{
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect, sea_query::Expr,
};

use super::{Added, Appended, NewSegment, Work};
use crate::{
    Error,
    artifact::{self, NewArtifact, NewMissing},
    attempt::{self, Held, Status},
    entity::{
        self, artifact as artifact_row, attempt as attempt_row, log_segment as segment_row,
        missing_artifact as missing_row, test_result as result_row,
    },
    report, text, time,
    transaction::Failure,
};

/// Paths that one statement names.
const MOST_PATHS: usize = 200;

impl Work<'_> {
    pub(super) async fn store_segment(&self, segment: &NewSegment) -> Result<Appended, Error> {
        if segment.end <= segment.start || segment.start < 0 {
            let reason = "a segment ends behind its start, which is 0 or more";
            return Err(Error::invalid("segment", reason));
        }
        let now = time::millis(self.store.clock().now());
        self.store
            .transaction("append_log", |tx| async move {
                let id = segment.lease.attempt;
                let attempt = attempt::find(&*tx, Some(self.agent), id).await?;
                if !takes_log(&attempt, segment.lease)? {
                    return Ok(Appended::Refused);
                }
                // The condition makes the offset move once, whoever else reads the same.
                let moved = attempt_row::Entity::update_many()
                    .col_expr(attempt_row::Column::LogOffset, Expr::value(segment.end))
                    .filter(attempt_row::Column::Id.eq(id.as_uuid()))
                    .filter(attempt_row::Column::LogOffset.eq(segment.start))
                    .filter(attempt_row::Column::LogEnded.eq(false))
                    .exec(&*tx)
                    .await?;
                if moved.rows_affected == 0 {
                    let attempt = attempt::find(&*tx, Some(self.agent), id).await?;
                    if !takes_log(&attempt, segment.lease)? {
                        return Ok(Appended::Refused);
                    }
                    return Ok(Appended::Elsewhere {
                        durable: attempt.log_offset,
                    });
                }
                let row = segment_row::Model {
                    attempt_id: id.as_uuid(),
                    start_offset: segment.start,
                    end_offset: segment.end,
                    project_id: attempt.project_id,
                    blob: segment.blob.clone(),
                    blob_size: segment.blob_size,
                    create_time: now,
                    lines: segment.lines,
                    first_time: segment.first_time,
                    last_time: segment.last_time,
                };
                entity::insert::<segment_row::Entity, _>(&*tx, row).await?;
                Ok(Appended::Stored {
                    durable: segment.end,
                })
            })
            .await
    }

    pub(super) async fn leave_gap(&self, lease: Lease, to: i64) -> Result<Appended, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("skip_log", |tx| async move {
                let mut held = Held::lock(&*tx, Some(self.agent), lease.attempt, now).await?;
                if !takes_log(&held.attempt, lease)? {
                    return Ok(Appended::Refused);
                }
                let durable = held.attempt.log_offset;
                if to <= durable {
                    return Ok(Appended::Stored { durable });
                }
                attempt_row::Entity::update_many()
                    .col_expr(attempt_row::Column::LogOffset, Expr::value(to))
                    .filter(attempt_row::Column::Id.eq(lease.attempt.as_uuid()))
                    .exec(&*tx)
                    .await?;
                let text = format!(
                    "bytes {durable} to {to} of the log are lost: its pod had dropped them when they \
                     were durable, before this database was restored"
                );
                held.change.event("LOG_GAP", &text);
                held.change.save(&*tx).await?;
                Ok(Appended::Stored { durable: to })
            })
            .await
    }

    pub(super) async fn store_artifact(
        &self,
        lease: Lease,
        new: &NewArtifact,
        limit: i64,
        direct: Option<Timestamp>,
    ) -> Result<Added, Error> {
        let now = self.store.clock().now();
        let id = ArtifactId::generate();
        self.store
            .transaction("add_artifact", |tx| async move {
                let mut held = Held::lock(&*tx, Some(self.agent), lease.attempt, now).await?;
                held.require_lease(lease, &[Status::Live, Status::Completed])?;
                let old = artifact_row::Entity::find()
                    .filter(artifact_row::Column::ExecutionId.eq(held.attempt.execution_id))
                    .filter(artifact_row::Column::Path.eq(&new.path))
                    .filter(artifact_row::Column::AttemptId.eq(held.attempt.id))
                    .one(&*tx)
                    .await?;
                if let Some(old) = &old
                    && old.sha256 == new.sha256
                    && old.size == new.size
                {
                    let artifact = artifact::record(old.clone());
                    // The same call again brings the same blob, which must stay. One that was given out goes
                    // when nobody can put it any more.
                    let other = artifact.blob != new.blob && direct.is_none();
                    let discard = other.then(|| new.blob.clone());
                    return Ok(Added { artifact, discard });
                }
                if let Some(after) = direct {
                    super::direct::spare(&tx, held.attempt.id, &new.blob, after).await?;
                }
                missing_row::Entity::delete_by_id((held.attempt.id, new.path.clone()))
                    .exec(&*tx)
                    .await?;
                let discard = old.as_ref().map(|old| old.blob.clone());
                let before = old.as_ref().map_or(0, |old| old.size);
                held.change.count_artifact_bytes(before, new.size, limit)?;
                match old {
                    Some(old) => {
                        // Its report goes with it, and what that told.
                        result_row::Entity::delete_many()
                            .filter(result_row::Column::ExecutionId.eq(old.execution_id))
                            .filter(result_row::Column::ArtifactId.eq(old.id))
                            .exec(&*tx)
                            .await?;
                        artifact_row::Entity::delete_by_id(old.id)
                            .exec(&*tx)
                            .await?;
                    }
                    None if new.path.starts_with(artifact::ARCHIVES) => {}
                    None => held.change.count_artifact(artifact::LIMIT)?,
                }
                let row = artifact::new_row(id, &held.attempt, new, now);
                entity::insert::<artifact_row::Entity, _>(&*tx, row.clone()).await?;
                if let Some(format) = new.report {
                    report::add(&*tx, row.id, &held.attempt, (&new.path, format), now).await?;
                }
                held.change.save(&*tx).await?;
                Ok(Added {
                    artifact: artifact::record(row),
                    discard,
                })
            })
            .await
    }

    pub(super) async fn note_missing(&self, lease: Lease, new: &[NewMissing]) -> Result<(), Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("miss_artifacts", |tx| async move {
                let held = Held::lock(&*tx, Some(self.agent), lease.attempt, now).await?;
                if held.lease() != lease {
                    return Ok(());
                }
                let attempt = held.attempt.id;
                let mut noted = missing_row::Entity::find()
                    .filter(missing_row::Column::ExecutionId.eq(held.attempt.execution_id))
                    .count(&*tx)
                    .await?;
                // Of one that is told twice the last word counts.
                let last: HashMap<&str, usize> = new
                    .iter()
                    .enumerate()
                    .map(|(index, new)| (new.path.as_str(), index))
                    .collect();
                let mut rows = Vec::with_capacity(last.len());
                for (part, paths) in new.chunks(MOST_PATHS).enumerate() {
                    let names = || paths.iter().map(|new| new.path.as_str());
                    let there: Vec<String> = artifact_row::Entity::find()
                        .filter(artifact_row::Column::AttemptId.eq(attempt))
                        .filter(artifact_row::Column::Path.is_in(names()))
                        .select_only()
                        .column(artifact_row::Column::Path)
                        .into_tuple()
                        .all(&*tx)
                        .await?;
                    let before = missing_row::Entity::delete_many()
                        .filter(missing_row::Column::AttemptId.eq(attempt))
                        .filter(missing_row::Column::Path.is_in(names()))
                        .exec(&*tx)
                        .await?;
                    noted = noted.saturating_sub(before.rows_affected);
                    for (index, new) in paths.iter().enumerate() {
                        let is_last =
                            last.get(new.path.as_str()) == Some(&(part * MOST_PATHS + index));
                        if is_last && !there.contains(&new.path) {
                            rows.push(missing_row::Model {
                                attempt_id: attempt,
                                path: new.path.clone(),
                                project_id: held.attempt.project_id,
                                execution_id: held.attempt.execution_id,
                                step: text::reason(&new.step),
                                reason: text::reason(&new.reason),
                                message: text::message(&new.message),
                                create_time: time::millis(now),
                            });
                        }
                    }
                }
                let room = artifact::MOST_MISSING.saturating_sub(noted);
                rows.truncate(usize::try_from(room).unwrap_or(usize::MAX));
                entity::insert_all::<missing_row::Entity, _>(&*tx, &rows).await?;
                Ok(())
            })
            .await
    }
}

/// Whether an attempt may still add to its log: while it lives, and after its completion record
/// until the log is finished.
fn takes_log(attempt: &attempt_row::Model, lease: Lease) -> Result<bool, Failure> {
    let open = matches!(attempt::status(attempt)?, Status::Live | Status::Completed);
    Ok(open && !attempt.log_ended && attempt::lease(attempt) == lease)
}
