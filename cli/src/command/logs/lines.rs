//! Lines of a log, put together from the pieces in which they come. Prints nothing.

use std::collections::VecDeque;

use jiff::Timestamp;
use muster_proto::v1::{LogChunk, LogMatch, log_chunk::Stream};
use serde::Serialize;

use crate::json;

/// Longest text of one object, in bytes of the log; up to three more where a character ends there.
const MAX_LINE: usize = 1 << 20;
/// Lines that may be open at once, of several steps and streams.
const MAX_OPEN: usize = 16;

/// A line, or a part of one, for a program.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<i64>,
    time: Option<Timestamp>,
    step: String,
    stream: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    context: bool,
    /// The line is longer, and goes on in the next object of its step and stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
    text: String,
}

/// Puts lines together, those of each step and stream by themselves.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Those whose end has not come, the oldest first.
    open: VecDeque<Open>,
}

/// What is the same for all pieces of a line.
#[derive(Debug, Clone, PartialEq)]
struct Source {
    step: String,
    stream: Stream,
    line: Option<i64>,
    context: bool,
}

/// A line whose end has not come.
#[derive(Debug)]
struct Open {
    source: Source,
    time: Option<Timestamp>,
    /// Of its first byte.
    offset: i64,
    /// Behind its last byte so far.
    end: i64,
    bytes: Vec<u8>,
}

impl Lines {
    /// Takes bytes; adds the lines that are whole now.
    pub(super) fn chunk(&mut self, chunk: &LogChunk, lines: &mut Vec<Line>) {
        // What comes again from the beginning is another attempt.
        if self.open.iter().any(|open| open.end > chunk.offset) {
            self.end(lines);
        }
        let stream = chunk.stream();
        // Steps follow each other; remarks of Muster come between.
        if stream != Stream::System {
            self.close(lines, |open| open.source.step != chunk.step);
        }
        let source = Source {
            step: chunk.step.clone(),
            stream,
            line: None,
            context: false,
        };
        let time = json::time(chunk.time.as_ref());
        self.push(&source, time, chunk.offset, &chunk.data, lines);
    }

    /// Takes a line that was searched for, or a part of a long one; adds those that are whole now.
    pub(super) fn found(&mut self, found: &LogMatch, lines: &mut Vec<Line>) {
        let source = Source {
            step: found.step.clone(),
            stream: found.stream(),
            line: Some(found.line),
            context: found.context,
        };
        while let Some(open) = self.open.front() {
            let same_line = open.source.line == source.line;
            if same_line && open.source == source && open.end == found.offset {
                break;
            }
            // Of a long line only those parts come in which something is found.
            self.emit(same_line, lines);
        }
        let time = json::time(found.time.as_ref());
        self.push(&source, time, found.offset, &found.data, lines);
    }

    /// Adds what is left: nothing more follows.
    pub(super) fn end(&mut self, lines: &mut Vec<Line>) {
        self.close(lines, |_open| true);
    }

    fn push(
        &mut self,
        source: &Source,
        time: Option<Timestamp>,
        mut offset: i64,
        mut data: &[u8],
        lines: &mut Vec<Line>,
    ) {
        let known = self.open.iter().position(|open| open.source == *source);
        let mut open = known.and_then(|at| self.open.remove(at));
        while !data.is_empty() {
            if let Some(full) = open.take_if(|open| open.is_full()) {
                lines.push(full.line(true));
            }
            let line = open.get_or_insert_with(|| Open {
                source: source.clone(),
                time,
                offset,
                end: offset,
                bytes: Vec::new(),
            });
            let line_end = data.iter().position(|byte| *byte == b'\n');
            let piece = line_end.map_or(data.len(), |at| at + 1);
            let (piece, rest) = data.split_at(piece.min(line.room()));
            line.bytes.extend_from_slice(piece);
            offset += i64::try_from(piece.len()).unwrap_or(i64::MAX);
            line.end = offset;
            data = rest;
            if let Some(whole) = open.take_if(|open| open.bytes.ends_with(b"\n")) {
                lines.push(whole.line(false));
            }
        }
        if let Some(open) = open {
            if self.open.len() >= MAX_OPEN {
                self.emit(true, lines);
            }
            self.open.push_back(open);
        }
    }

