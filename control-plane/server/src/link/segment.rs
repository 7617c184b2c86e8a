//! The stored form of a stretch of log: four bytes of format, then a zstd frame of
//! length-delimited `muster.v1.LogChunk` messages.

use bytes::{BufMut as _, Bytes, BytesMut};
use muster_proto::v1::LogChunk;
use prost::Message as _;

use crate::app::count_lines;

/// The first bytes of a segment of this format.
const FORMAT: &[u8; 4] = b"MLS1";
/// Longest length of a message in front of it, in bytes.
const LENGTH: usize = 10;
/// Largest segment after decompression; ours are far smaller.
const MAX_PLAIN: usize = 16 << 20;

/// How well a segment is packed, as a level of zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Twice as fast, half as long again: of a log that comes as fast as it is taken. It is packed well when it is
    /// sealed.
    Fast = -3,
    /// What stays.
    Well = 3,
}

/// A segment that can not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It has another format.
    #[error("the log segment has an unknown format; was it written by a newer version?")]
    Format,
    /// It is shorter than its row says.
    #[error("the log segment is cut off")]
    Short,
    /// It is damaged.
    #[error("the log segment is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Writes chunks.
pub(crate) fn encode(chunks: &[LogChunk], packing: Packing) -> Result<Bytes, std::io::Error> {
    let size = chunks.iter().map(|chunk| chunk.encoded_len() + LENGTH);
    let mut plain = BytesMut::with_capacity(size.sum());
    for chunk in chunks {
        if chunk.encode_length_delimited(&mut plain).is_err() {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
    }
    // What could not be read again is not written.
    if plain.len() > MAX_PLAIN {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    let packed = zstd::bulk::compress(&plain, packing as i32)?;
    let mut segment = BytesMut::with_capacity(FORMAT.len() + packed.len());
    segment.put_slice(FORMAT);
    segment.put_slice(&packed);
    Ok(segment.freeze())
}

/// How many lines end in chunks.
pub(crate) fn lines(chunks: &[LogChunk]) -> i64 {
    chunks.iter().map(|chunk| count_lines(&chunk.data)).sum()
}

/// Reads chunks.
pub(crate) fn decode(segment: &[u8]) -> Result<Vec<LogChunk>, Error> {
    let packed = segment.strip_prefix(FORMAT).ok_or(Error::Format)?;
    let plain =
        zstd::bulk::decompress(packed, MAX_PLAIN).map_err(|error| Error::Damaged(error.into()))?;
    let mut plain = Bytes::from(plain);
    let mut chunks = Vec::new();
    while !plain.is_empty() {
        let chunk = LogChunk::decode_length_delimited(&mut plain)
            .map_err(|error| Error::Damaged(error.into()))?;
        chunks.push(chunk);
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_equals_what_was_written() {
        let chunks: Vec<_> = (0..10)
            .map(|number| LogChunk {
                offset: number * 100,
                data: vec![7; 100].into(),
                step: "s1".to_owned(),
                ..LogChunk::default()
            })
            .collect();
        for packing in [Packing::Fast, Packing::Well] {
            let segment = encode(&chunks, packing).expect("it can be written");
            assert_eq!(decode(&segment).expect("it can be read"), chunks);
        }
    }

    #[test]
    fn another_format_and_damage_are_told_apart() {
        assert!(matches!(decode(b"MLS9rest"), Err(Error::Format)));
        assert!(matches!(decode(b"MLS1rest"), Err(Error::Damaged(_))));
    }
}
