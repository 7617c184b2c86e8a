//! What of a log a reader wants, and cutting chunks down to it. Pure.

use muster_proto::v1::{LogChunk, log_chunk::Stream};
use prost_types::Timestamp;

/// What of a log is wanted; all conditions hold together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    /// The first byte.
    pub(crate) offset: i64,
    /// Behind the last byte.
    pub(crate) end_offset: Option<i64>,
    /// The first line, from 1; at most 1 for all.
    pub(crate) first_line: i64,
    /// The last line.
    pub(crate) last_line: Option<i64>,
    /// Not before this time, in milliseconds since the epoch.
    pub(crate) start_time: Option<i64>,
    /// Before this time.
    pub(crate) end_time: Option<i64>,
    /// Only of this step and those below it; empty for all.
    pub(crate) step: String,
    /// Only of these streams; empty for all.
    pub(crate) streams: Vec<Stream>,
}

/// What is left of a chunk.
#[derive(Debug, PartialEq)]
pub(super) enum Cut {
    /// Nothing.
    Nothing,
    /// This, and how many lines ended before it.
    Part(LogChunk, i64),
    /// The same, and nothing that follows is wanted.
    Last(LogChunk, i64),
    /// Neither this nor anything that follows is wanted.
    Over,
}

impl Window {
    /// Whether lines have to be counted to know what is wanted.
    pub(super) const fn counts_lines(&self) -> bool {
        self.first_line > 1 || self.last_line.is_some()
    }

    /// Whether chunks are left out that are not at the ends.
    pub(super) const fn is_selective(&self) -> bool {
        !self.step.is_empty()
            || !self.streams.is_empty()
            || self.start_time.is_some()
            || self.end_time.is_some()
    }

    /// Whether a chunk is of a step, a stream and a time that are wanted.
    pub(super) fn selects(&self, chunk: &LogChunk) -> bool {
        (self.step.is_empty() || belongs(&chunk.step, &self.step))
            && (self.streams.is_empty() || self.streams.contains(&chunk.stream()))
            && self
                .start_time
                .is_none_or(|start| millis(chunk.time.as_ref()) >= start)
            && self
                .end_time
                .is_none_or(|end| millis(chunk.time.as_ref()) < end)
    }

    /// Cuts a chunk down, before which `lines` lines have ended.
    pub(super) fn cut(&self, mut chunk: LogChunk, mut lines: i64) -> Cut {
        let size = i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
        let end = chunk.offset.saturating_add(size);
        if self.end_offset.is_some_and(|end| chunk.offset >= end)
            || self.last_line.is_some_and(|last| lines >= last)
        {
            return Cut::Over;
        }
        if end <= self.offset {
            return Cut::Nothing;
        }
        if chunk.offset < self.offset {
            lines += drop_front(&mut chunk, place(self.offset - end + size));
        }
        if let Some(missing) = self.first_line.checked_sub(lines + 1).filter(|n| *n > 0) {
            let Some(start) = behind_line(&chunk.data, missing) else {
                return Cut::Nothing;
            };
            lines += drop_front(&mut chunk, start);
        }
        let mut last = false;
        if let Some(limit) = self.end_offset.filter(|limit| *limit <= end) {
            chunk.data.truncate(place(limit - chunk.offset));
            last = true;
        }
        if let Some(left) = self.last_line.map(|last| last - lines)
            && let Some(limit) = behind_line(&chunk.data, left)
        {
            chunk.data.truncate(limit);
            last = true;
        }
        match last {
            true => Cut::Last(chunk, lines),
            false if chunk.data.is_empty() => Cut::Nothing,
            false => Cut::Part(chunk, lines),
        }
    }
}

/// How many lines end in some bytes.
pub(crate) fn count_lines(bytes: &[u8]) -> i64 {
    i64::try_from(memchr::memchr_iter(b'\n', bytes).count()).unwrap_or(i64::MAX)
}

/// A time in milliseconds since the epoch; 0 when there is none.
pub(crate) fn millis(time: Option<&Timestamp>) -> i64 {
    time.map_or(0, |time| {
        let whole = time.seconds.saturating_mul(1000);
        whole.saturating_add(i64::from(time.nanos) / 1_000_000)
    })
}

/// Drops bytes at the front; returns how many lines ended in them.
fn drop_front(chunk: &mut LogChunk, count: usize) -> i64 {
    let dropped = chunk.data.split_to(count.min(chunk.data.len()));
    chunk.offset += i64::try_from(dropped.len()).unwrap_or(0);
    count_lines(&dropped)
}

