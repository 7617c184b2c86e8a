//! Blobs that are to go: noted in the transaction that deletes the rows which named them, and forgotten
//! when they are gone. A crash in between leaves the note, and whoever comes next deletes again.

use jiff::{SignedDuration, Timestamp};
use sea_orm::{
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};

use uuid::Uuid;

use super::Keeper;
use crate::{Error, entity::doomed_blob as row, page, time};

/// How long after the first deletion of a blob that was given out the second one comes: nothing is put for
/// longer.
const LATE: SignedDuration = SignedDuration::from_hours(24);

impl Keeper<'_> {
    /// Returns keys of blobs that are to be deleted now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn doomed_blobs(&self, limit: u32) -> Result<Vec<String>, Error> {
        let now = time::millis(self.store.clock().now());
        self.store
            .read("list_doomed_blobs", || async {
                Ok(row::Entity::find()
                    .select_only()
                    .column(row::Column::Key)
                    .filter(row::Column::NextTime.lte(now))
                    .order_by_asc(row::Column::NextTime)
                    .order_by_asc(row::Column::Key)
                    .limit(u64::from(page::limit(limit)))
                    .into_tuple()
                    .all(self.store.reader())
                    .await?)
            })
            .await
    }

    /// Returns how many blobs wait to be deleted.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_doomed_blobs(&self) -> Result<u64, Error> {
        self.store
            .read("count_doomed_blobs", || async {
                Ok(row::Entity::find().count(self.store.reader()).await?)
            })
            .await
    }

    /// Forgets blobs that are gone. One that was given out to be put directly is deleted once more a day
    /// later: who has begun in time may end late. The caller bounds their number.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn forget_blobs(&self, keys: &[String]) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let now = self.store.clock().now();
        let again = now.checked_add(LATE).unwrap_or(now);
        self.store
            .transaction("forget_blobs", |tx| async move {
                let these = || row::Column::Key.is_in(keys.iter().map(String::as_str));
                row::Entity::delete_many()
                    .filter(these())
                    .filter(row::Column::AttemptId.is_null())
                    .exec(&*tx)
                    .await?;
                row::Entity::update_many()
                    .col_expr(row::Column::NextTime, Expr::value(time::millis(again)))
                    .col_expr(row::Column::AttemptId, Expr::value(None::<Uuid>))
                    .filter(these())
                    .exec(&*tx)
                    .await?;
                Ok(())
            })
            .await
    }

    /// Puts off blobs that could not be deleted, so that others come first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn put_off_blobs(&self, keys: &[String], until: Timestamp) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        self.store
            .transaction("put_off_blobs", |tx| async move {
                row::Entity::update_many()
                    .col_expr(row::Column::NextTime, Expr::value(time::millis(until)))
                    .filter(row::Column::Key.is_in(keys.iter().map(String::as_str)))
                    .exec(&*tx)
                    .await?;
                Ok(())
            })
            .await
    }
}
