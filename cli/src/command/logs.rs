//! `muster logs`: what an execution printed.

use std::collections::VecDeque;

use clap::Args;
use muster_proto::v1::{LogChunk, LogEnd, ReadLogRequest, read_log_response::Item};
use tonic::Code;

use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{escape::Filter, measure},
};

/// Most lines of `--tail`.
const MAX_TAIL: usize = 100_000;
/// Bytes that `--tail` keeps in memory at most.
const MAX_TAIL_BYTES: usize = 64 << 20;
/// How often a broken stream is taken up again without anything new.
const TRIES: u32 = 20;

const EXAMPLES: &str = "\
Examples:
  muster logs smoke-3
  muster logs smoke-3 -f                follow it until it is complete
  muster logs smoke-3 --step build      only one step, by id, name or reference
  muster logs smoke-3 --tail 20 --timestamps
  muster logs smoke-3 --attempt 1       an earlier attempt, before it was tried again

On a terminal, colours stay and other escape sequences go; --raw leaves every byte. Into a file or
a pipe the bytes always go as they are.";

/// Print the log of an execution
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Stay until the log is complete
    #[arg(long, short)]
    follow: bool,
    /// Only what this step printed: its id, name or reference such as s2.1
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    /// Only the log of this attempt, by its number in `muster get`; else the newest one
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Leave every byte as it is, even on a terminal
    #[arg(long)]
    raw: bool,
    /// Put the time before each line
    #[arg(long, short)]
    timestamps: bool,
    /// Begin with the last lines only
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    tail: Option<u32>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    if global.json() {
        return Err(Error::Usage(
            "a log is bytes and has no JSON form; use --timestamps for times".to_owned(),
        ));
    }
    let session = Session::open(global).await?;
    let printed = print(&session.client, &arguments, global).await;
    session.close().await;
    printed?;
    Ok(Exit::Success)
}

async fn print(client: &Client, arguments: &Arguments, global: &Global) -> Result<(), Error> {
    let mut request = ReadLogRequest {
        name: client.execution_name(&arguments.id)?,
        offset: 0,
        follow: arguments.follow,
        step: step(client, arguments).await?,
        attempt: arguments.attempt.map_or(0, i64::from),
    };
    let mut printer = Printer {
        filter: (global.stdout().interactive && !arguments.raw).then(Filter::default),
        timestamps: arguments.timestamps,
        at_start: true,
    };
    if let Some(lines) = arguments.tail {
        let mut tail = Tail::new(usize::try_from(lines).unwrap_or(MAX_TAIL));
        request.follow = false;
        let end = read(client, &mut request, |chunk| {
            tail.push(chunk);
            Ok(())
        })
        .await?;
        for chunk in tail.chunks {
            printer.print(&chunk)?;
        }
        let over = end.is_some_and(|end| !end.sha256.is_empty());
        if over || !arguments.follow {
            return printer.finish();
        }
        request.follow = true;
    }
    let end = read(client, &mut request, |chunk| printer.print(&chunk)).await?;
    printer.finish()?;
    // Of an earlier attempt nobody compares the digest; what is missing is told where it is.
    if let Some(end) = end
        && arguments.follow
        && arguments.attempt.is_none()
        && !end.complete
    {
        super::note(global, "the log is not complete");
    }
    Ok(())
}