/// Where the byte behind the end of the `number`th line is; 1 is the first.
fn behind_line(bytes: &[u8], number: i64) -> Option<usize> {
    let before = usize::try_from(number.checked_sub(1)?).ok()?;
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.nth(before).map(|(place, _)| place + 1)
}

fn place(bytes: i64) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

/// Whether a chunk of `step` is of `wanted` or of a step below it.
fn belongs(step: &str, wanted: &str) -> bool {
    step.strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunk(offset: i64, text: &str) -> LogChunk {
        LogChunk {
            offset,
            data: text.as_bytes().to_vec().into(),
            ..LogChunk::default()
        }
    }

    /// What a window leaves of a text in chunks.
    fn read(window: &Window, text: &str, sizes: &[usize]) -> String {
        let (mut offset, mut lines, mut left) = (0, 0, String::new());
        let mut sizes = sizes.iter().cycle();
        let mut rest = text;
        while !rest.is_empty() {
            let size = sizes.next().copied().unwrap_or(1).clamp(1, rest.len());
            let (now, later) = rest.split_at(size);
            rest = later;
            let cut = window.cut(chunk(offset, now), lines);
            offset += i64::try_from(now.len()).expect("small");
            lines += count_lines(now.as_bytes());
            match cut {
                Cut::Nothing => {}
                Cut::Part(part, _) => left.push_str(&String::from_utf8_lossy(&part.data)),
                Cut::Last(part, _) => {
                    left.push_str(&String::from_utf8_lossy(&part.data));
                    break;
                }
                Cut::Over => break,
            }
        }
        left
    }

    proptest! {
        #[test]
        fn a_range_of_lines_is_the_same_whatever_the_chunks(
            text in "[ab\n]{0,40}",
            sizes in proptest::collection::vec(1..9_usize, 1..5),
            first in 0..12_i64,
            count in 0..5_i64,
        ) {
            let last = (count > 0).then_some(first.max(1) + count - 1);
            let window = Window { first_line: first, last_line: last, ..Window::default() };
            let skipped = usize::try_from(first.max(1) - 1).expect("small");
            let taken = last.map_or(usize::MAX, |_| usize::try_from(count).expect("small"));
            let expected: String = text.split_inclusive('\n').skip(skipped).take(taken).collect();
            prop_assert_eq!(read(&window, &text, &sizes), expected);
        }

        #[test]
        fn a_range_of_bytes_is_the_same_whatever_the_chunks(
            text in "[ab\n]{0,40}",
            sizes in proptest::collection::vec(1..9_usize, 1..5),
            start in 0..45_usize,
            end in 0..45_usize,
        ) {
            let window = Window {
                offset: i64::try_from(start).expect("small"),
                end_offset: Some(i64::try_from(end).expect("small")),
                ..Window::default()
            };
            let (start, end) = (start.min(text.len()), end.min(text.len()));
            let expected = text.get(start..end).unwrap_or("");
            prop_assert_eq!(read(&window, &text, &sizes), expected);
        }
    }

    #[test]
    fn lines_before_a_part_are_counted_also_where_its_front_is_cut() {
        let window = Window {
            first_line: 3,
            ..Window::default()
        };
        let cut = window.cut(chunk(10, "a\nb\nc\n"), 0);
        assert_eq!(cut, Cut::Part(chunk(14, "c\n"), 2));
    }

    #[test]
    fn steps_streams_and_times_select() {
        let mut told = chunk(0, "x");
        told.step = "s1.2".to_owned();
        told.set_stream(Stream::Stderr);
        told.time = Some(Timestamp {
            seconds: 5,
            nanos: 500_000_000,
        });
        let all = Window::default();
        let selects = |window: Window| window.selects(&told);
        assert!(selects(all.clone()));
        for (step, expected) in [("s1", true), ("s1.2", true), ("s1.20", false), ("s", false)] {
            let step = step.to_owned();
            assert_eq!(
                selects(Window {
                    step,
                    ..all.clone()
                }),
                expected
            );
        }
        for (streams, expected) in [(Stream::Stderr, true), (Stream::Stdout, false)] {
            let streams = vec![streams];
            assert_eq!(
                selects(Window {
                    streams,
                    ..all.clone()
                }),
                expected
            );
        }
        for (start, end, expected) in [(5500, 5501, true), (5501, 6000, false), (0, 5500, false)] {
            let window = Window {
                start_time: Some(start),
                end_time: Some(end),
                ..all.clone()
            };
            assert_eq!(selects(window), expected);
        }
    }
}
