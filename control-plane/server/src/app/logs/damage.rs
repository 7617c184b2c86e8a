//! What is stored of a log and is not what was stored: telling which bytes, and how to read around them.
//!
//! Finding it is done where segments are decoded.

use muster_storage::log::Segment;

use crate::{app::Error, link::segment};

/// Which bytes of a log are damaged, and how.
pub(crate) fn finding(segment: &Segment, error: &segment::Error) -> String {
    format!(
        "bytes {}–{} of the log are not what was stored: {error}",
        segment.start,
        segment.end - 1,
    )
}

/// The same for somebody who reads the log, whose segments are `layout`, with what can be read of it.
pub(super) fn error(layout: &[Segment], segment: &Segment, error: &segment::Error) -> Error {
    Error::DataLoss(format!(
        "{}; {}",
        finding(segment, error),
        around(layout, segment)
    ))
}

/// Which lines can be read without the bytes of a segment.
fn around(layout: &[Segment], segment: &Segment) -> String {
    let mut before = 0;
    let mut through = 0;
    for other in layout.iter().filter(|other| other.start <= segment.start) {
        before = through;
        through += other.lines;
    }
    let is_last = layout.last().is_none_or(|last| last.end <= segment.end);
    // A line that begins in it ends behind it.
    let behind = (!is_last).then(|| format!("`--lines {}:`", through.saturating_add(2)));
    let before = (before > 0).then(|| format!("`--lines :{before}`"));
    match (before, behind) {
        (Some(before), Some(behind)) => {
            format!(
                "what is before them can be read with {before}, what is behind them with {behind}"
            )
        }
        (Some(before), None) => format!("what is before them can be read with {before}"),
        (None, Some(behind)) => format!("what is behind them can be read with {behind}"),
        (None, None) => "nothing else of it is stored".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Vec<Segment> {
        let one = |start, end, lines| Segment {
            start,
            end,
            blob: String::new(),
            blob_start: 0,
            blob_size: 0,
            lines,
            first_time: 0,
            last_time: 0,
        };
        vec![one(0, 10, 2), one(10, 20, 3), one(20, 30, 5)]
    }

    #[test]
    fn the_bytes_and_the_lines_around_them_are_told() {
        let layout = layout();
        let told =
            |number: usize| error(&layout, &layout[number], &segment::Error::Short).to_string();
        assert_eq!(
            told(1),
            "bytes 10–19 of the log are not what was stored: the segment is cut off; what is before them can \
             be read with `--lines :2`, what is behind them with `--lines 7:`"
        );
        assert!(told(0).ends_with("cut off; what is behind them can be read with `--lines 4:`"));
        assert!(told(2).ends_with("cut off; what is before them can be read with `--lines :5`"));
        let alone = error(&layout[..1], &layout[0], &segment::Error::Gone).to_string();
        assert!(
            alone.ends_with("store; nothing else of it is stored"),
            "{alone}"
        );
    }
}
