//! Fetching what is stored of a log: segments in, chunks out, few and large reads ahead of the
//! reader. What is not what was stored is told with the bytes that it should be.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use muster_core::id::AttemptId;
use muster_proto::v1::LogChunk;
use muster_storage::log::Segment;

use crate::{
    app::{App, Error},
    link::segment,
};

/// Most bytes of log that one read of the object store brings.
const MOST: i64 = 4 << 20;
/// Reads that are under way at once for one reader.
const AHEAD: usize = 3;
/// How long to wait before segments are looked up again that were gone: a log is sealed in between.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// The chunks of some segments that were read together, each as far as it is what was stored.
pub(crate) type Chunks = Vec<(Segment, Result<Vec<LogChunk>, segment::Error>)>;

/// Reads segments in their order.
pub(super) fn read(
    app: &Arc<App>,
    attempt: AttemptId,
    segments: Vec<Segment>,
) -> BoxStream<'static, Result<Chunks, Error>> {
    let app = Arc::clone(app);
    futures::stream::iter(groups(segments))
        .map(move |group| {
            let app = Arc::clone(&app);
            async move { fetch(&app, attempt, group).await }
        })
        .buffered(AHEAD)
        .boxed()
}

/// Reads segments of an attempt's log that are parts of one blob, one behind the other. Those that are
/// gone may have been replaced, or deleted.
pub(crate) async fn fetch(
    app: &App,
    attempt: AttemptId,
    group: Vec<Segment>,
) -> Result<Chunks, Error> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return Ok(Vec::new());
    };
    let place = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let start = place(first.blob_start);
    let range = start..place(last.blob_start.saturating_add(last.blob_size));
    let bytes = match app.blobs.get_range(&first.blob, range).await {
        Err(error) if error.is_not_found() => {
            let gone = |segment| (segment, Err(segment::Error::Gone));
            return Ok(group.into_iter().map(gone).collect());
        }
        read => read?,
    };
    let mut chunks = Vec::with_capacity(group.len());
    for stored in group {
        let begin = usize::try_from(place(stored.blob_start) - start).unwrap_or(usize::MAX);
        let size = usize::try_from(stored.blob_size).unwrap_or(usize::MAX);
        let packed = begin
            .checked_add(size)
            .and_then(|end| bytes.get(begin..end));
        let read = packed
            .ok_or(segment::Error::Short)
            .and_then(|packed| segment::decode(attempt, stored.start..stored.end, packed));
        chunks.push((stored, read));
    }
    Ok(chunks)
}

/// Puts segments together that one read can bring.
pub(crate) fn groups(segments: Vec<Segment>) -> Vec<Vec<Segment>> {
    let mut groups: Vec<Vec<Segment>> = Vec::new();
    for segment in segments {
        let fits = groups.last().and_then(|group| {
            let (first, last) = (group.first()?, group.last()?);
            let adjacent = last.blob == segment.blob
                && last.blob_start.saturating_add(last.blob_size) == segment.blob_start;
            Some(adjacent && segment.end - first.start <= MOST)
        });
        match groups.last_mut() {
            Some(group) if fits == Some(true) => group.push(segment),
            _ => groups.push(vec![segment]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: i64, end: i64, blob: &str, blob_start: i64) -> Segment {
        Segment {
            start,
            end,
            blob: blob.to_owned(),
            blob_start,
            blob_size: 10,
            lines: 0,
            first_time: 0,
            last_time: 0,
        }
    }

    #[test]
    fn parts_of_one_object_are_read_together_up_to_a_limit() {
        let all = vec![
            segment(0, 1 << 20, "a", 0),
            segment(1 << 20, 2 << 20, "a", 10),
            segment(2 << 20, 5 << 20, "a", 20),
            segment(5 << 20, 6 << 20, "a", 40),
            segment(6 << 20, 7 << 20, "b", 50),
        ];
        let sizes: Vec<_> = groups(all).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
    }
}
