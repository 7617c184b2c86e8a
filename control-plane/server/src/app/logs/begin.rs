//! Where reading begins: the segment before which nothing is wanted, without fetching those before
//! it.

use std::sync::Arc;

use muster_core::id::AttemptId;
use muster_storage::log::Segment;

use super::{stored, window::Window};
use crate::{
    app::{App, Error},
    link::segment,
};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Begin {
    /// First byte of the segment.
    pub(super) at: i64,
    /// Lines that have ended before it.
    pub(super) lines: i64,
}

/// The first segment in which something may be that is wanted.
pub(super) fn begin(layout: &[Segment], window: &Window) -> Begin {
    let mut begin = Begin::default();
    for segment in layout {
        let before = segment.end <= window.offset
            || begin.lines + segment.lines < window.first_line - 1
            || window
                .start_time
                .is_some_and(|start| segment.last_time < start);
        if !before {
            break;
        }
        begin = Begin {
            at: segment.end,
            lines: begin.lines + segment.lines,
        };
    }
    begin
}

/// A segment that is not what was stored, and how.
pub(super) type Damaged = (Segment, segment::Error);

/// The offset at which the last `wanted` lines begin, of those that a window leaves.
pub(super) async fn tail(
    app: &Arc<App>,
    attempt: AttemptId,
    layout: &[Segment],
    window: &Window,
    wanted: i64,
    is_gone: &(dyn Fn() -> bool + Sync),
) -> Result<Result<i64, Damaged>, Error> {
    let end = layout.last().map_or(0, |last| last.end);
    if wanted <= 0 {
        return Ok(Ok(end));
    }
    let mut count = Count::new(wanted);
    let mut rest = layout;
    // Few segments first: most tails are short.
    let mut step = 1;
    while let Some(last) = rest.last() {
        // Nobody waits for the answer.
        if is_gone() {
            return Ok(Ok(end));
        }
        if !window.is_selective() && count.passes(last) {
            rest = &rest[..rest.len() - 1];
            continue;
        }
        let (before, now) = rest.split_at(rest.len().saturating_sub(step));
        rest = before;
        step = (step * 2).min(16);
        let mut fetched = Vec::new();
        for group in stored::groups(now.to_vec()) {
            fetched.extend(stored::fetch(app, attempt, group).await?);
        }
        for (segment, read) in fetched.into_iter().rev() {
            let chunks = match read {
                Ok(chunks) => chunks,
                Err(error) => return Ok(Err((segment, error))),
            };
            for chunk in chunks.iter().rev().filter(|chunk| window.selects(chunk)) {
                if let Some(place) = count.back(&chunk.data) {
                    let place = i64::try_from(place).unwrap_or(0);
                    return Ok(Ok(chunk.offset.saturating_add(place)));
                }
            }
        }
    }
    Ok(Ok(0))
}

/// Counts ends of lines backwards.
struct Count {
    left: i64,
    /// The last byte of the log was not seen yet: an end of a line there begins no new one.
    at_end: bool,
}

impl Count {
    const fn new(wanted: i64) -> Self {
        Self {
            left: wanted,
            at_end: true,
        }
    }

    /// Passes over a whole segment, when the wanted place can not be in it.
    const fn passes(&mut self, segment: &Segment) -> bool {
        if self.at_end || segment.lines >= self.left {
            return false;
        }
        self.left -= segment.lines;
        true
    }

    /// Goes back over bytes; returns the place in them at which the wanted lines begin.
    fn back(&mut self, bytes: &[u8]) -> Option<usize> {
        for (place, byte) in bytes.iter().enumerate().rev() {
            let last = std::mem::take(&mut self.at_end);
            if *byte != b'\n' || last {
                continue;
            }
            self.left -= 1;
            if self.left == 0 {
                return Some(place + 1);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Vec<Segment> {
        let one = |start, end, lines, first_time, last_time| Segment {
            start,
            end,
            blob: String::new(),
            blob_start: 0,
            blob_size: 0,
            lines,
            first_time,
            last_time,
        };
        vec![
            one(0, 10, 2, 100, 200),
            one(10, 20, 0, 200, 300),
            one(20, 30, 5, 300, 400),
        ]
    }

    #[test]
    fn segments_before_what_is_wanted_are_passed_over() {
        let at = |window: Window| {
            let begin = begin(&layout(), &window);
            (begin.at, begin.lines)
        };
        let all = Window::default();
        assert_eq!(at(all.clone()), (0, 0));
        let offset = |offset| Window {
            offset,
            ..all.clone()
        };
        assert_eq!(at(offset(9)), (0, 0));
        assert_eq!(at(offset(10)), (10, 2));
        assert_eq!(at(offset(99)), (30, 7));
        let line = |first_line| Window {
            first_line,
            ..all.clone()
        };
        assert_eq!(at(line(2)), (0, 0));
        // The third line begins behind the second end, which may be the last byte of its segment.
        assert_eq!(at(line(3)), (0, 0));
        assert_eq!(at(line(4)), (20, 2));
        let time = |start| Window {
            start_time: Some(start),
            ..all.clone()
        };
        assert_eq!(at(time(200)), (0, 0));
        assert_eq!(at(time(201)), (10, 2));
        assert_eq!(at(time(401)), (30, 7));
    }

    #[test]
    fn an_end_at_the_end_begins_no_line() {
        let place = |text: &str, wanted| Count::new(wanted).back(text.as_bytes());
        assert_eq!(place("a\nb\nc\n", 1), Some(4));
        assert_eq!(place("a\nb\nc", 1), Some(4));
        assert_eq!(place("a\nb\nc\n", 3), None);
        assert_eq!(place("a\nb\nc\n", 2), Some(2));
        assert_eq!(place("\n\n", 1), Some(1));
    }
}
