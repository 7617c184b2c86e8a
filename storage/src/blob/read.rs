//! Streaming reads.

use std::{io::SeekFrom, ops::Range};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, path::Path,
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{BlobStream, Blobs, PIECE, convert};
use crate::{Error, error::Away};

const OPERATION: &str = "read_blob";
const PART: &str = "get_blob_range";

impl Blobs {
    pub(super) async fn stream(&self, key: &str, offset: u64) -> Result<BlobStream, Error> {
        let path = self.path(key)?;
        let options = GetOptions {
            range: (offset > 0).then_some(GetRange::Offset(offset)),
            ..GetOptions::default()
        };
        match self.store.get_opts(&path, options).await {
            Ok(found) => pieces(key, found).await,
            Err(error @ object_store::Error::NotFound { .. }) => {
                Err(convert(OPERATION, key, error))
            }
            Err(error) => {
                if offset > 0 && self.is_behind(&path, offset).await {
                    return Ok(stream::empty().boxed());
                }
                Err(convert(OPERATION, key, error))
            }
        }
    }

    pub(super) async fn part(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let path = self.path(key)?;
        let start = range.start;
        match self.store.get_range(&path, range).await {
            Ok(bytes) => Ok(bytes),
            Err(error @ object_store::Error::NotFound { .. }) => Err(convert(PART, key, error)),
            Err(_behind) if self.is_behind(&path, start).await => Ok(Bytes::new()),
            Err(error) => Err(convert(PART, key, error)),
        }
    }

    /// Whether a blob ends before an offset: stores answer that with errors of many kinds.
    async fn is_behind(&self, path: &Path, offset: u64) -> bool {
        let found = self.store.head(path).await;
        found.is_ok_and(|found| offset >= found.size)
    }
}

async fn pieces(key: &str, found: GetResult) -> Result<BlobStream, Error> {
    let key = key.to_owned();
    let range = found.range;
    match found.payload {
        // The store itself would read files in steps of 8 KiB.
        GetResultPayload::File(file, _) => {
            let failed = |error: std::io::Error| Error::StoreAway {
                why: Away::Unreachable,
                operation: OPERATION,
                source: error.into(),
            };
            let mut file = tokio::fs::File::from_std(file);
            file.seek(SeekFrom::Start(range.start))
                .await
                .map_err(failed)?;
            let file = file.take(range.end - range.start);
            Ok(ReaderStream::with_capacity(file, PIECE)
                .map_err(failed)
                .boxed())
        }
        GetResultPayload::Stream(bytes) => Ok(bytes
            .map_err(move |error| convert(OPERATION, &key, error))
            .map_ok(|bytes| stream::iter(split(bytes).map(Ok)))
            .try_flatten()
            .boxed()),
    }
}

fn split(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(PIECE));
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_pieces_are_split_without_losing_a_byte() {
        let bytes = Bytes::from(vec![7; PIECE * 2 + 1]);
        let sizes: Vec<usize> = split(bytes).map(|piece| piece.len()).collect();
        assert_eq!(sizes, [PIECE, PIECE, 1]);
    }
}
