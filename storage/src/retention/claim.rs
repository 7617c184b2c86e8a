//! Turns: of several servers one does a sweep, and the next one is due a while later, whoever does it.

use std::time::Duration;

use super::{Keeper, execute};
use crate::{Error, time};

/// A sweep that one server does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Deleting what is beyond its retention.
    Retention,
    /// Deleting blobs whose rows are gone.
    Blobs,
    /// Looking for blobs that no row names.
    Orphans,
}

impl Turn {
    const fn key(self) -> &'static str {
        match self {
            Self::Retention => "turn_retention",
            Self::Blobs => "turn_blobs",
            Self::Orphans => "turn_orphans",
        }
    }
}

impl Keeper<'_> {
    /// Takes a turn, when it is due, and sets when the next one is. A turn that is further away than
    /// `every` was set by a clock that was wrong, and is taken.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn take_turn(&self, turn: Turn, every: Duration) -> Result<bool, Error> {
        let now = time::millis(self.store.clock().now());
        let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        let next = now.saturating_add(every);
        self.store
            .transaction("take_turn", |tx| async move {
                let sql = "INSERT INTO instance (key, value) VALUES ($1, $2) \
                    ON CONFLICT (key) DO UPDATE SET value = excluded.value \
                    WHERE CAST(instance.value AS bigint) <= $3 \
                    OR CAST(instance.value AS bigint) > $4";
                let values = vec![
                    turn.key().into(),
                    next.to_string().into(),
                    now.into(),
                    next.into(),
                ];
                Ok(execute(&*tx, sql.to_owned(), values).await?.rows_affected() > 0)
            })
            .await
    }
}
