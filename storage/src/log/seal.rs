//! Sealing: a log that has ended and came in many segments is kept as one object with an index.
//! Writing the object is not done here.

use muster_core::id::AttemptId;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use uuid::Uuid;

use super::{Segment, index};
use crate::{
    Error,
    attempt::Held,
    entity::{self, attempt as attempt_row, log_segment as row, sealed_log as sealed_row},
    error::Kind,
    execution::Execution,
    page,
    queue::Queue,
    time,
};

/// A log whose object is durable already.
#[derive(Debug, Clone)]
pub struct NewSealed {
    /// Its segments, now parts of that object, in order and without a space between them.
    pub segments: Vec<Segment>,
    /// SHA-256 of the log, gaps left out, lower-case hexadecimal.
    pub sha256: String,
    /// Key of the object.
    pub blob: String,
    /// Size of the object, which may have more behind the last segment.
    pub blob_size: i64,
}

/// What became of a sealed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// It is read from its object from now on.
    Stored {
        /// Blobs of its segments, which no row names any more.
        discard: Vec<String>,
    },
    /// It is sealed already, or its segments are not those that the object was made of: the object
    /// is to be dropped.
    Elsewhere,
}

impl Queue<'_> {
    /// Returns attempts whose log has ended in more than one segment and is not sealed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn unsealed_logs(&self, limit: u32) -> Result<Vec<AttemptId>, Error> {
        let limit = page::limit(limit) as usize;
        self.store
            .read("list_unsealed_logs", || async {
                let mut found = Vec::new();
                let mut last = Uuid::nil();
                // One step for each log that is open or not sealed, whatever its segments.
                for _ in 0..MOST_LOOKED {
                    let next: Option<Uuid> = row::Entity::find()
                        .select_only()
                        .column(row::Column::AttemptId)
                        .filter(row::Column::AttemptId.gt(last))
                        .filter(Expr::cust("start_offset > 0"))
                        .order_by_asc(row::Column::AttemptId)
                        .limit(1)
                        .into_tuple()
                        .one(self.store.reader())
                        .await?;
                    let Some(attempt) = next else {
                        break;
                    };
                    last = attempt;
                    let ended: Option<bool> = attempt_row::Entity::find_by_id(attempt)
                        .select_only()
                        .column(attempt_row::Column::LogEnded)
                        .into_tuple()
                        .one(self.store.reader())
                        .await?;
                    if ended == Some(true) {
                        found.push(attempt.into());
                    }
                    if found.len() >= limit {
                        break;
                    }
                }
                Ok(found)
            })
            .await
    }

    /// Stores that what is kept of an attempt's log is not what was stored, with what was found: the log
    /// does not count as complete any more. Returns the execution if that is news for it. Safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn spoil_log(
        &self,
        attempt: AttemptId,
        finding: &str,
    ) -> Result<Option<Execution>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("spoil_log", |tx| async move {
                let mut held = Held::lock(&*tx, None, attempt, now).await?;
                held.attempt.log_complete = false;
                // The log of an older attempt is not the log of the execution.
                let lifecycle = held.change.lifecycle()?;
                let newest = held.attempt.epoch == lifecycle.last_epoch;
                if !newest || !lifecycle.state.is_terminal() {
                    held.save_attempt(&*tx).await?;
                    return Ok(None);
                }
                let is_news = held.change.warn(&[finding.to_owned()])?;
                if held.change.spoil_log() || is_news {
                    held.change.event("LOG_DAMAGED", finding);
                    return Ok(Some(held.save(&*tx).await?.execution));
                }
                held.save_attempt(&*tx).await?;
                Ok(None)
            })
            .await
    }

    /// Replaces the segments of a log that has ended by one object. Safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the attempt.
    pub async fn seal_log(&self, attempt: AttemptId, new: &NewSealed) -> Result<Sealed, Error> {
        let now = time::millis(self.store.clock().now());
        self.store
            .transaction("seal_log", |tx| async move {
                // Against who deletes it or seals it too.
                let ended = attempt_row::Entity::find_by_id(attempt.as_uuid())
                    .lock_exclusive()
                    .one(&*tx)
                    .await?
                    .ok_or_else(|| Error::not_found(Kind::Attempt, attempt))?;
                let rows = row::Entity::find()
                    .filter(row::Column::AttemptId.eq(attempt.as_uuid()))
                    .order_by_asc(row::Column::StartOffset)
                    .all(&*tx)
                    .await?;
                let covers = |row: &row::Model| {
                    let after = new
                        .segments
                        .partition_point(|s| s.start <= row.start_offset);
                    after > 0 && row.end_offset <= covered(&new.segments[after - 1..])
                };
                if !ended.log_ended || rows.is_empty() || !rows.iter().all(covers) {
                    return Ok(Sealed::Elsewhere);
                }
                row::Entity::delete_many()
                    .filter(row::Column::AttemptId.eq(attempt.as_uuid()))
                    .exec(&*tx)
                    .await?;
                let sealed = sealed_row::Model {
                    attempt_id: attempt.as_uuid(),
                    project_id: ended.project_id,
                    size: ended.log_offset,
                    lines: new.segments.iter().map(|segment| segment.lines).sum(),
                    sha256: new.sha256.clone(),
                    blob: new.blob.clone(),
                    blob_size: new.blob_size,
                    segments: index::encode(&new.segments),
                    create_time: now,
                };
                entity::insert::<sealed_row::Entity, _>(&*tx, sealed).await?;
                Ok(Sealed::Stored {
                    discard: rows.into_iter().map(|row| row.blob).collect(),
                })
            })
            .await
    }
}

/// Most logs that one sweep looks at.
const MOST_LOOKED: usize = 10_000;

/// End of the bytes that segments hold from the start of the first one on without a gap.
fn covered(segments: &[Segment]) -> i64 {
    let mut end = segments.first().map_or(0, |first| first.start);
    for segment in segments {
        if segment.start > end {
            break;
        }
        end = segment.end;
    }
    end
}
