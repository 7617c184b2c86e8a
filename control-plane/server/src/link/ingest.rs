//! Taking logs in: bytes in order, at once to live readers, soon to the blob store, with a
//! running SHA-256. What is acknowledged is durable: blob first, then the row that names it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use muster_core::{
    execution::Lease,
    id::{AgentId, AttemptId, ExecutionId, ProjectId},
};
use muster_proto::v1::LogChunk;
use muster_storage::{
    self as storage,
    attempt::Status,
    execution::LogSummary,
    log::Segment,
    work::{Appended, DurableLog, NewSegment},
};
use sha2::{Digest as _, Sha256};

use super::{
    pace::Pace,
    segment::{self, Packing},
};
use crate::app::{App, Error, fetch_log, log_finding, log_groups, log_millis};

/// Bytes at which a segment is written, when they come in less than its time.
const SEGMENT: usize = 2 << 20;
/// What a chunk takes beside its data and its step, in bytes.
const OVERHEAD: usize = 32;
/// Most data of one chunk, in bytes: what readers may have to take in one message.
const MAX_DATA: usize = 64 << 10;
/// Longest step of a chunk, in bytes.
const MAX_STEP: usize = 1024;
/// Log that is taken whatever the limit is: 64 GiB. It is the conductor that cuts, by the limit that its
/// attempt was given; this is for agents that know no end.
const LONGEST: i64 = 64 << 30;
/// Bytes of remarks that may stand behind the longest log.
const REMARKS: i64 = 16 << 20;
/// Segments that are read at once when a digest is computed again.
const PAGE: u32 = 100;

/// The logs that are being written now.
#[derive(Debug, Default)]
pub(crate) struct Ingests(Mutex<HashMap<AttemptId, Arc<tokio::sync::Mutex<Ingest>>>>);

/// One log that is being written.
#[derive(Debug)]
pub(crate) struct Ingest {
    lease: Lease,
    agent: AgentId,
    /// Every byte below is durable.
    durable: i64,
    /// Every byte below has arrived.
    end: i64,
    /// Longest log; some remarks of the conductor may stand behind it.
    limit: i64,
    /// Segments that were stored by this process.
    segments: u64,
    waiting: Vec<LogChunk>,
    waiting_bytes: usize,
    /// Of the durable bytes.
    durable_digest: Sha256,
    /// Of all bytes that have arrived.
    digest: Sha256,
    /// What was found damaged of what was stored before; that is in no digest.
    damage: Option<String>,
}

impl Ingests {
    fn get(&self, attempt: AttemptId) -> Option<Arc<tokio::sync::Mutex<Ingest>>> {
        self.lock().get(&attempt).map(Arc::clone)
    }

    fn put(&self, attempt: AttemptId, ingest: Ingest) -> Arc<tokio::sync::Mutex<Ingest>> {
        let ingest = Arc::new(tokio::sync::Mutex::new(ingest));
        Arc::clone(self.lock().entry(attempt).or_insert(ingest))
    }

    fn remove(&self, attempt: AttemptId) -> Option<Arc<tokio::sync::Mutex<Ingest>>> {
        self.lock().remove(&attempt)
    }

