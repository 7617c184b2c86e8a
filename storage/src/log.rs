//! Reading logs: which segments hold which bytes, lines and times. The bytes themselves are blobs.

mod index;
mod seal;

use jiff::Timestamp;
use muster_core::id::{AttemptId, ExecutionId, ProjectId};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::{
    Error, Store,
    entity::{attempt as attempt_row, log_segment as row, sealed_log as sealed_row},
    error::Kind,
    execution::{self, LogSummary},
    page,
    transaction::Failure,
};

pub use seal::{NewSealed, Sealed};

/// A stretch of a log: a blob of its own, or a part of the object of a sealed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Offset of its first byte.
    pub start: i64,
    /// Offset behind its last byte.
    pub end: i64,
    /// Key of its blob.
    pub blob: String,
    /// Where it begins in its blob.
    pub blob_start: i64,
    /// How many bytes of its blob it is.
    pub blob_size: i64,
    /// How many lines end in it.
    pub lines: i64,
    /// When its first byte was printed, milliseconds since the epoch, as the conductor told it.
    pub first_time: i64,
    /// When its last byte was printed.
    pub last_time: i64,
}

/// The newest log of an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The attempt that wrote it; `None` before the first one.
    pub attempt: Option<AttemptId>,
    /// What is known of it; its size is the durable one.
    pub summary: LogSummary,
    /// Nothing will be added any more.
    pub ended: bool,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
}

/// The logs of one project.
#[derive(Debug)]
pub struct Logs<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
}

impl Logs<'_> {
    /// Returns how far the newest log of an execution is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn head(&self, execution: ExecutionId) -> Result<Head, Error> {
        self.store
            .snapshot("get_log_head", |tx| async move {
                let found = self
                    .store
                    .executions(self.project)
                    .load(&*tx, execution)
                    .await?;
                let newest = execution::newest_attempt(&*tx, execution).await?;
                Ok(Head {
                    attempt: newest.as_ref().map(|attempt| attempt.id.into()),
                    ended: match &newest {
                        // One that is queued again will have another log.
                        Some(attempt) => attempt.log_ended && found.state().is_terminal(),
                        None => found.state().is_terminal(),
                    },
                    deleted: found.logs_delete_time,
                    summary: found.log,
                })
            })
            .await
    }

    /// Returns how far the log of one attempt of an execution is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution, or the attempt with this epoch.
    pub async fn head_of(&self, execution: ExecutionId, epoch: i64) -> Result<Head, Error> {
        self.store
            .snapshot("get_attempt_log_head", |tx| async move {
                let executions = self.store.executions(self.project);
                let found = executions.load(&*tx, execution).await?;
                let attempt = attempt_row::Entity::find()
                    .filter(attempt_row::Column::ExecutionId.eq(execution.as_uuid()))
                    .filter(attempt_row::Column::Epoch.eq(epoch))
                    .one(&*tx)
                    .await?
                    .ok_or_else(|| Error::NotFound {
                        kind: Kind::Attempt,
                        id: format!("{execution}/{epoch}"),
                    })?;
                let is_newest = epoch == found.lifecycle.last_epoch;
                Ok(Head {
                    attempt: Some(attempt.id.into()),
                    ended: attempt.log_ended,
                    deleted: found.logs_delete_time,
                    summary: match is_newest && found.log.complete {
                        true => found.log,
                        false => summary(&attempt),
                    },
                })
            })
            .await
    }

    /// Returns segments of an attempt's log in order, beginning with the one that holds `from`.
    ///
    /// # Errors
    ///
    /// When the database fails. An attempt of another project has no segments.
    pub async fn segments(
        &self,
        attempt: AttemptId,
        from: i64,
        limit: u32,
    ) -> Result<Vec<Segment>, Error> {
        self.store
            .read("list_log_segments", || async {
                let log = row::Entity::find()
                    .filter(row::Column::AttemptId.eq(attempt.as_uuid()))
                    .filter(row::Column::ProjectId.eq(self.project.as_uuid()));
                // The first one is looked up, so that a reader at the end does not go through
                // all of them.
                let first: Option<i64> = log
                    .clone()
                    .select_only()
                    .column(row::Column::StartOffset)
                    .filter(row::Column::StartOffset.lte(from))
                    .order_by_desc(row::Column::StartOffset)
                    .limit(1)
                    .into_tuple()
                    .one(self.store.reader())
                    .await?;
                let rows = log
                    .filter(row::Column::StartOffset.gte(first.unwrap_or(0)))
                    .filter(row::Column::EndOffset.gt(from))
                    .order_by_asc(row::Column::StartOffset)
                    .limit(u64::from(page::limit(limit)))
                    .all(self.store.reader())
                    .await?;
                if !rows.is_empty() {
                    return Ok(rows.into_iter().map(record).collect());
                }
                let mut sealed = self.sealed(attempt).await?;
                sealed.retain(|segment| segment.end > from);
                sealed.truncate(page::limit(limit) as usize);
                Ok(sealed)
            })
            .await
    }

    /// Returns all segments of an attempt's log in order: some 4,000 for a gigabyte.
    ///
    /// # Errors
    ///
    /// When the database fails. An attempt of another project has no segments.
    pub async fn layout(&self, attempt: AttemptId) -> Result<Vec<Segment>, Error> {
        self.store
            .read("list_all_log_segments", || async {
                let rows = row::Entity::find()
                    .filter(row::Column::AttemptId.eq(attempt.as_uuid()))
                    .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                    .order_by_asc(row::Column::StartOffset)
                    .all(self.store.reader())
                    .await?;
                match rows.is_empty() {
                    true => self.sealed(attempt).await,
                    false => Ok(rows.into_iter().map(record).collect()),
                }
            })
            .await
    }

    /// The segments of a sealed log; none when it is not sealed.
    async fn sealed(&self, attempt: AttemptId) -> Result<Vec<Segment>, Failure> {
        let found = sealed_row::Entity::find_by_id(attempt.as_uuid())
            .filter(sealed_row::Column::ProjectId.eq(self.project.as_uuid()))
            .one(self.store.reader())
            .await?;
        found.map_or(Ok(Vec::new()), |found| {
            index::decode(&found.segments, &found.blob)
        })
    }
}

/// What is known of the log of an attempt that is not the last word of its execution.
fn summary(attempt: &attempt_row::Model) -> LogSummary {
    LogSummary {
        size: attempt.log_offset,
        sha256: attempt.log_sha256.clone(),
        complete: attempt.log_complete,
    }
}

fn record(row: row::Model) -> Segment {
    Segment {
        start: row.start_offset,
        end: row.end_offset,
        blob: row.blob,
        blob_start: 0,
        blob_size: row.blob_size,
        lines: row.lines,
        first_time: row.first_time,
        last_time: row.last_time,
    }
}
