//! Size and SHA-256 of a file before its content is sent: for those who must know it before.

use std::os::unix::fs::FileExt as _;

use muster_proto::runner::v1::MAX_ARTIFACT_DATA;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Closed, Item, hole::Stretch, walk::Found};

/// Largest file that is hashed: what object stores take in one piece. A sparse file may say that it has
/// terabytes.
const LARGEST: u64 = 5 << 30;

/// What a file held when it was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its SHA-256.
    pub(crate) sha256: [u8; 32],
}

/// Hashes a file that has `from` bytes or more, and no more than go into a store in one piece; 0 hashes none.
/// Nothing when it can not be read, or is shorter by now: who sends it will tell.
pub(super) fn of(
    found: &Found,
    from: u64,
    items: &mpsc::Sender<Item>,
) -> Result<Option<Digest>, Closed> {
    if from == 0 || found.size < from || found.size > LARGEST {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; MAX_ARTIFACT_DATA];
    let mut at = 0;
    while at < found.size {
        // What is a hole need not be read to be known.
        let Ok(stretch) = Stretch::find(&found.file, at, found.size) else {
            return Ok(None);
        };
        let is_hole = matches!(stretch, Stretch::Hole(_));
        let (Stretch::Data(end) | Stretch::Hole(end)) = stretch;
        if is_hole {
            buffer.fill(0);
        }
        while at < end {
            if items.is_closed() {
                return Err(Closed);
            }
            let most = usize::try_from(end - at).unwrap_or(usize::MAX);
            let length = buffer.len().min(most);
            let read = match is_hole {
                true => length,
                // Not where the file is read from later.
                false => match found.file.read_at(&mut buffer[..length], at) {
                    Ok(0) | Err(_) => return Ok(None),
                    Ok(read) => read,
                },
            };
            hash.update(&buffer[..read]);
            at += read as u64;
        }
    }
    Ok(Some(Digest {
        size: found.size,
        sha256: hash.finalize().into(),
    }))
}
