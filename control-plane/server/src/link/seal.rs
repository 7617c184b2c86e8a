//! Sealing logs: one that has ended in many segments becomes one object. Segments are checked once
//! more on the way, become parts of one size, and what was packed fast is packed well.
//!
//! What the rows say of it is `muster_storage::log`.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use muster_core::id::AttemptId;
use muster_proto::v1::LogChunk;
use muster_storage::{
    blob::BlobWriter,
    log::{NewSealed, Sealed, Segment},
};
use prost::Message;
use sha2::{Digest as _, Sha256};

use super::{
    ingest::{self, hexadecimal},
    segment::{self, Packing},
};
use crate::app::{App, Error, log_finding, log_millis};

/// Segments that are read ahead.
const AHEAD: usize = 8;
/// Bytes of a part of the object: what a reader of one line unpacks.
const SEGMENT: usize = 512 << 10;

/// An object that is being written.
struct Seal {
    attempt: AttemptId,
    writer: BlobWriter,
    key: String,
    written: i64,
    segments: Vec<Segment>,
    digest: Sha256,
    /// Chunks of the next part.
    waiting: Vec<LogChunk>,
    waiting_bytes: usize,
}

impl App {
    /// Seals a log on a task of its own.
    pub(crate) fn seal_log_later(self: &Arc<Self>, attempt: AttemptId) {
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(error) = app.seal_log(attempt).await {
                tracing::warn!(%attempt, %error, "the log is sealed later, by the sweep");
            }
        });
    }

    /// Puts the segments of a log that has ended into one object. May be done again.
    ///
    /// # Errors
    ///
    /// When the store or the database fails, or a segment is damaged; the log is read from its
    /// segments then, as before. One that is damaged does not count as complete any more.
    pub(crate) async fn seal_log(self: &Arc<Self>, attempt: AttemptId) -> Result<(), Error> {
        // A few at a time: it reads and writes all of a log.
        let Ok(_turn) = self.link.sealing.acquire().await else {
            return Ok(());
        };
        let stored = self.store.queue().attempt(attempt).await?;
        let layout = self.store.logs(stored.project).layout(attempt).await?;
        if !stored.log_ended || layout.len() < 2 || layout.iter().all(|s| s.blob == layout[0].blob)
        {
            return Ok(());
        }
        let key = self.blobs.key(&format!("logs/{attempt}"));
        let mut seal = Seal {
            attempt,
            writer: self.blobs.writer(&key),
            key,
            written: 0,
            segments: Vec::new(),
            digest: Sha256::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
        };
        let mut parts = futures::stream::iter(layout)
            .map(async |part| {
                let packed = self.blobs.get(&part.blob).await.map_err(Error::from);
                (part, packed)
            })
            .buffered(AHEAD);
        while let Some((part, packed)) = parts.next().await {
            let damage = match packed {
                Ok(packed) => seal.take(&part, &packed).await?.err(),
                Err(Error::NotFound(gone)) => {
                    if !self.is_lost(stored.project, attempt, &part).await? {
                        return Err(Error::NotFound(gone));
                    }
                    Some(segment::Error::Gone)
                }
                Err(error) => return Err(error),
            };
            match damage {
                None => {}
                // A newer server can read it.
                Some(error @ segment::Error::Format) => return Err(Error::Internal(error.into())),
                Some(error) => {
                    return Err(self
                        .log_damaged(attempt, log_finding(&part, &error))
                        .await?);
                }
            }
        }
        drop(parts);
        let new = seal.finish().await?;
        let is_told = stored
            .told_log
            .as_ref()
            .is_some_and(|told| told.size == stored.log_offset && told.sha256 == new.sha256);
        if stored.log_complete && !is_told {
            ingest::drop_blob(self, &new.blob).await;
            let finding = "the log is not what was stored: it has another SHA-256 than the one that the \
                           conductor computed";
            return Err(self.log_damaged(attempt, finding.to_owned()).await?);
        }
        if is_told && !stored.log_complete {
            // What was found damaged before is whole: the object store has it again.
            self.finish_log(attempt).await?;
        }
        match self.store.queue().seal_log(attempt, &new).await? {
            Sealed::Stored { discard } => {
                for blob in discard {
                    ingest::drop_blob(self, &blob).await;
                }
            }
            Sealed::Elsewhere => ingest::drop_blob(self, &new.blob).await,
        }
        Ok(())
    }

    /// Keeps that a log is not what was stored, for those who read it; returns it as an error.
    async fn log_damaged(
        self: &Arc<Self>,
        attempt: AttemptId,
        finding: String,
    ) -> Result<Error, Error> {
        if let Some(spoilt) = self.store.queue().spoil_log(attempt, &finding).await? {
            self.execution_changed(spoilt.id);
        }
        Ok(Error::DataLoss(finding))
    }
}

impl Seal {
    /// Takes the next segment, unless it is not what was stored.
    async fn take(
        &mut self,
        part: &Segment,
        packed: &Bytes,
    ) -> Result<Result<(), segment::Error>, Error> {
        let chunks = match segment::decode(self.attempt, part.start..part.end, packed) {
            Ok(chunks) => chunks,
            Err(error) => return Ok(Err(error)),
        };
        for chunk in &chunks {
            self.digest.update(&chunk.data);
        }
        let follows = self.waiting.last().is_none_or(|last| {
            let size = i64::try_from(last.data.len()).unwrap_or(i64::MAX);
            last.offset.saturating_add(size) == part.start
        });
        // A gap stands between segments, never inside of one.
        if !follows {
            self.flush().await?;
        }
        for chunk in chunks {
            // With what surrounds the data: chunks may be of a byte each.
            self.waiting_bytes += chunk.encoded_len();
            self.waiting.push(chunk);
            if self.waiting_bytes >= SEGMENT {
                self.flush().await?;
            }
        }
        Ok(Ok(()))
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let chunks = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.write(chunks).await
    }

    async fn write(&mut self, chunks: Vec<LogChunk>) -> Result<(), Error> {
        // Long work, beside the threads that serve calls.
        let attempt = self.attempt;
        let (chunks, packed) = tokio::task::spawn_blocking(move || {
            let packed = segment::encode(attempt, &chunks, Packing::Well);
            (chunks, packed)
        })
        .await
        .map_err(|error| Error::Internal(error.into()))?;
        let packed = packed.map_err(|error| Error::Internal(error.into()))?;
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(());
        };
        let blob_size = i64::try_from(packed.len()).unwrap_or(i64::MAX);
        let size = i64::try_from(last.data.len()).unwrap_or(i64::MAX);
        self.segments.push(Segment {
            start: first.offset,
            end: last.offset.saturating_add(size),
            blob: self.key.clone(),
            blob_start: self.written,
            blob_size,
            lines: segment::lines(&chunks),
            first_time: log_millis(first.time.as_ref()),
            last_time: log_millis(last.time.as_ref()),
        });
        self.written += blob_size;
        Ok(self.writer.write(packed).await?)
    }

    async fn finish(mut self) -> Result<NewSealed, Error> {
        self.flush().await?;
        let blob = self.writer.finish().await?;
        Ok(NewSealed {
            segments: self.segments,
            sha256: hexadecimal(&self.digest.finalize()),
            blob: blob.key,
            blob_size: self.written,
        })
    }
}