    /// Those that no stream writes now.
    fn idle(&self) -> Vec<(AttemptId, AgentId)> {
        let all = self.lock();
        let idle = all
            .iter()
            .filter(|(_, ingest)| Arc::strong_count(ingest) == 1)
            .filter_map(|(attempt, ingest)| Some((*attempt, ingest.try_lock().ok()?.agent)));
        idle.collect()
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<AttemptId, Arc<tokio::sync::Mutex<Ingest>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ingest {
    /// Every byte below is durable.
    pub(crate) const fn durable(&self) -> i64 {
        self.durable
    }

    /// Whether a segment is full.
    pub(crate) const fn is_full(&self) -> bool {
        self.waiting_bytes >= SEGMENT
    }

    /// Whether anything waits to become durable.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.waiting_bytes > 0
    }

    /// Forgets what is not durable: a new stream begins at the durable offset.
    fn rewind(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.end = self.durable;
        self.digest = self.durable_digest.clone();
    }

    /// Takes the next bytes. A repeat is dropped, a gap refused with the wanted offset.
    pub(crate) fn take(&mut self, mut chunk: LogChunk, app: &App) -> Result<(), Error> {
        if chunk.data.len() > MAX_DATA || chunk.step.len() > MAX_STEP {
            return Err(Error::invalid(
                "chunks",
                format!("at most {MAX_DATA} bytes of data and {MAX_STEP} of step are allowed"),
            ));
        }
        let size = i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
        if chunk.offset < 0 || chunk.offset > self.end {
            return Err(Error::invalid(
                "chunks.offset",
                format!("is {}, the next byte wanted is {}", chunk.offset, self.end),
            ));
        }
        if chunk.offset.saturating_add(size) > self.limit {
            let limit = self.limit;
            let text = format!("the log is longer than {limit} bytes, which the project allows");
            return Err(Error::LimitReached(text));
        }
        let known = self.end - chunk.offset;
        if known >= size {
            return Ok(());
        }
        if let Ok(known) = usize::try_from(known)
            && known > 0
        {
            chunk.data = chunk.data.slice(known..);
            chunk.offset = self.end;
        }
        self.digest.update(&chunk.data);
        self.end += i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
        self.waiting_bytes += chunk.data.len() + chunk.step.len() + OVERHEAD;
        app.hub.log_chunk(self.lease.attempt, &chunk);
        self.waiting.push(chunk);
        Ok(())
    }

    /// Makes durable what waits.
    pub(crate) async fn flush(&mut self, app: &App) -> Result<(), Error> {
        if !self.is_waiting() {
            return Ok(());
        }
        let packing = if self.is_full() {
            Packing::Fast
        } else {
            Packing::Well
        };
        let packed = segment::encode(self.lease.attempt, &self.waiting, packing)
            .map_err(|error| Error::Internal(error.into()))?;
        let key = app.blobs.key(&format!("logs/{}", self.lease.attempt));
        let blob_size = i64::try_from(packed.len()).unwrap_or(i64::MAX);
        app.blobs.put(&key, packed).await?;
        let new = NewSegment {
            lease: self.lease,
            start: self.durable,
            end: self.end,
            blob: key.clone(),
            blob_size,
            lines: segment::lines(&self.waiting),
            first_time: time(self.waiting.first()),
            last_time: time(self.waiting.last()),
        };
        let appended = app.store.agent(self.agent).append_log(&new).await;
        if appended.as_ref().is_err_and(storage::Error::is_retryable) {
            // No row names it, and the bytes come again under another key.
            drop_blob(app, &key).await;
        }
        match appended? {
            Appended::Stored { durable } => {
                let bytes = u64::try_from(self.end - self.durable).unwrap_or(0);
                metrics::counter!(crate::metrics::LOG_BYTES).increment(bytes);
                self.durable = durable;
                self.segments += 1;
                self.durable_digest = self.digest.clone();
                self.waiting.clear();
                self.waiting_bytes = 0;
                Ok(())
            }
            Appended::Elsewhere { .. } => {
                drop_blob(app, &key).await;
                drop(app.link.ingests.remove(self.lease.attempt));
                Err(Error::Conflict(
                    "another stream has written this log; open a new one".to_owned(),
                ))
            }
            Appended::Refused => {
                drop_blob(app, &key).await;
                drop(app.link.ingests.remove(self.lease.attempt));
                Err(Error::LeaseLost {
                    epoch: self.lease.epoch,
                })
            }
        }
    }
}

fn time(chunk: Option<&LogChunk>) -> i64 {
    chunk.map_or(0, |chunk| log_millis(chunk.time.as_ref()))
}

/// Deletes a blob that no row names.
pub(super) async fn drop_blob(app: &App, key: &str) {
    if let Err(error) = app.blobs.delete(key).await {
        tracing::warn!(key, %error, "an unused blob stays until the sweep");
    }
}

impl App {
    /// Opens the log of an attempt for a new stream, which must go on at the durable offset. What is
    /// below `first` is not to be had any more.
    pub(crate) async fn open_log(
        &self,
        agent: AgentId,
        lease: Lease,
        first: i64,
    ) -> Result<(Arc<tokio::sync::Mutex<Ingest>>, Pace), Error> {
        let work = self.store.agent(agent);
        let mut attempt = work.attempt(lease.attempt).await?;
        if attempt.epoch != lease.epoch || attempt.status != Status::Live {
            return Err(Error::LeaseLost { epoch: lease.epoch });
        }
        if first > attempt.log_offset {
            tracing::warn!(attempt = %lease.attempt, durable = attempt.log_offset, first, "a part of a log is lost");
            match work.skip_log(lease, first).await? {
                Appended::Stored { durable } | Appended::Elsewhere { durable } => {
                    attempt.log_offset = durable;
                }
                Appended::Refused => return Err(Error::LeaseLost { epoch: lease.epoch }),
            }
        }
        let limits = self
            .store
            .projects()
            .get(attempt.project)
            .await?
            .settings
            .logs;
        let pace = self
            .link
            .paces
            .of(attempt.project, limits, tokio::time::Instant::now());
        let max_log = limits.max_size.unwrap_or(self.config.max_log);
        if let Some(known) = self.link.ingests.get(lease.attempt) {
            let mut ingest = known.lock().await;
            if ingest.durable == attempt.log_offset {
                ingest.rewind();
                drop(ingest);
                return Ok((known, pace));
            }
            drop(ingest);
            drop(self.link.ingests.remove(lease.attempt));
        }
        // Where something is damaged the log goes on; its end finds that it is not complete.
        let (digest, damage) = self
            .stored_digest(attempt.project, lease.attempt, attempt.log_offset)
            .await?;
        let ingest = Ingest {
            lease,
            agent,
            durable: attempt.log_offset,
            end: attempt.log_offset,
            // The conductor keeps to the limit that it was told, which may have been another one.
            limit: max_log.saturating_add(REMARKS).max(LONGEST),
            segments: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            durable_digest: digest.clone(),
            digest,
            damage,
        };
        Ok((self.link.ingests.put(lease.attempt, ingest), pace))
    }

