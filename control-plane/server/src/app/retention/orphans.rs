//! Looking for blobs that no row names: what a crash has left between a blob and its row.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use muster_storage::{
    audit::{NewAuditEvent, Outcome},
    blob::Listed,
    retention::Turn,
};
use tokio_util::sync::CancellationToken;

use super::sweep::rest;
use crate::app::{App, Caller, Error};

/// How old a blob must be: its row may be on its way until then. Nothing takes so long that is still
/// alive, and no clock is so wrong that nobody sees it.
const GRACE: SignedDuration = SignedDuration::from_hours(24);
/// How often it is looked.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// Blobs that are looked up together.
const BATCH: usize = 500;
/// Most orphans that are deleted in one go.
const MOST_DELETED: u64 = 10_000;
/// Most blobs that a caller has looked at.
const MOST_LOOKED: u64 = 100_000;
/// Keys that are told.
const MOST_TOLD: usize = 100;
/// Folders with blobs that rows name.
const NAMED: [&str; 2] = ["logs", "artifacts"];
/// The folder with blobs that no row ever names: servers try the store out with them.
const CHECK: &str = "check";

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// Blobs that were looked at.
    pub(crate) looked: u64,
    /// How many of them are orphans, deleted unless it was a dry run.
    pub(crate) orphans: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Keys of some of them.
    pub(crate) keys: Vec<String>,
    /// Some were not looked at or not deleted.
    pub(crate) truncated: bool,
}

/// A look that is under way.
struct Look<'a> {
    app: &'a App,
    /// What became complete after it is let be.
    before: Timestamp,
    /// Who has them deleted; without, they are only told.
    by: Option<&'a Caller>,
    found: Orphans,
}

impl App {
    /// Looks for orphans once a day, when it is this server's turn, and says how much they are. They are not
    /// deleted by themselves: a copy of the database, or another one on the same object store, would take
    /// all that it does not know for orphans.
    pub(crate) async fn sweep_orphans_daily(&self, stop: &CancellationToken) -> Result<(), Error> {
        if !self.store.keeper().take_turn(Turn::Orphans, EVERY).await? {
            return Ok(());
        }
        match self.blobs.sweep_staged(GRACE.unsigned_abs()).await {
            Ok(0) => {}
            Ok(staged) => tracing::info!(
                staged,
                "files of uploads that a crash has cut off were deleted"
            ),
            Err(error) => {
                tracing::warn!(%error, "files of uploads that a crash has cut off stay for a day");
            }
        }
        let found = self.look_for_orphans(None, u64::MAX, stop).await?;
        if found.orphans > 0 {
            let Orphans { orphans, bytes, .. } = found;
            tracing::warn!(
                orphans,
                bytes,
                "there are blobs that no row names; if no other database has blobs here, delete them by `muster retention orphans --delete`"
            );
        }
        Ok(())
    }

    /// The same for an administrator, now.
    pub(crate) async fn sweep_orphans(
        &self,
        caller: &Caller,
        dry_run: bool,
    ) -> Result<Orphans, Error> {
        caller.require_admin()?;
        let stop = self.link.drain.child_token();
        let by = (!dry_run).then_some(caller);
        self.look_for_orphans(by, MOST_LOOKED, &stop).await
    }

    async fn look_for_orphans(
        &self,
        by: Option<&Caller>,
        most: u64,
        stop: &CancellationToken,
    ) -> Result<Orphans, Error> {
        // A blob's age is by the clock of the store, a row's by that of a server: the earlier one counts.
        let now = self.blobs.now().await?.min(self.clock.now());
        let mut look = Look {
            app: self,
            before: now.checked_sub(GRACE).unwrap_or(Timestamp::MIN),
            by,
            found: Orphans::default(),
        };
        for folder in NAMED.into_iter().chain([CHECK]) {
            let mut listed = self.blobs.list(folder)?.chunks(BATCH);
            while let Some(batch) = listed.next().await {
                if look.found.looked >= most || look.found.orphans >= MOST_DELETED {
                    look.found.truncated = true;
                    return Ok(look.found);
                }
                let started = Instant::now();
                let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
                look.batch(folder, batch).await?;
                if !rest(started, stop).await {
                    return Err(Error::Stopping);
                }
            }
        }
        Ok(look.found)
    }
}

impl App {
    /// Notes in the audit log that somebody deletes blobs which no row names.
    async fn note_orphans(
        &self,
        by: &Caller,
        folder: &str,
        orphans: &[Listed],
        first: &Listed,
    ) -> Result<(), Error> {
        let mut note = by.call.note();
        note.resource = format!("blobs/{folder}");
        let bytes: u64 = orphans.iter().map(|listed| listed.size).sum();
        note.inputs = [
            ("objects".to_owned(), orphans.len().to_string()),
            ("bytes".to_owned(), bytes.to_string()),
            ("first".to_owned(), first.key.clone()),
        ]
        .into();
        let event = NewAuditEvent {
            note,
            project: None,
            before: None,
            outcome: Outcome::Done,
            reason: String::new(),
        };
        Ok(self.store.add_audit_event(event).await?)
    }
}

impl Look<'_> {
    async fn batch(&mut self, folder: &str, batch: Vec<Listed>) -> Result<(), Error> {
        self.found.looked += batch.len() as u64;
        let old = batch.into_iter().filter(|it| it.modified < self.before);
        let old: Vec<Listed> = old.collect();
        let keys: Vec<String> = old.iter().map(|listed| listed.key.clone()).collect();
        let unnamed = match folder {
            CHECK => keys,
            _ => self.app.store.keeper().unnamed_blobs(&keys).await?,
        };
        let orphans = old.into_iter().filter(|it| unnamed.contains(&it.key));
        let orphans: Vec<Listed> = orphans.collect();
        if let (Some(by), Some(first)) = (self.by, orphans.first()) {
            // Before they are gone: where it can not be noted, they stay.
            self.app.note_orphans(by, folder, &orphans, first).await?;
        }
        for listed in orphans {
            if self.by.is_some() {
                self.app.blobs.delete(&listed.key).await?;
                metrics::counter!(crate::metrics::ORPHANS).increment(1);
            }
            self.found.orphans += 1;
            self.found.bytes += listed.size;
            if self.found.keys.len() < MOST_TOLD {
                self.found.keys.push(listed.key);
            }
        }
        Ok(())
    }
}
