//! Deleting blobs whose rows are gone. A blob is forgotten when it is gone, and one that can not be
//! deleted is tried again later.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use jiff::SignedDuration;
use muster_storage::retention::Turn;
use tokio_util::sync::CancellationToken;

use super::sweep::rest;
use crate::app::{App, Error};

/// How often one of the servers looks for what others have left.
const EVERY: Duration = Duration::from_secs(30);
/// Blobs that are deleted together.
const BATCH: u32 = 200;
/// Deletions that are under way at once.
const AT_ONCE: usize = 8;
/// How long until a blob is tried again that could not be deleted.
const AGAIN: SignedDuration = SignedDuration::from_mins(5);
/// How long one deletion may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl App {
    /// Deletes the blobs that are noted, until none is left or `stop`; those that others have noted when
    /// it is this server's turn.
    pub(crate) async fn delete_doomed_blobs(
        &self,
        of_others: bool,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let keeper = self.store.keeper();
        let every = self.config.retention_interval.min(EVERY);
        if of_others && !keeper.take_turn(Turn::Blobs, every).await? {
            return Ok(());
        }
        loop {
            let started = Instant::now();
            let keys = keeper.doomed_blobs(BATCH).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let deleted = stream::iter(keys).map(|key| async move {
                let deleted = tokio::time::timeout(PATIENCE, self.blobs.delete(&key)).await;
                (key, matches!(deleted, Ok(Ok(()))))
            });
            let deleted: Vec<(String, bool)> = deleted.buffer_unordered(AT_ONCE).collect().await;
            let (gone, left): (Vec<_>, Vec<_>) = deleted.into_iter().partition(|(_, gone)| *gone);
            let keys = |all: Vec<(String, bool)>| all.into_iter().map(|(key, _)| key).collect();
            let (gone, left): (Vec<String>, Vec<String>) = (keys(gone), keys(left));
            metrics::counter!(crate::metrics::DELETED_BLOBS).increment(gone.len() as u64);
            keeper.forget_blobs(&gone).await?;
            if !left.is_empty() {
                let count = left.len();
                tracing::warn!(count, "blobs can not be deleted now; it is tried again");
                let now = self.clock.now();
                let until = now.checked_add(AGAIN).unwrap_or(now);
                keeper.put_off_blobs(&left, until).await?;
            }
            if !rest(started, stop).await {
                return Ok(());
            }
        }
    }
}
