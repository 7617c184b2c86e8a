//! What stands on the screen, or in a pipe.

use jiff::Timestamp;
use muster_proto::v1::{LogChunk, LogMatch, log_chunk::Stream, read_log_response::Item};
use serde::Serialize;

use crate::{command, error::Error, json, terminal::escape::Filter};

/// Prints items as they come.
pub(super) struct Printer {
    /// One JSON object for each line.
    pub(super) json: bool,
    /// Makes text harmless for a terminal.
    pub(super) filter: Option<Filter>,
    /// Put the time before each line.
    pub(super) timestamps: bool,
    /// Put the number before each line that was searched for.
    pub(super) numbers: bool,
    /// A line begins.
    pub(super) at_start: bool,
    /// Number of the line behind the last one that was found.
    pub(super) next_line: Option<i64>,
    /// Something was printed.
    pub(super) found: bool,
}

/// A line, or a part of one, for a program.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<i64>,
    time: Option<Timestamp>,
    step: &'a str,
    stream: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    context: bool,
    text: String,
}

impl Printer {
    pub(super) fn item(&mut self, item: &Item) -> Result<(), Error> {
        match item {
            Item::Chunk(chunk) if self.json => self.chunk_as_json(chunk),
            Item::Chunk(chunk) => self.chunk(chunk),
            Item::Match(line) if self.json => self.match_as_json(line),
            Item::Match(line) => self.line(line),
            Item::Gap(_) | Item::Skip(_) | Item::End(_) => Ok(()),
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let Some(filter) = self.filter.as_mut().filter(|_| !self.json) else {
            return Ok(());
        };
        let mut text = String::new();
        filter.finish(&mut text);
        text.push_str("\x1b[0m");
        command::print(&text)
    }

    fn chunk(&mut self, chunk: &LogChunk) -> Result<(), Error> {
        self.found |= !chunk.data.is_empty();
        if !self.timestamps {
            return self.write(&chunk.data);
        }
        let time = json::time(chunk.time.as_ref()).unwrap_or_default();
        for line in chunk.data.split_inclusive(|byte| *byte == b'\n') {
            if self.at_start {
                command::print(&format!("{time:.3} "))?;
            }
            self.write(line)?;
            self.at_start = line.ends_with(b"\n");
        }
        Ok(())
    }

    /// A line that was searched for, with its number; `--` stands where lines were left out.
    fn line(&mut self, line: &LogMatch) -> Result<(), Error> {
        self.found |= !line.context;
        if self.next_line.is_some_and(|next| line.line > next) {
            command::print("--\n")?;
        }
        self.next_line = Some(line.line + 1);
        if self.numbers {
            let mark = if line.context { '-' } else { ':' };
            command::print(&format!("{}{mark}", line.line))?;
        }
        if self.timestamps {
            let time = json::time(line.time.as_ref()).unwrap_or_default();
            command::print(&format!("{time:.3} "))?;
        }
        self.write(&line.data)?;
        match line.data.ends_with(b"\n") {
            true => Ok(()),
            false => command::print("\n"),
        }
    }

    fn chunk_as_json(&mut self, chunk: &LogChunk) -> Result<(), Error> {
        let mut offset = chunk.offset;
        for text in chunk.data.split_inclusive(|byte| *byte == b'\n') {
            self.found = true;
            write_json(&Line {
                offset,
                line: None,
                time: json::time(chunk.time.as_ref()),
                step: &chunk.step,
                stream: stream(chunk.stream()),
                context: false,
                text: String::from_utf8_lossy(text).into_owned(),
            })?;
            offset += i64::try_from(text.len()).unwrap_or(0);
        }
        Ok(())
    }

    fn match_as_json(&mut self, line: &LogMatch) -> Result<(), Error> {
        self.found |= !line.context;
        write_json(&Line {
            offset: line.offset,
            line: Some(line.line),
            time: json::time(line.time.as_ref()),
            step: &line.step,
            stream: stream(line.stream()),
            context: line.context,
            text: String::from_utf8_lossy(&line.data).into_owned(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(filter) = &mut self.filter else {
            return command::write(bytes);
        };
        let mut text = String::new();
        filter.push(bytes, &mut text);
        command::print(&text)
    }
}

fn stream(stream: Stream) -> String {
    let name = stream.as_str_name();
    name.trim_start_matches("STREAM_").to_ascii_lowercase()
}

fn write_json(line: &Line<'_>) -> Result<(), Error> {
    let text = serde_json::to_string(line).map_err(|error| Error::Corrupt(error.to_string()))?;
    command::print(&format!("{text}\n"))
}
