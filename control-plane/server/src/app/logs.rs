//! Reading logs: what is durable from the store, what is newer from this process, in order and
//! without a hole that is not shown.

use std::{sync::Arc, time::Duration};

use muster_core::id::{AttemptId, ExecutionId, ProjectId};
use muster_proto::v1::LogChunk;
use muster_storage::execution::LogSummary;
use tokio::sync::{broadcast, mpsc};

use super::{Access, App, Caller, Error};
use crate::link::segment;

/// Segments that are looked up at once.
const PAGE: u32 = 64;
/// How often to look at the store without a word from anybody: another replica may write.
const POLL: Duration = Duration::from_millis(500);
/// Pieces that wait for a slow reader; reading goes on when it has taken them.
const AHEAD: usize = 4;

/// What a reader wants.
#[derive(Debug)]
pub(crate) struct LogRange {
    /// The first byte.
    pub(crate) offset: i64,
    /// Stay until the log ends.
    pub(crate) follow: bool,
    /// Only of this step and those below it; empty for all.
    pub(crate) step: String,
    /// Epoch of the attempt; none for the newest one, and for each that follows it.
    pub(crate) epoch: Option<i64>,
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum LogItem {
    /// Bytes in order.
    Chunk(LogChunk),
    /// Bytes that are not there and never will be.
    Gap {
        /// First missing byte.
        offset: i64,
        /// How many.
        size: i64,
    },
    /// The end.
    End(LogSummary),
}

/// A reader and where it is.
struct Reader {
    app: Arc<App>,
    project: ProjectId,
    execution: ExecutionId,
    attempt: Option<AttemptId>,
    epoch: Option<i64>,
    /// The next byte wanted.
    at: i64,
    step: String,
    sender: mpsc::Sender<Result<LogItem, Error>>,
}

/// The caller does not read any more.
struct Gone;

impl App {
    /// Reads the newest log of an execution, or that of one of its attempts.
    pub(crate) async fn read_log(
        self: &Arc<Self>,
        caller: &Caller,
        project: &str,
        name: &str,
        range: LogRange,
    ) -> Result<mpsc::Receiver<Result<LogItem, Error>>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let found = self.store.executions(project.id).find(name).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut reader = Reader {
            app: Arc::clone(self),
            project: project.id,
            execution: found.id,
            attempt: None,
            epoch: range.epoch,
            at: range.offset,
            step: range.step,
            sender,
        };
        self.tasks.spawn(async move {
            if let Err(error) = reader.run(range.follow).await {
                // The reader may be gone, which is no news.
                let _gone = reader.sender.send(Err(error)).await;
            }
        });
        Ok(receiver)
    }
}

impl Reader {
    async fn run(&mut self, follow: bool) -> Result<(), Error> {
        let mut changed = self.app.hub.watch_execution(self.execution);
        loop {
            let logs = self.app.store.logs(self.project);
            let head = match self.epoch {
                Some(epoch) => logs.head_of(self.execution, epoch).await?,
                None => logs.head(self.execution).await?,
            };
            if let Some(attempt) = head.attempt {
                if self.attempt.is_some_and(|known| known != attempt) {
                    // It was queued again: the new attempt's log begins anew.
                    self.at = 0;
                }
                self.attempt = Some(attempt);
                let live = follow.then(|| self.app.hub.watch_log(attempt));
                if self.stored(attempt).await?.is_err() {
                    return Ok(());
                }
                if let Some(live) = live
                    && !head.ended
                    && self.live(live).await.is_err()
                {
                    return Ok(());
                }
            }
            if head.ended {
                return self.end(head.summary).await;
            }
            if !follow {
                return Ok(());
            }
            if self.attempt.is_none() {
                tokio::select! {
                    _ = changed.changed() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = self.sender.closed() => return Ok(()),
                    () = self.app.link.drain.cancelled() => {}
                }
            }
            if self.app.link.drain.is_cancelled() {
                return Err(Error::Stopping);
            }
        }
    }

    /// Sends what is durable.
    async fn stored(&mut self, attempt: AttemptId) -> Result<Result<(), Gone>, Error> {
        loop {
            let segments = self
                .app
                .store
                .logs(self.project)
                .segments(attempt, self.at, PAGE)
                .await?;
            if segments.is_empty() {
                return Ok(Ok(()));
            }
            for stored in segments {
                let packed = self.app.blobs.get(&stored.blob).await?;
                let chunks = segment::decode(&packed).map_err(|e| Error::Internal(e.into()))?;
                for chunk in chunks {
                    if self.chunk(chunk).await.is_err() {
                        return Ok(Err(Gone));
                    }
                }
            }
        }
    }

    /// Sends what arrives, until it is time to look at the store again.
    async fn live(&mut self, mut live: broadcast::Receiver<LogChunk>) -> Result<(), Gone> {
        let look = tokio::time::sleep(POLL);
        tokio::pin!(look);
        loop {
            tokio::select! {
                chunk = live.recv() => match chunk {
                    // One that is ahead means a missed one: the store has it soon.
                    Ok(chunk) if chunk.offset > self.at => {
                        look.as_mut().await;
                        return Ok(());
                    }
                    Ok(chunk) => self.chunk(chunk).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => return Ok(()),
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                () = &mut look => return Ok(()),
                () = self.sender.closed() => return Err(Gone),
                () = self.app.link.drain.cancelled() => return Ok(()),
            }
        }
    }

    /// Sends the part of a chunk that was not sent yet.
    async fn chunk(&mut self, mut chunk: LogChunk) -> Result<(), Gone> {
        let size = i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
        let end = chunk.offset.saturating_add(size);
        if end <= self.at {
            return Ok(());
        }
        if chunk.offset > self.at {
            let gap = LogItem::Gap {
                offset: self.at,
                size: chunk.offset - self.at,
            };
            self.sender.send(Ok(gap)).await.map_err(|_refused| Gone)?;
        } else if let Ok(known) = usize::try_from(self.at - chunk.offset) {
            chunk.data = chunk.data.slice(known..);
            chunk.offset = self.at;
        }
        self.at = end;
        if !self.step.is_empty() && !belongs(&chunk.step, &self.step) {
            return Ok(());
        }
        self.sender
            .send(Ok(LogItem::Chunk(chunk)))
            .await
            .map_err(|_refused| Gone)
    }

    /// Sends the end, and before it what is missing to the length that the conductor told.
    async fn end(&mut self, mut summary: LogSummary) -> Result<(), Error> {
        if !summary.complete {
            let executions = self.app.store.executions(self.project);
            let told = executions
                .details(self.execution)
                .await?
                .attempts
                .into_iter()
                .find(|attempt| Some(attempt.id) == self.attempt)
                .and_then(|attempt| attempt.told_log);
            summary.size = told.map_or(summary.size, |told| told.size.max(summary.size));
        }
        let missing = (summary.size > self.at).then(|| LogItem::Gap {
            offset: self.at,
            size: summary.size - self.at,
        });
        for item in missing.into_iter().chain([LogItem::End(summary)]) {
            if self.sender.send(Ok(item)).await.is_err() {
                tracing::debug!("the reader left before the end");
            }
        }
        Ok(())
    }
}

/// Whether a chunk of `step` is of `wanted` or of a step below it.
fn belongs(step: &str, wanted: &str) -> bool {
    step.strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
