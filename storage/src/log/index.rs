//! The segments of a sealed log as one small value: an index by bytes, lines and times. Which object
//! they are parts of is not in it.
//!
//! After the number of its version come the number of segments, then six numbers for each: the gap
//! before it, its bytes of log, its lines, its bytes in the object, the time since the end of the one
//! before, and how long it took. Each is a variable-length integer of seven bits a byte, so a segment
//! takes about fifteen bytes.

use super::Segment;
use crate::transaction::Failure;

/// The version that is written.
const VERSION: u8 = 1;

/// Writes segments, which follow each other in their object.
pub(super) fn encode(segments: &[Segment]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    put(&mut bytes, segments.len() as u64);
    let (mut end, mut time) = (0, 0);
    for segment in segments {
        put(&mut bytes, unsigned(segment.start.wrapping_sub(end)));
        put(&mut bytes, unsigned(segment.end - segment.start));
        put(&mut bytes, unsigned(segment.lines));
        put(&mut bytes, unsigned(segment.blob_size));
        put(&mut bytes, zigzag(segment.first_time.wrapping_sub(time)));
        put(
            &mut bytes,
            zigzag(segment.last_time.wrapping_sub(segment.first_time)),
        );
        (end, time) = (segment.end, segment.last_time);
    }
    bytes
}

/// Reads what [`encode`] has written, for the object `blob`.
pub(super) fn decode(mut bytes: &[u8], blob: &str) -> Result<Vec<Segment>, Failure> {
    read(&mut bytes, blob).ok_or_else(|| {
        Failure::internal(
            "read the index of a log",
            format!("the index of {blob} is damaged, or of a newer version"),
        )
    })
}

fn read(bytes: &mut &[u8], blob: &str) -> Option<Vec<Segment>> {
    let (version, rest) = bytes.split_first()?;
    *bytes = rest;
    let count = take(bytes)?;
    // Each has six bytes at least, so a damaged number asks for no memory that is not there.
    if *version != VERSION || count > bytes.len() as u64 / 6 {
        return None;
    }
    let mut segments = Vec::with_capacity(usize::try_from(count).ok()?);
    let (mut end, mut time, mut blob_start) = (0_i64, 0_i64, 0_i64);
    for _ in 0..count {
        let start = end.checked_add(signed(take(bytes)?)?)?;
        end = start.checked_add(signed(take(bytes)?)?)?;
        let lines = signed(take(bytes)?)?;
        let blob_size = signed(take(bytes)?)?;
        let first_time = time.wrapping_add(unzigzag(take(bytes)?));
        time = first_time.wrapping_add(unzigzag(take(bytes)?));
        segments.push(Segment {
            start,
            end,
            blob: blob.to_owned(),
            blob_start,
            blob_size,
            lines,
            first_time,
            last_time: time,
        });
        blob_start = blob_start.checked_add(blob_size)?;
    }
    bytes.is_empty().then_some(segments)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while let Some(more) = number.checked_shr(7).filter(|rest| *rest > 0) {
        bytes.push(low(number) | 0x80);
        number = more;
    }
    bytes.push(low(number));
}

fn low(number: u64) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or(0)
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments() -> impl Strategy<Value = Vec<Segment>> {
        let one = (
            0..1_i64 << 40,
            1..1_i64 << 20,
            0..1_i64 << 20,
            1..1_i64 << 20,
            -(1_i64 << 45)..1_i64 << 45,
            -(1_i64 << 45)..1_i64 << 45,
        );
        proptest::collection::vec(one, 0..50).prop_map(|told| {
            let (mut end, mut blob_start) = (0, 0);
            let mut all = Vec::new();
            for (gap, size, lines, blob_size, first_time, last_time) in told {
                let start = end + gap;
                end = start + size;
                all.push(Segment {
                    start,
                    end,
                    blob: "logs/a/b".to_owned(),
                    blob_start,
                    blob_size,
                    lines,
                    first_time,
                    last_time,
                });
                blob_start += blob_size;
            }
            all
        })
    }

    proptest! {
        #[test]
        fn what_is_read_equals_what_was_written(segments in segments()) {
            let bytes = encode(&segments);
            prop_assert_eq!(read(&mut bytes.as_slice(), "logs/a/b"), Some(segments));
        }

        #[test]
        fn damage_is_an_error_and_nothing_worse(
            segments in segments(),
            cut in any::<proptest::sample::Index>(),
            noise in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = encode(&segments);
            bytes.truncate(cut.index(bytes.len()));
            prop_assert_eq!(read(&mut bytes.as_slice(), "b"), None);
            // Whatever comes of it, it ends.
            let _read = read(&mut noise.as_slice(), "b");
        }
    }

    #[test]
    fn a_gigabyte_has_an_index_of_less_than_a_hundred_kilobytes() {
        let segments: Vec<_> = (0..4096_i64)
            .map(|number| Segment {
                start: number << 18,
                end: (number + 1) << 18,
                blob: "b".to_owned(),
                blob_start: number * 40_000,
                blob_size: 40_000,
                lines: 3000,
                first_time: 1_795_000_000_000 + number * 1000,
                last_time: 1_795_000_000_990 + number * 1000,
            })
            .collect();
        let bytes = encode(&segments);
        assert!(bytes.len() < 100_000, "{}", bytes.len());
    }
}
