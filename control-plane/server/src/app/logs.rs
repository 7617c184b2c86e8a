//! Reading logs: what is durable from the store, what is newer from this process, in order and
//! without a hole that is not shown.

mod begin;
mod damage;
mod deleted;
mod grep;
mod stored;
mod window;

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use muster_core::id::{AttemptId, ExecutionId, ProjectId};
use muster_proto::v1::{LogChunk, LogMatch};
use muster_storage::{execution::LogSummary, log::Segment};
use tokio::sync::{broadcast, mpsc};

use super::{Access, App, Caller, Error, audit::Reading};
use crate::link::segment;
use grep::Matcher;
use window::Cut;

pub(crate) use damage::finding;
pub(crate) use grep::Search;
pub(crate) use stored::{fetch, groups};
pub(crate) use window::{Window, count_lines, millis};

/// Segments that are looked up at once.
const PAGE: u32 = 256;
/// How often to look at the store without a word from anybody: another replica may write.
const POLL: Duration = Duration::from_millis(500);
/// Pieces that wait for a slow reader; reading goes on when it has taken them.
const AHEAD: usize = 4;
/// How often segments are looked up again whose blobs were gone, before that is an error.
const MOST_GONE: u32 = 3;

/// What a reader wants.
#[derive(Debug)]
pub(crate) struct LogRange {
    /// What of the log.
    pub(crate) window: Window,
    /// The last lines only, of what the window leaves.
    pub(crate) tail: Option<i64>,
    /// Only lines that match.
    pub(crate) search: Option<Search>,
    /// Stay until the log ends.
    pub(crate) follow: bool,
    /// Bytes by which one that follows may be behind before some are skipped.
    pub(crate) skip_behind: Option<i64>,
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
    /// A line that a search has found.
    Match(LogMatch),
    /// Bytes that are there and were passed over.
    Skip {
        /// First byte that was passed over.
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
    window: Window,
    tail: Option<i64>,
    matcher: Option<Matcher>,
    skip_behind: Option<i64>,
    /// It has found its place in the log of its attempt.
    begun: bool,
    /// What was durable when it began; one that has come there has caught up.
    reach: Option<i64>,
    /// The next byte expected.
    at: i64,
    /// Lines that have ended before it, as far as somebody asks.
    lines: i64,
    sender: mpsc::Sender<Result<LogItem, Error>>,
}

/// Why reading ends before the end of the log.
enum Stop {
    /// The caller does not read any more.
    Gone,
    /// The caller has all that it wanted.
    Done,
}

/// Segments are gone that were there: replaced, deleted or lost.
fn gone() -> Error {
    Error::NotFound("the log is gone".to_owned())
}

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
        self.note_reading(caller, &project, &found, Reading::Log, None);
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut reader = Reader {
            app: Arc::clone(self),
            project: project.id,
            execution: found.id,
            attempt: None,
            epoch: range.epoch,
            at: range.window.offset,
            window: range.window,
            tail: range.tail,
            matcher: range.search.map(Matcher::new),
            skip_behind: range.skip_behind,
            begun: false,
            reach: None,
            lines: 0,
            sender,
        };
        self.tasks.spawn(async move {
            if let Err(error) = reader.run(range.follow).await {
                let error = reader.explain(error).await;
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
            if let Some(at) = head.deleted {
                return Err(deleted::by_retention(at));
            }
            if let Some(attempt) = head.attempt {
                self.turn_to(attempt).await?;
                let live = follow.then(|| self.app.hub.watch_log(attempt));
                self.reach.get_or_insert(head.summary.size);
                if self.catch_up(attempt).await?.is_err() {
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
                let _over = self.finish_search().await;
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

    /// Finds the place at which to begin in the log of an attempt. One that follows another was
    /// queued again: its log is wanted from its beginning.
    async fn turn_to(&mut self, attempt: AttemptId) -> Result<(), Error> {
        if self.attempt.is_some_and(|known| known != attempt) {
            self.window.offset = 0;
            (self.at, self.lines, self.begun) = (0, 0, true);
        }
        self.attempt = Some(attempt);
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        let is_placed = self.window.start_time.is_some() || self.tail.is_some();
        if !is_placed && !self.counts_lines() {
            return Ok(());
        }
        let layout = match self.tail {
            Some(wanted) => self.find_tail(attempt, wanted).await?,
            None => self.app.store.logs(self.project).layout(attempt).await?,
        };
        let begin = begin::begin(&layout, &self.window);
        (self.at, self.lines) = (begin.at, begin.lines);
        Ok(())
    }

    /// Finds where the last lines begin; returns the segments of the log.
    async fn find_tail(&mut self, attempt: AttemptId, wanted: i64) -> Result<Vec<Segment>, Error> {
        let mut gone = 0;
        loop {
            let layout = self.app.store.logs(self.project).layout(attempt).await?;
            let is_gone = || self.sender.is_closed();
            let tail = begin::tail(&self.app, attempt, &layout, &self.window, wanted, &is_gone);
            match tail.await? {
                Ok(tail) => {
                    self.window.offset = self.window.offset.max(tail);
                    return Ok(layout);
                }
                Err((_, segment::Error::Gone)) if gone < MOST_GONE => {
                    gone += 1;
                    tokio::time::sleep(stored::AGAIN).await;
                }
                Err((segment, error)) => {
                    self.refuse_deleted().await?;
                    return Err(damage::error(&layout, &segment, &error));
                }
            }
        }
    }

    const fn counts_lines(&self) -> bool {
        self.matcher.is_some() || self.window.counts_lines()
    }

    /// Sends what is durable, again where its blobs were replaced meanwhile.
    async fn catch_up(&mut self, attempt: AttemptId) -> Result<Result<(), Stop>, Error> {
        let mut gone = 0;
        loop {
            match self.stored(attempt).await {
                Err(Error::NotFound(_)) if gone < MOST_GONE => {
                    gone += 1;
                    tokio::time::sleep(stored::AGAIN).await;
                }
                Err(Error::NotFound(_)) => return Err(self.gone(attempt).await?),
                ended => return ended,
            }
        }
    }

    /// What is told when the next bytes are in the index, and not in the object store.
    async fn gone(&self, attempt: AttemptId) -> Result<Error, Error> {
        self.refuse_deleted().await?;
        let logs = self.app.store.logs(self.project);
        let segments = logs.segments(attempt, self.at, 1).await?;
        match segments.first() {
            Some(segment) => self.damaged(attempt, segment, &segment::Error::Gone).await,
            None => Ok(gone()),
        }
    }

    /// What is told of a segment that is not what was stored.
    async fn damaged(
        &self,
        attempt: AttemptId,
        segment: &Segment,
        error: &segment::Error,
    ) -> Result<Error, Error> {
        let layout = self.app.store.logs(self.project).layout(attempt).await?;
        Ok(damage::error(&layout, segment, error))
    }

    /// Whether this reader has once caught up, and is too far behind now.
    fn is_too_slow(&self, durable: i64) -> bool {
        let caught_up = self.reach.is_some_and(|reach| self.at >= reach);
        let behind = durable - self.at;
        self.skip_behind
            .is_some_and(|most| caught_up && behind > most)
    }

    /// Passes over bytes, and tells it.
    async fn skip(&mut self, attempt: AttemptId) -> Result<(), Error> {
        let layout = self.app.store.logs(self.project).layout(attempt).await?;
        let lines = layout.iter().rev().skip(1);
        if let Some(last) = layout.last().filter(|last| last.start > self.at) {
            let (offset, size) = (self.at, last.start - self.at);
            (self.at, self.lines) = (last.start, lines.map(|segment| segment.lines).sum());
            // One that is gone is seen with the next piece.
            let _gone = self.sender.send(Ok(LogItem::Skip { offset, size })).await;
        }
        Ok(())
    }

    /// Sends what is durable.
    async fn stored(&mut self, attempt: AttemptId) -> Result<Result<(), Stop>, Error> {
        loop {
            let logs = self.app.store.logs(self.project);
            let segments = logs.segments(attempt, self.at, PAGE).await?;
            let Some(last) = segments.last() else {
                return Ok(Ok(()));
            };
            if segments.len() > 1 && self.is_too_slow(last.end) {
                self.skip(attempt).await?;
                continue;
            }
            let mut reads = stored::read(&self.app, attempt, segments);
            while let Some(read) = reads.next().await {
                // One that selects or searches may send nothing for long.
                if self.sender.is_closed() || self.app.link.drain.is_cancelled() {
                    return Ok(Err(Stop::Gone));
                }
                for (segment, read) in read? {
                    let chunks = match read {
                        Ok(chunks) => chunks,
                        Err(segment::Error::Gone) => return Err(gone()),
                        Err(error) => return Err(self.damaged(attempt, &segment, &error).await?),
                    };
                    for chunk in chunks {
                        if let Err(stop) = self.chunk(chunk).await {
                            return Ok(Err(stop));
                        }
                    }
                }
            }
        }
    }

    /// Sends what arrives, until it is time to look at the store again.
    async fn live(&mut self, mut live: broadcast::Receiver<LogChunk>) -> Result<(), Stop> {
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
                () = self.sender.closed() => return Err(Stop::Gone),
                () = self.app.link.drain.cancelled() => return Ok(()),
            }
        }
    }

    /// Takes the part of a chunk that was not seen yet, and sends what of it is wanted.
    async fn chunk(&mut self, mut chunk: LogChunk) -> Result<(), Stop> {
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
            self.send(gap).await?;
        } else if let Ok(known) = usize::try_from(self.at - chunk.offset) {
            chunk.data = chunk.data.slice(known..);
            chunk.offset = self.at;
        }
        let lines = self.lines;
        if self.counts_lines() {
            self.lines += count_lines(&chunk.data);
        }
        self.at = end;
        match self.window.cut(chunk, lines) {
            Cut::Nothing => Ok(()),
            Cut::Part(part, lines) => self.wanted(part, lines).await,
            Cut::Last(part, lines) => {
                self.wanted(part, lines).await?;
                self.finish_search().await?;
                Err(Stop::Done)
            }
            Cut::Over => {
                self.finish_search().await?;
                Err(Stop::Done)
            }
        }
    }

    /// Sends a chunk, or what a search finds in it.
    async fn wanted(&mut self, chunk: LogChunk, lines: i64) -> Result<(), Stop> {
        if chunk.data.is_empty() || !self.window.selects(&chunk) {
            return Ok(());
        }
        let Some(mut search) = self.matcher.take() else {
            return self.send(LogItem::Chunk(chunk)).await;
        };
        let Ok(turn) = self.app.link.searching.acquire().await else {
            return Err(Stop::Gone);
        };
        // Not among those who serve: an expression may take its time.
        let searched = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            search.push(&chunk, lines, &mut found);
            (search, found)
        });
        let Ok((search, found)) = searched.await else {
            return Err(Stop::Gone);
        };
        let done = search.is_done();
        self.matcher = Some(search);
        drop(turn);
        self.send_found(found).await?;
        if done || self.sender.is_closed() {
            return Err(Stop::Done);
        }
        Ok(())
    }

    /// Sends what a search finds in the last line, which has no end.
    async fn finish_search(&mut self) -> Result<(), Stop> {
        let mut found = Vec::new();
        if let Some(matcher) = &mut self.matcher {
            matcher.finish(&mut found);
        }
        self.send_found(found).await
    }

    async fn send_found(&self, found: Vec<LogMatch>) -> Result<(), Stop> {
        for line in found {
            self.send(LogItem::Match(line)).await?;
        }
        Ok(())
    }

    async fn send(&self, item: LogItem) -> Result<(), Stop> {
        let sent = self.sender.send(Ok(item)).await;
        sent.map_err(|_refused| Stop::Gone)
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
        if self.finish_search().await.is_err() {
            return Ok(());
        }
        if summary.size > self.at {
            self.refuse_deleted().await?;
        }
        let missing = (summary.size > self.at).then(|| LogItem::Gap {
            offset: self.at,
            size: summary.size - self.at,
        });
        for item in missing.into_iter().chain([LogItem::End(summary)]) {
            if self.send(item).await.is_err() {
                tracing::debug!("the reader left before the end");
            }
        }
        Ok(())
    }
}
