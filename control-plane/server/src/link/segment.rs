//! The stored form of a stretch of log: four bytes of format, sixteen of the attempt's id, then a zstd
//! frame with a checksum of length-delimited `muster.v1.LogChunk` messages.
//!
//! So a segment tells whose bytes it has and which ones, and one that was damaged or took the place of
//! another is not read as a log.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use muster_core::id::AttemptId;
use muster_proto::v1::LogChunk;
use prost::Message as _;
use zstd::zstd_safe::CParameter;

use crate::app::count_lines;

/// The first bytes of a segment of this format.
const FORMAT: &[u8; 4] = b"MLS2";
/// The first bytes of one that has no id, and no checksum.
const FORMAT_BEFORE: &[u8; 4] = b"MLS1";
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
    #[error("the segment has an unknown format; was it written by a newer version?")]
    Format,
    /// It is not there.
    #[error("the segment is gone from the object store")]
    Gone,
    /// It is shorter than its row says.
    #[error("the segment is cut off")]
    Short,
    /// It is damaged.
    #[error("the segment is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is whole, and of another log.
    #[error("the segment is of another log")]
    Foreign,
    /// It is whole, and has other bytes of the log.
    #[error("the segment has other bytes of the log")]
    Elsewhere,
}

/// Writes chunks of an attempt's log.
pub(crate) fn encode(
    attempt: AttemptId,
    chunks: &[LogChunk],
    packing: Packing,
) -> Result<Bytes, std::io::Error> {
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
    let mut compressor = zstd::bulk::Compressor::new(packing as i32)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    let packed = compressor.compress(&plain)?;
    let attempt = attempt.as_uuid();
    let attempt = attempt.as_bytes();
    let mut segment = BytesMut::with_capacity(FORMAT.len() + attempt.len() + packed.len());
    segment.put_slice(FORMAT);
    segment.put_slice(attempt);
    segment.put_slice(&packed);
    Ok(segment.freeze())
}

/// How many lines end in chunks.
pub(crate) fn lines(chunks: &[LogChunk]) -> i64 {
    chunks.iter().map(|chunk| count_lines(&chunk.data)).sum()
}

/// Reads chunks, which must be these bytes of the attempt's log and no others.
pub(crate) fn decode(
    attempt: AttemptId,
    bytes: Range<i64>,
    segment: &[u8],
) -> Result<Vec<LogChunk>, Error> {
    let packed = match segment.strip_prefix(FORMAT) {
        Some(rest) => {
            let (owner, packed) = rest.split_first_chunk::<16>().ok_or(Error::Short)?;
            if owner != attempt.as_uuid().as_bytes() {
                return Err(Error::Foreign);
            }
            packed
        }
        None => segment.strip_prefix(FORMAT_BEFORE).ok_or(Error::Format)?,
    };
    let plain =
        zstd::bulk::decompress(packed, MAX_PLAIN).map_err(|error| Error::Damaged(error.into()))?;
    let mut plain = Bytes::from(plain);
    let mut chunks = Vec::new();
    let mut at = bytes.start;
    while !plain.is_empty() {
        let chunk = LogChunk::decode_length_delimited(&mut plain)
            .map_err(|error| Error::Damaged(error.into()))?;
        if chunk.offset != at {
            return Err(Error::Elsewhere);
        }
        let size = i64::try_from(chunk.data.len()).unwrap_or(i64::MAX);
        at = at.saturating_add(size);
        chunks.push(chunk);
    }
    match at == bytes.end {
        true => Ok(chunks),
        false => Err(Error::Elsewhere),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks() -> Vec<LogChunk> {
        (0..10)
            .map(|number| LogChunk {
                offset: 50 + number * 100,
                data: vec![7; 100].into(),
                step: "s1".to_owned(),
                ..LogChunk::default()
            })
            .collect()
    }

    fn attempt(number: u128) -> AttemptId {
        uuid::Uuid::from_u128(number).into()
    }

    #[test]
    fn what_is_read_equals_what_was_written() {
        for packing in [Packing::Fast, Packing::Well] {
            let segment = encode(attempt(1), &chunks(), packing).expect("it can be written");
            let read = decode(attempt(1), 50..1050, &segment).expect("it can be read");
            assert_eq!(read, chunks());
        }
    }

    #[test]
    fn a_segment_of_the_format_before_is_read() {
        let mut plain = Vec::new();
        for chunk in chunks() {
            chunk.encode_length_delimited(&mut plain).expect("memory");
        }
        let mut segment = FORMAT_BEFORE.to_vec();
        segment.extend(zstd::bulk::compress(&plain, 3).expect("it is packed"));
        let read = decode(attempt(1), 50..1050, &segment).expect("it can be read");
        assert_eq!(read, chunks());
        let other = decode(attempt(1), 0..1000, &segment);
        assert!(matches!(other, Err(Error::Elsewhere)), "{other:?}");
    }

    #[test]
    fn a_segment_is_read_only_as_what_it_is() {
        let segment = encode(attempt(1), &chunks(), Packing::Well).expect("it can be written");
        let foreign = decode(attempt(2), 50..1050, &segment);
        assert!(matches!(foreign, Err(Error::Foreign)), "{foreign:?}");
        for range in [50..1049, 50..1051, 0..1000, 150..1050] {
            let other = decode(attempt(1), range.clone(), &segment);
            assert!(
                matches!(other, Err(Error::Elsewhere)),
                "{range:?}: {other:?}"
            );
        }
        assert!(matches!(
            decode(attempt(1), 0..1, b"MLS9rest"),
            Err(Error::Format)
        ));
    }

    #[test]
    fn every_bit_that_flips_and_every_cut_is_seen() {
        let segment = encode(attempt(1), &chunks(), Packing::Well).expect("it can be written");
        for place in 0..segment.len() {
            for bit in 0..8 {
                let mut damaged = segment.to_vec();
                damaged[place] ^= 1 << bit;
                // Bits of the frame's header that mean nothing may flip: what is read is the same then.
                if let Ok(read) = decode(attempt(1), 50..1050, &damaged) {
                    assert_eq!(read, chunks(), "bit {bit} of byte {place}");
                }
            }
            assert!(decode(attempt(1), 50..1050, &segment[..place]).is_err());
        }
    }
}
