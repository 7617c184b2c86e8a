//! Searching a log: chunks in, lines that match out, with those around them. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use muster_proto::v1::{LogChunk, LogMatch};
use regex::bytes::{Regex, RegexBuilder};

use crate::app::Error;

/// Longest expression, in bytes.
const MAX_PATTERN: usize = 1000;
/// Most memory of a compiled expression, in bytes.
const MAX_COMPILED: usize = 256 << 10;
/// Most lines before or behind a match.
const MAX_CONTEXT: i32 = 1000;
/// Longest part of a line that is looked at as a whole, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Bytes of lines that are kept for a match that may come.
const MAX_BEFORE: usize = 4 << 20;

/// What is searched for.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    expression: Regex,
    before: usize,
    after: usize,
    /// Matches after which it ends; none for never.
    most: Option<u64>,
}

impl Search {
    /// Reads what a caller asks for; `None` when it asks for no search.
    pub(crate) fn new(
        pattern: &str,
        before: i32,
        after: i32,
        most: i64,
    ) -> Result<Option<Self>, Error> {
        if pattern.is_empty() {
            return match before == 0 && after == 0 && most == 0 {
                true => Ok(None),
                false => Err(Error::invalid(
                    "grep",
                    "is needed with what is about matches",
                )),
            };
        }
        if pattern.len() > MAX_PATTERN {
            let reason = format!("at most {MAX_PATTERN} bytes are allowed");
            return Err(Error::invalid("grep", reason));
        }
        let lines = |field, number: i32| match number {
            0..=MAX_CONTEXT => Ok(usize::try_from(number).unwrap_or(0)),
            _ => {
                let reason = format!("must be between 0 and {MAX_CONTEXT}");
                Err(Error::invalid(field, reason))
            }
        };
        let most = u64::try_from(most)
            .map_err(|_negative| Error::invalid("max_matches", "must not be negative"))?;
        let expression = RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .build()
            .map_err(|error| Error::invalid("grep", error.to_string()))?;
        Ok(Some(Self {
            expression,
            before: lines("context_before", before)?,
            after: lines("context_after", after)?,
            most: (most > 0).then_some(most),
        }))
    }
}

/// A search on its way through a log.
#[derive(Debug)]
pub(super) struct Matcher {
    search: Search,
    /// A line whose end has not come, if there is one.
    open: Option<LogMatch>,
    /// Its bytes.
    bytes: Vec<u8>,
    /// Lines that a match may need, and their bytes.
    before: VecDeque<LogMatch>,
    before_bytes: usize,
    /// Lines that the last match still wants.
    after: usize,
    matches: u64,
}

impl Matcher {
    pub(super) fn new(search: Search) -> Self {
        Self {
            search,
            open: None,
            bytes: Vec::new(),
            before: VecDeque::new(),
            before_bytes: 0,
            after: 0,
            matches: 0,
        }
    }

