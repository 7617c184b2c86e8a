//! The stream of a log, taken up again where it broke.

use std::time::Duration;

use muster_proto::v1::{LogEnd, LogSkip, ReadLogRequest, read_log_response::Item};
use tonic::Code;

use crate::{client::Client, error::Error, terminal::measure};

/// How often a broken stream is taken up again without anything new.
const TRIES: u32 = 20;

enum Broken {
    Here(Error),
    There(tonic::Status),
}

/// Reads all that a request asks for; `again` is the command that reads the same log. Returns the end,
/// when the log was read to it.
pub(super) async fn all(
    client: &Client,
    mut request: ReadLogRequest,
    again: &str,
    mut each: impl FnMut(&Item) -> Result<(), Error>,
) -> Result<Option<LogEnd>, Error> {
    let mut tries = 0;
    let wanted = request.max_matches;
    loop {
        let before = request.offset;
        let mut matches = 0;
        let ended = once(client, &mut request, again, &mut each, &mut matches).await;
        if wanted > 0 {
            request.max_matches -= matches;
        }
        match ended {
            Ok(end) => return Ok(end),
            // All matches are here; lines behind the last one are all that can be missing.
            Err(Broken::There(_)) if wanted > 0 && request.max_matches <= 0 => return Ok(None),
            Err(Broken::There(_)) if has_all(&request) => return Ok(None),
            Err(Broken::Here(error)) => return Err(error),
            Err(Broken::There(status)) => {
                tries = match request.offset > before {
                    true => 0,
                    false => tries + 1,
                };
                let passes = matches!(
                    status.code(),
                    Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
                );
                if !passes || tries > TRIES {
                    return Err(client.error(&status));
                }
                tracing::info!(message = status.message(), "log stream broke, trying again");
                let wait = Duration::from_millis(200) * tries.min(20);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn once(
    client: &Client,
    request: &mut ReadLogRequest,
    again: &str,
    each: &mut impl FnMut(&Item) -> Result<(), Error>,
    matches: &mut i64,
) -> Result<Option<LogEnd>, Broken> {
    let response = client.logs().read_log(request.clone()).await;
    let mut stream = response.map_err(Broken::There)?.into_inner();
    while let Some(message) = stream.message().await.map_err(Broken::There)? {
        let Some(item) = message.item else {
            continue;
        };
        each(&item).map_err(Broken::Here)?;
        match item {
            Item::Chunk(chunk) => pass(request, chunk.offset, length(chunk.data.len())),
            Item::Match(line) => {
                pass(request, line.offset, length(line.data.len()));
                *matches += i64::from(!line.context);
            }
            Item::Gap(gap) => {
                pass(request, gap.offset, gap.size_bytes);
                let size = measure::size(gap.size_bytes);
                tracing::warn!(message = gap.message, "{size} of the log are missing");
            }
            Item::Skip(skip) => {
                pass(request, skip.offset, skip.size_bytes);
                tracing::warn!("{}", skipped(&skip, again));
            }
            Item::End(end) => return Ok(Some(end)),
        }
    }
    Ok(None)
}

/// Takes note of what has come: a stream that breaks is taken up behind it.
fn pass(request: &mut ReadLogRequest, offset: i64, size: i64) {
    request.offset = request.offset.max(offset.saturating_add(size));
    // The last lines have begun.
    request.tail_lines = None;
}

/// Whether all bytes that were asked for have come.
const fn has_all(request: &ReadLogRequest) -> bool {
    request.end_offset > 0 && request.offset >= request.end_offset
}

/// What is said of bytes that were passed over, with the command that reads them.
fn skipped(skip: &LogSkip, again: &str) -> String {
    let size = measure::size(skip.size_bytes);
    let end = skip.offset.saturating_add(skip.size_bytes);
    let from = skip.offset;
    format!("skipped {size}, which came too fast; to read them: {again} --bytes {from}:{end}")
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_skipped_is_told_with_the_command_that_reads_it() {
        let skip = LogSkip {
            offset: 1000,
            size_bytes: 20_000_000,
        };
        let words = skipped(&skip, "muster logs load-7 --worker 2");
        let expected = "skipped 20.0 MB, which came too fast; to read them: muster logs load-7 --worker 2 \
                        --bytes 1000:20001000";
        assert_eq!(words, expected);
    }

    #[test]
    fn a_range_is_read_when_its_last_byte_has_come() {
        let mut request = ReadLogRequest {
            end_offset: 10,
            ..ReadLogRequest::default()
        };
        pass(&mut request, 0, 9);
        assert!(!has_all(&request));
        pass(&mut request, 9, 1);
        assert!(has_all(&request));
        request.end_offset = 0;
        assert!(!has_all(&request), "to the end of the log");
    }
}