    /// The SHA-256 of what is stored below an offset. What is not what was stored is not in it, and the
    /// first such bytes are told.
    async fn stored_digest(
        &self,
        project: ProjectId,
        attempt: AttemptId,
        below: i64,
    ) -> Result<(Sha256, Option<String>), Error> {
        let mut digest = Sha256::new();
        let mut damage = None;
        let mut at = 0;
        'log: while at < below {
            let segments = self.store.logs(project).segments(attempt, at, PAGE).await?;
            if segments.is_empty() {
                break;
            }
            for group in log_groups(segments) {
                for (stored, read) in fetch_log(self, attempt, group).await? {
                    match read {
                        Ok(chunks) => {
                            for chunk in chunks {
                                digest.update(&chunk.data);
                            }
                        }
                        Err(segment::Error::Gone)
                            if !self.is_lost(project, attempt, &stored).await? =>
                        {
                            continue 'log;
                        }
                        // A newer server can read it.
                        Err(error @ segment::Error::Format) => {
                            return Err(Error::Internal(error.into()));
                        }
                        Err(error) => {
                            damage = damage.or_else(|| Some(log_finding(&stored, &error)));
                        }
                    }
                    at = stored.end;
                }
            }
        }
        if let Some(finding) = &damage {
            tracing::error!(%attempt, finding, "the object store has lost or changed a part of a log");
        }
        Ok((digest, damage))
    }