    /// Adds the oldest that is open.
    fn emit(&mut self, continues: bool, lines: &mut Vec<Line>) {
        lines.extend(self.open.pop_front().map(|open| open.line(continues)));
    }

    /// Adds those of which nothing more comes.
    fn close(&mut self, lines: &mut Vec<Line>, is_over: impl Fn(&Open) -> bool) {
        let (over, open) = self.open.drain(..).partition(is_over);
        self.open = open;
        let over: VecDeque<Open> = over;
        lines.extend(over.into_iter().map(|open| open.line(false)));
    }
}

impl Open {
    /// Bytes that still go into it.
    fn room(&self) -> usize {
        // A character that has begun is ended, byte by byte.
        MAX_LINE.saturating_sub(self.bytes.len()).max(1)
    }

    fn is_full(&self) -> bool {
        let over = self.bytes.len().checked_sub(MAX_LINE);
        over.is_some_and(|over| over >= 3 || !ends_in_a_character(&self.bytes))
    }

    fn line(self, continues: bool) -> Line {
        let stream = self.source.stream.as_str_name();
        Line {
            offset: self.offset,
            line: self.source.line,
            time: self.time,
            step: self.source.step,
            stream: stream.trim_start_matches("STREAM_").to_ascii_lowercase(),
            context: self.source.context,
            continues,
            text: String::from_utf8_lossy(&self.bytes).into_owned(),
        }
    }
}