/// Reads from the request's offset to the end, and moves the offset there.
async fn read(
    client: &Client,
    request: &mut ReadLogRequest,
    mut each: impl FnMut(LogChunk) -> Result<(), Error>,
) -> Result<Option<LogEnd>, Error> {
    let mut tries = 0;
    loop {
        let before = request.offset;
        match read_once(client, request, &mut each).await {
            Ok(end) => return Ok(end),
            Err(Broken::Here(error)) => return Err(error),
            Err(Broken::There(status)) => {
                tries = if request.offset > before {
                    0
                } else {
                    tries + 1
                };
                let passes = matches!(
                    status.code(),
                    Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
                );
                if !passes || tries > TRIES {
                    return Err(client.error(&status));
                }
                tracing::info!(message = status.message(), "log stream broke, trying again");
                let wait = std::time::Duration::from_millis(200) * tries.min(20);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

enum Broken {
    Here(Error),
    There(tonic::Status),
}

async fn read_once(
    client: &Client,
    request: &mut ReadLogRequest,
    each: &mut impl FnMut(LogChunk) -> Result<(), Error>,
) -> Result<Option<LogEnd>, Broken> {
    let response = client.logs().read_log(request.clone()).await;
    let mut stream = response.map_err(Broken::There)?.into_inner();
    while let Some(message) = stream.message().await.map_err(Broken::There)? {
        match message.item {
            Some(Item::Chunk(chunk)) => {
                let length = i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
                let end = chunk.offset.saturating_add(length);
                each(chunk).map_err(Broken::Here)?;
                request.offset = end.max(request.offset);
            }
            Some(Item::Gap(gap)) => {
                request.offset = gap.offset.saturating_add(gap.size_bytes);
                let size = measure::size(gap.size_bytes);
                tracing::warn!(message = gap.message, "{size} of the log are missing");
            }
            Some(Item::End(end)) => return Ok(Some(end)),
            None => {}
        }
    }
    Ok(None)
}

/// The reference of the step that is meant; empty for all.
async fn step(client: &Client, arguments: &Arguments) -> Result<String, Error> {
    let Some(wanted) = &arguments.step else {
        return Ok(String::new());
    };
    let execution = super::get::execution(client, &arguments.id).await?;
    let steps = &execution.steps;
    let found = steps
        .iter()
        .find(|step| step.reference == *wanted)
        .or_else(|| steps.iter().find(|step| step.id == *wanted))
        .or_else(|| steps.iter().find(|step| step.display_name == *wanted));
    match found {
        Some(step) => Ok(step.reference.clone()),
        None => {
            let known: Vec<_> = steps
                .iter()
                .map(|step| format!("{} ({})", step.reference, step.display_name))
                .collect();
            Err(Error::Usage(format!(
                "{} has no step '{wanted}', only {}",
                arguments.id,
                known.join(", ")
            )))
        }
    }
}

struct Printer {
    filter: Option<Filter>,
    timestamps: bool,
    at_start: bool,
}

impl Printer {
    fn print(&mut self, chunk: &LogChunk) -> Result<(), Error> {
        if !self.timestamps {
            return self.write(&chunk.data);
        }
        let time = json::time(chunk.time.as_ref()).unwrap_or_default();
        for line in chunk.data.split_inclusive(|byte| *byte == b'\n') {
            if self.at_start {
                super::print(&format!("{time:.3} "))?;
            }
            self.write(line)?;
            self.at_start = line.ends_with(b"\n");
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else {
            return super::write(bytes);
        };
        let mut text = String::new();
        filter.push(bytes, &mut text);
        super::print(&text)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else {
            return Ok(());
        };
        let mut text = String::new();
        filter.finish(&mut text);
        text.push_str("\x1b[0m");
        super::print(&text)
    }
}

/// The last lines of a stream of chunks.
struct Tail {
    lines: usize,
    chunks: VecDeque<LogChunk>,
    breaks: usize,
    bytes: usize,
}

impl Tail {
    fn new(lines: usize) -> Self {
        Self {
            lines,
            chunks: VecDeque::new(),
            breaks: 0,
            bytes: 0,
        }
    }

    /// Takes a chunk, cut into lines, and forgets what is too old.
    fn push(&mut self, chunk: LogChunk) {
        let (mut rest, mut offset) = (chunk.data.clone(), chunk.offset);
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let data = rest.split_to(end.map_or(rest.len(), |end| end + 1));
            let length = data.len();
            self.breaks += usize::from(end.is_some());
            self.bytes += length;
            let part = LogChunk {
                offset,
                data,
                ..chunk.clone()
            };
            offset += i64::try_from(length).unwrap_or(0);
            self.chunks.push_back(part);
        }
        self.forget();
    }

    fn forget(&mut self) {
        loop {
            let open = self
                .chunks
                .back()
                .is_some_and(|last| !last.data.ends_with(b"\n"));
            let lines = self.breaks + usize::from(open);
            if lines <= self.lines && self.bytes <= MAX_TAIL_BYTES {
                return;
            }
            // A line may be made of several parts: all of them go.
            loop {
                let Some(first) = self.chunks.pop_front() else {
                    return;
                };
                self.bytes -= first.data.len();
                if first.data.ends_with(b"\n") {
                    self.breaks -= 1;
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(lines: usize, chunks: &[&str]) -> String {
        let mut tail = Tail::new(lines);
        for text in chunks {
            tail.push(LogChunk {
                data: text.as_bytes().to_vec().into(),
                ..LogChunk::default()
            });
        }
        let bytes: Vec<u8> = tail
            .chunks
            .iter()
            .flat_map(|chunk| chunk.data.to_vec())
            .collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_tail_is_the_last_lines_whatever_the_chunks() {
        assert_eq!(tail(2, &["a\nb\nc\n"]), "b\nc\n");
        assert_eq!(tail(2, &["a\nb", "b\nc", "c"]), "bb\ncc");
        assert_eq!(tail(1, &["a\n", "b\n"]), "b\n");
        assert_eq!(tail(5, &["a\n"]), "a\n");
        assert_eq!(tail(0, &["a\nb"]), "");
    }
}