    /// Whether a segment whose blob is gone is lost: it is one of the log still, and was not replaced.
    ///
    /// # Errors
    ///
    /// When the whole object store can not be used: then nothing is known of the segment.
    pub(super) async fn is_lost(
        &self,
        project: ProjectId,
        attempt: AttemptId,
        segment: &Segment,
    ) -> Result<bool, Error> {
        let logs = self.store.logs(project);
        let now = logs.segments(attempt, segment.start, 1).await?;
        let is_part = now.first().is_some_and(|now| now.blob == segment.blob);
        if is_part {
            self.blobs.check().await?;
        }
        Ok(is_part)
    }

    /// Makes durable what waits of a log, if this process takes it in. Returns the log, if this
    /// process knows all of it: one of which it took nothing may be empty.
    pub(crate) async fn flush_log(&self, lease: Lease) -> Option<DurableLog> {
        let Some(known) = self.link.ingests.get(lease.attempt) else {
            return Some(DurableLog {
                size: 0,
                sha256: hexadecimal(&Sha256::digest(b"")),
            });
        };
        let mut ingest = known.lock().await;
        if ingest.lease != lease {
            return None;
        }
        if let Err(error) = ingest.flush(self).await {
            tracing::warn!(attempt = %lease.attempt, %error, "the end of a log was not stored");
            return None;
        }
        Some(DurableLog {
            size: ingest.durable,
            sha256: hexadecimal(&ingest.durable_digest.clone().finalize()),
        })
    }

    /// Does what follows when nothing is added to a log any more.
    pub(crate) fn log_ended(self: &Arc<Self>, attempt: AttemptId, execution: ExecutionId) {
        let known = self.link.ingests.remove(attempt);
        // Of one that another server took in this one knows nothing: its sweep looks.
        let many = known.is_some_and(|known| known.try_lock().is_ok_and(|log| log.segments > 1));
        if many {
            self.seal_log_later(attempt);
        }
        self.hub.log_ended(attempt);
        self.execution_changed(execution);
    }

    /// Ends the log of an attempt soon, on a task of its own.
    pub(crate) fn finish_log_later(self: &Arc<Self>, attempt: AttemptId) {
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(error) = app.finish_log(attempt).await {
                tracing::warn!(%attempt, %error, "the log is finished later, by the sweep");
            }
        });
    }

    /// Ends the log of an attempt whose result is committed: compares the conductor's length and
    /// SHA-256 with what is stored. May be done again.
    pub(crate) async fn finish_log(self: &Arc<Self>, attempt: AttemptId) -> Result<(), Error> {
        let stored = self.store.queue().attempt(attempt).await?;
        let durable = stored.log_offset;
        let known = match self.link.ingests.get(attempt) {
            Some(known) => {
                let ingest = known.lock().await;
                (ingest.durable == durable)
                    .then(|| (ingest.durable_digest.clone(), ingest.damage.clone()))
            }
            None => None,
        };
        let (digest, damage) = match known {
            Some(known) => known,
            None => self.stored_digest(stored.project, attempt, durable).await?,
        };
        let own = hexadecimal(&digest.finalize());
        let summary = match &stored.told_log {
            Some(told) => LogSummary {
                size: durable,
                sha256: Some(told.sha256.clone()),
                complete: told.size == durable && told.sha256 == own,
            },
            None => LogSummary {
                size: durable,
                sha256: None,
                complete: false,
            },
        };
        if stored.told_log.is_some() && !summary.complete {
            tracing::warn!(%attempt, durable, "the log is not complete");
        }
        let queue = self.store.queue();
        let execution = queue.finish_log(attempt, &summary).await?;
        if let Some(finding) = damage {
            queue.spoil_log(attempt, &finding).await?;
        }
        self.log_ended(attempt, execution.id);
        Ok(())
    }

    /// Forgets logs that another replica has ended.
    pub(crate) async fn prune_ingests(&self) -> Result<(), Error> {
        for (attempt, agent) in self.link.ingests.idle() {
            match self.store.agent(agent).attempt(attempt).await {
                Ok(stored) if stored.status == Status::Live => {}
                Ok(_) => drop(self.link.ingests.remove(attempt)),
                Err(error) if error.is_not_found() => drop(self.link.ingests.remove(attempt)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string does not fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}
