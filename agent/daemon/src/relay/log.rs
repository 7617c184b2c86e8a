//! The way of a log to the server. Nothing is kept here: the conductor holds every byte until the
//! server has it, and sends it again on a new connection.

use std::{io, sync::Arc, time::Duration};

use muster_proto::{
    runner::v1::Log,
    v1::{LogChunk, StreamLogRequest, StreamLogResponse},
};
use tokio::{
    sync::mpsc::{self, error::TryRecvError},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{
    attempt::Attempt,
    backoff::Backoff,
    context::{Context, Uplink},
    convert,
};

/// Most bytes in one request.
const BATCH: usize = 256 << 10;
/// Requests that wait for the connection.
const OUTBOX: usize = 2;
/// How long the server may take to open a stream.
const OPEN_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to store the last bytes of a log.
const FLUSH_LIMIT: Duration = Duration::from_secs(120);

/// Sends pieces to the server until there are no more and all are durable.
///
/// An error means that pieces are lost which were taken already: the control connection has to
/// begin again from the durable offset.
pub(super) async fn relay(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    mut pieces: mpsc::Receiver<Log>,
) -> io::Result<()> {
    let Some(mut first) = pieces.recv().await else {
        return Ok(());
    };
    loop {
        let (outbox, responses) = open(context, attempt).await;
        let durable = attempt.durable_offset();
        if first.offset > durable {
            return Err(io::Error::other(
                "the log has to begin again below this piece",
            ));
        }
        match pump(attempt, first, &mut pieces, outbox, responses).await? {
            None => return Ok(()),
            // The stream broke with nothing on it: only the next piece waits.
            Some(next) => first = next,
        }
    }
}

/// Opens a stream; tries for as long as it takes.
async fn open(
    context: &Context,
    attempt: &Attempt,
) -> (mpsc::Sender<StreamLogRequest>, Streaming<StreamLogResponse>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    let mut uplinks = context.uplink.subscribe();
    loop {
        let uplink = uplinks.borrow_and_update().clone();
        if let Some(uplink) = uplink {
            match timeout(OPEN_LIMIT, try_open(uplink, attempt)).await {
                Ok(Ok(opened)) => return opened,
                Ok(Err(status)) => {
                    tracing::debug!(attempt = %attempt.id, code = ?status.code(), message = status.message(), "cannot open a log stream yet");
                }
                Err(_elapsed) => tracing::debug!(attempt = %attempt.id, "no log stream in time"),
            }
        }
        tokio::select! {
            () = backoff.wait() => {}
            Ok(()) = uplinks.changed() => {}
        }
    }
}

async fn try_open(
    mut uplink: Uplink,
    attempt: &Attempt,
) -> Result<(mpsc::Sender<StreamLogRequest>, Streaming<StreamLogResponse>), tonic::Status> {
    let (outbox, requests) = mpsc::channel(OUTBOX);
    // There is room for the first one.
    let hello = StreamLogRequest {
        first_offset: convert::signed(attempt.log_start()),
        ..request(attempt, Vec::new())
    };
    if outbox.try_send(hello).is_err() {
        return Err(tonic::Status::unavailable(
            "the stream ended before it began",
        ));
    }
    let mut responses = uplink
        .stream_log(ReceiverStream::new(requests))
        .await?
        .into_inner();
    let first = responses
        .message()
        .await?
        .ok_or_else(|| tonic::Status::unavailable("the server ended the log stream"))?;
    attempt.begin_log(convert::unsigned(first.durable_offset));
    Ok((outbox, responses))
}

fn request(attempt: &Attempt, chunks: Vec<LogChunk>) -> StreamLogRequest {
    StreamLogRequest {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
        chunks,
        first_offset: 0,
    }
}

/// Moves pieces until the stream breaks or they end. `Ok(Some(piece))` when the stream broke
/// while everything before `piece` was durable.
async fn pump(
    attempt: &Attempt,
    first: Log,
    pieces: &mut mpsc::Receiver<Log>,
    outbox: mpsc::Sender<StreamLogRequest>,
    mut responses: Streaming<StreamLogResponse>,
) -> io::Result<Option<Log>> {
    let mut end = first.offset;
    let mut waiting = Some(first);
    let mut outbox = Some(outbox);
    loop {
        let room = outbox.clone();
        tokio::select! {
            response = responses.message() => match response {
                Ok(Some(response)) => attempt.durable(convert::unsigned(response.durable_offset)),
                Ok(None) | Err(_) => break,
            },
            permit = reserve(room), if waiting.is_some() => {
                let (Some(piece), Some(permit)) = (waiting.take(), permit) else { break };
                let (batch, last) = batch(piece, pieces);
                end = last;
                permit.send(request(attempt, batch));
            }
            piece = pieces.recv(), if waiting.is_none() && outbox.is_some() => match piece {
                Some(piece) => waiting = Some(piece),
                // The end of the requests makes the server store what it holds.
                None => outbox = None,
            },
            () = tokio::time::sleep(FLUSH_LIMIT), if outbox.is_none() => break,
        }
    }
    if attempt.durable_offset() < end {
        return Err(io::Error::other("the log stream broke"));
    }
    Ok(waiting)
}

async fn reserve(
    outbox: Option<mpsc::Sender<StreamLogRequest>>,
) -> Option<mpsc::OwnedPermit<StreamLogRequest>> {
    outbox?.reserve_owned().await.ok()
}

/// As many pieces as are there and fit in one request, and where they end.
fn batch(first: Log, pieces: &mut mpsc::Receiver<Log>) -> (Vec<LogChunk>, u64) {
    let mut size = 0;
    let mut end = 0;
    let mut chunks = Vec::new();
    let mut next = Some(first);
    while let Some(piece) = next {
        size += piece.data.len();
        end = piece.offset.saturating_add(piece.data.len() as u64);
        chunks.push(convert::log_chunk(piece));
        next = match pieces.try_recv() {
            Ok(piece) if size < BATCH => Some(piece),
            Ok(piece) => {
                end = piece.offset.saturating_add(piece.data.len() as u64);
                chunks.push(convert::log_chunk(piece));
                None
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        };
    }
    (chunks, end)
}
