//! `muster.v1.LogService`.

use muster_proto::v1::{
    LogEnd, LogGap, LogSkip, ReadLogRequest, ReadLogResponse, log_chunk::Stream as ChunkStream,
    log_service_server::LogService, read_log_response::Item,
};
use prost_types::Timestamp;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{Answers, Api, name};
use crate::app::{Error, LogItem, LogRange, LogSearch, LogWindow, log_millis};

/// Most lines that a reader may begin before the end.
const MAX_TAIL: i64 = 1_000_000;

#[tonic::async_trait]
impl LogService for Api {
    type ReadLogStream = Answers<ReadLogResponse>;

    async fn read_log(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        let range = range(&message)?;
        let items = self.app.read_log(&caller, project, id, range).await?;
        let answers = ReceiverStream::new(items).map(|item| match item {
            Ok(item) => Ok(ReadLogResponse {
                item: Some(show(item)),
            }),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn range(message: &ReadLogRequest) -> Result<LogRange, Error> {
    for (field, number) in [
        ("offset", message.offset),
        ("attempt", message.attempt),
        ("end_offset", message.end_offset),
        ("first_line", message.first_line),
        ("last_line", message.last_line),
        ("skip_behind_bytes", message.skip_behind_bytes),
    ] {
        if number < 0 {
            return Err(Error::invalid(field, "must not be negative"));
        }
    }
    let tail = message.tail_lines;
    if tail.is_some_and(|tail| !(0..=MAX_TAIL).contains(&tail)) {
        let reason = format!("must be between 0 and {MAX_TAIL}");
        return Err(Error::invalid("tail_lines", reason));
    }
    if tail.is_some() && (message.end_offset > 0 || message.last_line > 0) {
        let reason =
            "can not stand with `end_offset` or `last_line`: the last lines are those of the log";
        return Err(Error::invalid("tail_lines", reason));
    }
    let some = |number: i64| (number > 0).then_some(number);
    let first_line = message.first_line;
    ends_behind(
        "end_offset",
        some(message.end_offset),
        message.offset.saturating_add(1),
    )?;
    ends_behind("last_line", some(message.last_line), first_line)?;
    let start_time = time("start_time", message.start_time.as_ref())?;
    let end_time = time("end_time", message.end_time.as_ref())?;
    if let Some(start) = start_time {
        ends_behind("end_time", end_time, start)?;
    }
    let streams = message.streams.iter().map(|stream| stream_named(*stream));
    Ok(LogRange {
        window: LogWindow {
            offset: message.offset,
            end_offset: some(message.end_offset),
            first_line,
            last_line: some(message.last_line),
            start_time,
            end_time,
            step: message.step.clone(),
            streams: streams.collect::<Result<_, _>>()?,
        },
        tail,
        search: LogSearch::new(
            &message.grep,
            message.context_before,
            message.context_after,
            message.max_matches,
        )?,
        follow: message.follow,
        skip_behind: some(message.skip_behind_bytes),
        epoch: some(message.attempt),
    })
}

fn ends_behind(field: &str, end: Option<i64>, start: i64) -> Result<(), Error> {
    match end.is_some_and(|end| end < start) {
        true => Err(Error::invalid(field, "must not be before the beginning")),
        false => Ok(()),
    }
}

fn time(field: &str, time: Option<&Timestamp>) -> Result<Option<i64>, Error> {
    let Some(time) = time else {
        return Ok(None);
    };
    let is_valid =
        (0..1_000_000_000).contains(&time.nanos) && (0..=253_402_300_799).contains(&time.seconds);
    match is_valid {
        true => Ok(Some(log_millis(Some(time)))),
        false => Err(Error::invalid(
            field,
            "must be between the years 1970 and 9999",
        )),
    }
}

fn stream_named(number: i32) -> Result<ChunkStream, Error> {
    match ChunkStream::try_from(number) {
        Ok(ChunkStream::Unspecified) | Err(_) => {
            let reason = "must be STREAM_STDOUT, STREAM_STDERR or STREAM_SYSTEM";
            Err(Error::invalid("streams", reason))
        }
        Ok(stream) => Ok(stream),
    }
}

fn show(item: LogItem) -> Item {
    match item {
        LogItem::Chunk(chunk) => Item::Chunk(chunk),
        LogItem::Gap { offset, size } => Item::Gap(LogGap {
            offset,
            size_bytes: size,
            message: "these bytes never arrived".to_owned(),
        }),
        LogItem::Match(line) => Item::Match(line),
        LogItem::Skip { offset, size } => Item::Skip(LogSkip {
            offset,
            size_bytes: size,
        }),
        LogItem::End(summary) => Item::End(LogEnd {
            size_bytes: summary.size,
            sha256: summary.sha256.unwrap_or_default(),
            complete: summary.complete,
        }),
    }
}