/// Whether the last bytes begin a character of UTF-8 that goes on.
fn ends_in_a_character(bytes: &[u8]) -> bool {
    let last = bytes.len().saturating_sub(3);
    (last..bytes.len()).any(|at| {
        let rest = bytes.get(at..).unwrap_or_default();
        std::str::from_utf8(rest)
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(step: &str, stream: Stream, offset: i64, data: &[u8]) -> LogChunk {
        LogChunk {
            offset,
            data: data.to_vec().into(),
            stream: stream.into(),
            step: step.to_owned(),
            time: None,
        }
    }

    /// Puts chunks of one step and stream together that follow each other.
    fn together(pieces: &[&[u8]]) -> Vec<Line> {
        let (mut all, mut found, mut offset) = (Lines::default(), Vec::new(), 0);
        for piece in pieces {
            all.chunk(&chunk("s1", Stream::Stdout, offset, piece), &mut found);
            offset += i64::try_from(piece.len()).unwrap();
        }
        all.end(&mut found);
        found
    }

    fn texts(lines: &[Line]) -> Vec<(i64, &str)> {
        let texts = lines.iter().map(|line| (line.offset, line.text.as_str()));
        texts.collect()
    }

    #[test]
    fn a_line_across_chunks_is_one_object() {
        let lines = together(&[b"one\ntw", b"o\n", b"\n", b"three"]);
        let expected = [(0, "one\n"), (4, "two\n"), (8, "\n"), (9, "three")];
        assert_eq!(texts(&lines), expected);
        assert!(lines.iter().all(|line| !line.continues));
    }

    #[test]
    fn a_character_across_chunks_stays_whole_wherever_it_is_cut() {
        let text = "aé€🦀\n";
        for cut in 0..text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            assert_eq!(texts(&together(&[head, tail])), [(0, text)], "{cut}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(texts(&together(&bytes)), [(0, text)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters_and_says_so() {
        for shift in 0..4 {
            let text = format!("{}{}\nnext\n", "x".repeat(shift), "🦀".repeat(700_000));
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(65_536).collect();
            let lines = together(&pieces);
            assert_eq!(lines.len(), 4, "{shift}");
            let whole: String = lines.iter().map(|line| line.text.as_str()).collect();
            assert!(whole == text, "{shift}: the same text");
            let marks: Vec<bool> = lines.iter().map(|line| line.continues).collect();
            assert_eq!(marks, [true, true, false, false], "{shift}");
            let mut offset = 0;
            for line in &lines {
                assert_eq!(line.offset, offset, "{shift}");
                assert!(line.text.len() < MAX_LINE + 4, "{shift}");
                offset += i64::try_from(line.text.len()).unwrap();
            }
        }
    }

    #[test]
    fn a_line_of_just_the_limit_is_whole() {
        for (text, parts) in [
            ("x".repeat(MAX_LINE), 1),
            ("x".repeat(MAX_LINE - 1) + "\n", 1),
            ("x".repeat(MAX_LINE) + "\n", 2),
        ] {
            let lines = together(&[text.as_bytes()]);
            assert_eq!(lines.len(), parts);
            assert!(!lines.last().unwrap().continues);
        }
    }

    #[test]
    fn bytes_that_are_no_text_cost_no_more_and_hold_nothing_up() {
        let lines = together(&[b"a\xe2\x82", b"z\xff\0\n", b"\xe2"]);
        assert_eq!(
            texts(&lines),
            [(0, "a\u{fffd}z\u{fffd}\0\n"), (7, "\u{fffd}")]
        );
        let junk = vec![0xe2; 3 * MAX_LINE];
        let lines = together(&[&junk]);
        assert_eq!(lines.len(), 3);
        let junk = vec![0x80; MAX_LINE + 1];
        assert_eq!(together(&[&junk]).len(), 2);
    }

    #[test]
    fn streams_and_steps_have_lines_of_their_own() {
        let (mut all, mut found) = (Lines::default(), Vec::new());
        for (step, stream, offset, data) in [
            (
                "s1",
                Stream::Stdout,
                0,
                "out \u{e9}".as_bytes().split_at(5).0,
            ),
            ("s1", Stream::Stderr, 5, b"err\n"),
            ("", Stream::System, 9, b"remark\n"),
            ("s1", Stream::Stdout, 16, b"\xa9\nrest"),
            ("s2", Stream::Stdout, 22, b"of another\n"),
        ] {
            all.chunk(&chunk(step, stream, offset, data), &mut found);
        }
        let expected = [
            (5, "err\n"),
            (9, "remark\n"),
            (0, "out \u{e9}\n"),
            (18, "rest"),
            (22, "of another\n"),
        ];
        assert_eq!(texts(&found), expected);
        let streams: Vec<_> = found.iter().map(|line| line.stream.as_str()).collect();
        assert_eq!(streams, ["stderr", "system", "stdout", "stdout", "stdout"]);
        assert!(all.open.is_empty());
    }

    #[test]
    fn another_attempt_begins_a_line() {
        let (mut all, mut found) = (Lines::default(), Vec::new());
        for (offset, data) in [(0, b"cut off"), (0, b"again\nx")] {
            all.chunk(&chunk("s1", Stream::Stdout, offset, data), &mut found);
        }
        assert_eq!(texts(&found), [(0, "cut off"), (0, "again\n")]);
    }

    #[test]
    fn open_lines_are_few() {
        let (mut all, mut found) = (Lines::default(), Vec::new());
        for number in 0..100 {
            let chunk = chunk(&number.to_string(), Stream::System, number, b"x");
            all.chunk(&chunk, &mut found);
        }
        assert_eq!(all.open.len(), MAX_OPEN);
        all.end(&mut found);
        assert_eq!(found.len(), 100);
    }

    #[test]
    fn parts_of_a_long_match_become_one_line_and_others_say_that_it_goes_on() {
        let part = |line, offset, data: &[u8]| LogMatch {
            line,
            offset,
            data: data.to_vec().into(),
            stream: Stream::Stdout.into(),
            ..LogMatch::default()
        };
        let (mut all, mut found) = (Lines::default(), Vec::new());
        for part in [
            part(7, 100, b"one \xc3"),
            part(7, 105, b"\xa9"),
            // Nothing was found in the part before it.
            part(7, 200, b"two\n"),
            part(9, 300, b"three"),
        ] {
            all.found(&part, &mut found);
        }
        all.end(&mut found);
        assert_eq!(
            texts(&found),
            [(100, "one é"), (200, "two\n"), (300, "three")]
        );
        let marks: Vec<bool> = found.iter().map(|line| line.continues).collect();
        assert_eq!(marks, [true, false, false]);
        assert_eq!(found[0].line, Some(7));
    }
}