    /// Takes a chunk before which `lines` lines have ended; adds what is found to `found`.
    pub(super) fn push(&mut self, chunk: &LogChunk, mut lines: i64, found: &mut Vec<LogMatch>) {
        let mut offset = chunk.offset;
        for piece in chunk.data.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            while !rest.is_empty() {
                if self.open.is_none() {
                    self.open = Some(LogMatch {
                        line: lines + 1,
                        offset,
                        data: Bytes::new(),
                        stream: chunk.stream,
                        step: chunk.step.clone(),
                        time: chunk.time,
                        context: false,
                    });
                }
                let (now, later) = rest.split_at(rest.len().min(MAX_LINE - self.bytes.len()));
                self.bytes.extend_from_slice(now);
                offset += i64::try_from(now.len()).unwrap_or(0);
                rest = later;
                if now.ends_with(b"\n") || self.bytes.len() >= MAX_LINE {
                    self.line(found);
                }
            }
            lines += i64::from(piece.ends_with(b"\n"));
        }
    }

    /// Takes note that nothing follows: the last line may have no end.
    pub(super) fn finish(&mut self, found: &mut Vec<LogMatch>) {
        self.line(found);
    }

    /// Whether there are as many matches as are wanted, with all that stands behind the last one.
    pub(super) fn is_done(&self) -> bool {
        self.search.most.is_some_and(|most| self.matches >= most) && self.after == 0
    }

    fn line(&mut self, found: &mut Vec<LogMatch>) {
        let Some(mut line) = self.open.take() else {
            return;
        };
        if self.is_done() {
            return;
        }
        line.data = std::mem::take(&mut self.bytes).into();
        let text = line.data.strip_suffix(b"\n").unwrap_or(&line.data);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let wanted = self.search.most.is_none_or(|most| self.matches < most);
        if wanted && self.search.expression.is_match(text) {
            found.extend(self.before.drain(..));
            self.before_bytes = 0;
            self.after = self.search.after;
            self.matches += 1;
            found.push(line);
            return;
        }
        line.context = true;
        if self.after > 0 {
            self.after -= 1;
            found.push(line);
        } else if self.search.before > 0 {
            self.before_bytes += line.data.len();
            self.before.push_back(line);
            while self.before.len() > self.search.before || self.before_bytes > MAX_BEFORE {
                let gone = self.before.pop_front();
                self.before_bytes -= gone.map_or(0, |line| line.data.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(pattern: &str, before: i32, after: i32, most: i64) -> Matcher {
        let search = Search::new(pattern, before, after, most).expect("it can be searched for");
        Matcher::new(search.expect("it is one"))
    }

    fn run(mut matcher: Matcher, pieces: &[&str]) -> Vec<String> {
        let (mut offset, mut lines, mut found) = (0, 0, Vec::new());
        for piece in pieces {
            let chunk = LogChunk {
                offset,
                data: piece.as_bytes().to_vec().into(),
                ..LogChunk::default()
            };
            matcher.push(&chunk, lines, &mut found);
            offset += i64::try_from(piece.len()).expect("small");
            lines += i64::try_from(piece.matches('\n').count()).expect("small");
        }
        matcher.finish(&mut found);
        let show = |found: &LogMatch| {
            let mark = if found.context { '-' } else { ':' };
            let text = String::from_utf8_lossy(&found.data);
            format!("{}{mark}{}@{}", found.line, text.trim_end(), found.offset)
        };
        found.iter().map(show).collect()
    }

    #[test]
    fn lines_are_found_wherever_chunks_are_cut() {
        let whole = "one\ntwo needle\nthree\nneedle";
        let expected = ["2:two needle@4", "4:needle@21"];
        assert_eq!(run(search("needle", 0, 0, 0), &[whole]), expected);
        for cut in 0..=whole.len() {
            let (first, second) = whole.split_at(cut);
            assert_eq!(run(search("needle", 0, 0, 0), &[first, second]), expected);
        }
    }

    #[test]
    fn lines_around_a_match_come_once() {
        let text = "a\nb\nX\nc\nX\nd\ne\nf\n";
        let found = run(search("X", 1, 1, 0), &[text]);
        assert_eq!(found, ["2-b@2", "3:X@4", "4-c@6", "5:X@8", "6-d@10"]);
        let found = run(search("X", 0, 1, 1), &[text]);
        assert_eq!(found, ["3:X@4", "4-c@6"]);
    }

    #[test]
    fn anchors_mean_the_ends_of_a_line_whatever_ends_it() {
        assert_eq!(run(search("^b$", 0, 0, 0), &["a\r\nb\r\nbb\n"]), ["2:b@3"]);
    }

    #[test]
    fn a_line_without_an_end_is_looked_at_in_parts() {
        let long = "x".repeat(MAX_LINE);
        let found = run(search("y", 0, 0, 0), &[&long, &long, "y\n"]);
        assert_eq!(found, [format!("1:y@{}", 2 * MAX_LINE)]);
    }

    #[test]
    fn what_can_not_be_searched_for_is_refused_with_its_field() {
        let field = |result: Result<Option<Search>, Error>| match result {
            Err(Error::Invalid(wrong)) => wrong[0].field.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(field(Search::new("(", 0, 0, 0)), "grep");
        assert_eq!(field(Search::new(&"a".repeat(1001), 0, 0, 0)), "grep");
        assert_eq!(field(Search::new("(a{1000}){1000}", 0, 0, 0)), "grep");
        assert_eq!(field(Search::new("a", -1, 0, 0)), "context_before");
        assert_eq!(field(Search::new("a", 0, 1001, 0)), "context_after");
        assert_eq!(field(Search::new("a", 0, 0, -1)), "max_matches");
        assert_eq!(field(Search::new("", 0, 1, 0)), "grep");
        assert!(Search::new("", 0, 0, 0).expect("nothing").is_none());
    }
}
