//! What is stored of an artifact, compared with what was collected: as a whole, while it is read.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use muster_storage::{artifact::Artifact, blob::BlobStream};
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::link::ingest::hexadecimal;

/// The bytes of an artifact as they come, and an error at the end when they are not what was collected.
pub(crate) type WholeStream = BoxStream<'static, Result<Bytes, Error>>;

/// Compares the bytes of an artifact from some place on.
pub(super) struct Check {
    /// Of all bytes; `None` when they do not begin at the first one.
    digest: Option<Sha256>,
    /// How many are expected.
    expected: u64,
    /// How many came.
    size: u64,
}

impl Check {
    /// Of the bytes of `artifact` from `offset` on. Of a part only the length is compared.
    pub(super) fn new(artifact: &Artifact, offset: u64) -> Self {
        let size = u64::try_from(artifact.size).unwrap_or(0);
        Self {
            digest: (offset == 0).then(Sha256::new),
            expected: size.saturating_sub(offset),
            size: 0,
        }
    }

    /// Takes the next bytes; false when there are too many already.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        self.size <= self.expected
    }

    /// Says what is wrong with the bytes that came, when nothing follows.
    pub(super) fn finish(self, artifact: &Artifact) -> Option<String> {
        let is_same = |digest: Sha256| hexadecimal(&digest.finalize()) == artifact.sha256;
        let is_whole = self.size == self.expected && self.digest.is_none_or(is_same);
        (!is_whole).then(|| changed(artifact, self.expected, self.size))
    }
}

/// What is told of an artifact of which other bytes came than those that were collected.
pub(super) fn changed(artifact: &Artifact, expected: u64, read: u64) -> String {
    let path = &artifact.path;
    match read == expected {
        true => format!(
            "what is stored of artifact '{path}' is not what was collected: its SHA-256 is not {}",
            artifact.sha256
        ),
        false => format!(
            "what is stored of artifact '{path}' is not what was collected: {read} bytes were read where \
             {expected} are expected"
        ),
    }
}

/// What is told of an artifact whose blob is gone.
pub(super) fn gone(artifact: &Artifact) -> String {
    let path = &artifact.path;
    format!("what was stored of artifact '{path}' is gone from the object store")
}

/// The bytes of an artifact from an offset on, compared as they go.
pub(super) fn whole(bytes: BlobStream, artifact: Artifact, offset: u64) -> WholeStream {
    let check = Check::new(&artifact, offset);
    let state = Some((bytes, check, artifact));
    futures::stream::try_unfold(state, |state| async {
        let Some((mut bytes, mut check, artifact)) = state else {
            return Ok(None);
        };
        match bytes.try_next().await? {
            Some(piece) if check.take(&piece) => Ok(Some((piece, Some((bytes, check, artifact))))),
            _ => match check.finish(&artifact) {
                Some(wrong) => Err(Error::DataLoss(wrong)),
                None => Ok(None),
            },
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use muster_storage::artifact::Preview;

    use super::*;

    fn artifact(content: &[u8]) -> Artifact {
        let id = uuid::Uuid::nil();
        Artifact {
            id: id.into(),
            project: id.into(),
            execution: id.into(),
            attempt: id.into(),
            path: "a".to_owned(),
            size: i64::try_from(content.len()).expect("small"),
            sha256: hexadecimal(&Sha256::digest(content)),
            content_type: String::new(),
            preview: Preview::None,
            mode: 0o644,
            step: String::new(),
            blob: String::new(),
            create_time: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    async fn read(stored: &'static [u8], offset: u64) -> Result<Vec<u8>, Error> {
        let pieces = stored[usize::try_from(offset).expect("small")..].chunks(2);
        let pieces = pieces.map(|piece| Ok(Bytes::from_static(piece)));
        let bytes = futures::stream::iter(pieces).boxed();
        let pieces: Vec<Bytes> = whole(bytes, artifact(b"abcde"), offset)
            .try_collect()
            .await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn what_is_not_what_was_collected_ends_with_an_error() {
        assert_eq!(read(b"abcde", 0).await.expect("whole"), b"abcde");
        assert_eq!(read(b"abcde", 2).await.expect("whole"), b"cde");
        for (stored, offset) in [
            (&b"abcdE"[..], 0),
            (b"abcd", 0),
            (b"abcdef", 0),
            (b"", 0),
            (b"abcd", 2),
            (b"abcdef", 2),
        ] {
            let read = read(stored, offset).await;
            assert!(
                matches!(read, Err(Error::DataLoss(_))),
                "{stored:?}: {read:?}"
            );
        }
    }
}
