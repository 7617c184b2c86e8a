//! Blobs that an attempt may put itself: their keys are doomed before anybody has them, so that one which
//! never becomes an artifact goes by itself.

use jiff::Timestamp;
use muster_core::execution::Lease;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::Work;
use crate::{
    Error,
    attempt::{Held, Status},
    entity::{self, doomed_blob as row},
    error::Kind,
    time,
    transaction::{Failure, Tx},
};

/// Most blobs that an attempt may put and that are not artifacts yet.
const MOST_OPEN: usize = 100;

/// A blob that is to be given out.
#[derive(Debug, Clone)]
pub struct NewDirect {
    /// Its key.
    pub key: String,
    /// How many bytes may be put.
    pub size: i64,
    /// When it is deleted, unless it is an artifact by then.
    pub delete_time: Timestamp,
}

impl Work<'_> {
    pub(super) async fn doom_direct(
        &self,
        lease: Lease,
        new: &NewDirect,
        limit: i64,
    ) -> Result<bool, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("give_out_blob", |tx| async move {
                let mut held = Held::lock(&*tx, Some(self.agent), lease.attempt, now).await?;
                held.require_lease(lease, &[Status::Live])?;
                let sizes: Vec<i64> = row::Entity::find()
                    .filter(row::Column::AttemptId.eq(lease.attempt.as_uuid()))
                    .select_only()
                    .column(row::Column::Size)
                    .into_tuple()
                    .all(&*tx)
                    .await?;
                if sizes.len() >= MOST_OPEN {
                    return Ok(false);
                }
                // Each of them may be put, whatever becomes of it.
                let all = sizes.into_iter().fold(new.size, i64::saturating_add);
                if held.change.count_artifact_bytes(0, all, limit).is_err() {
                    return Ok(false);
                }
                let row = row::Model {
                    key: new.key.clone(),
                    project_id: held.attempt.project_id,
                    create_time: time::millis(now),
                    next_time: time::millis(new.delete_time),
                    attempt_id: Some(lease.attempt.as_uuid()),
                    size: new.size,
                };
                entity::insert::<row::Entity, _>(&*tx, row).await?;
                Ok(true)
            })
            .await
    }
}

/// Spares a blob that was given out to an attempt, when it is not to be deleted before `after`.
pub(super) async fn spare(
    tx: &Tx,
    attempt: Uuid,
    key: &str,
    after: Timestamp,
) -> Result<(), Failure> {
    let spared = row::Entity::delete_many()
        .filter(row::Column::Key.eq(key))
        .filter(row::Column::AttemptId.eq(attempt))
        .filter(row::Column::NextTime.gt(time::millis(after)))
        .exec(&**tx)
        .await?;
    if spared.rows_affected == 0 {
        return Err(Error::not_found(Kind::Blob, key).into());
    }
    Ok(())
}
