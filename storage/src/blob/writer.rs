//! Writing a blob in parts.

use std::fmt;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, task::JoinSet};

use super::{BlobInfo, Blobs, convert, hexadecimal, not_written};
use crate::Error;

/// How many parts are on their way while the next one fills.
const IN_FLIGHT: usize = 2;

/// Writes one blob in parts, with constant memory: the part that fills and two on their way
/// (15 MiB for S3, 3 MiB on the local disk). Dropped or aborted it leaves nothing.
pub struct BlobWriter {
    blobs: Blobs,
    key: String,
    /// Bytes of the part that fills.
    filling: Vec<Bytes>,
    filled: usize,
    size: u64,
    hash: Sha256,
    /// Size and hash at the end of the last whole part.
    whole: (u64, Sha256),
    /// Begun when the first part is full.
    upload: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<Result<(), object_store::Error>>,
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter")
            .field("key", &self.key)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl BlobWriter {
    pub(super) fn new(blobs: Blobs, key: &str) -> Self {
        Self {
            blobs,
            key: key.to_owned(),
            filling: Vec::new(),
            filled: 0,
            size: 0,
            hash: Sha256::new(),
            whole: (0, Sha256::new()),
            upload: None,
            parts: JoinSet::new(),
        }
    }

    /// Adds bytes; waits while parts are on their way.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached; the blob is lost then.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), Error> {
        while !data.is_empty() {
            let room = self.blobs.part_size - self.filled;
            let taken = data.split_to(data.len().min(room));
            self.hash.update(&taken);
            self.size += taken.len() as u64;
            self.filled += taken.len();
            self.filling.push(taken);
            if self.filled == self.blobs.part_size {
                self.whole = (self.size, self.hash.clone());
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// How many bytes were added.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// SHA-256 of what was added, lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> String {
        hexadecimal(self.hash.clone().finalize().as_ref())
    }

    /// Waits until all whole parts are in the store, and forgets what is behind them: it is to be added again.
    /// Next to no memory is held then, so that a writer can wait for long.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached; the blob is lost then.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.wait_for_parts(0).await?;
        self.filling = Vec::new();
        self.filled = 0;
        (self.size, self.hash) = self.whole.clone();
        Ok(())
    }

    /// Makes the blob durable and visible.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached; the blob is lost then.
    pub async fn finish(mut self) -> Result<BlobInfo, Error> {
        if self.upload.is_none() {
            self.put_whole().await?;
        } else {
            if self.filled > 0 {
                self.send_part().await?;
            }
            self.wait_for_parts(0).await?;
            if let Some(upload) = &mut self.upload {
                let done = upload.complete().await;
                let done = done.map_err(|error| not_written("finish_blob", &self.key, error));
                self.blobs.health.note(&self.blobs.place, done)?;
            }
            // Only now there is nothing to be taken back.
            self.upload = None;
        }
        Ok(BlobInfo {
            key: std::mem::take(&mut self.key),
            size: self.size,
            sha256: hexadecimal(std::mem::take(&mut self.hash).finalize().as_ref()),
        })
    }

    /// Gives the blob up.
    ///
    /// # Errors
    ///
    /// When parts could not be deleted.
    pub async fn abort(mut self) -> Result<(), Error> {
        self.parts.shutdown().await;
        match self.upload.take() {
            Some(mut upload) => upload
                .abort()
                .await
                .map_err(|error| convert("abort_blob", &self.key, error)),
            None => Ok(()),
        }
    }

    async fn put_whole(&mut self) -> Result<(), Error> {
        let path = self.blobs.path(&self.key)?;
        let payload: PutPayload = std::mem::take(&mut self.filling).into_iter().collect();
        let put = self.blobs.store.put(&path, payload).await;
        let put = put.map_err(|error| not_written("put_blob", &self.key, error));
        self.blobs.health.note(&self.blobs.place, put)?;
        Ok(())
    }

    async fn send_part(&mut self) -> Result<(), Error> {
        self.wait_for_parts(IN_FLIGHT - 1).await?;
        if self.upload.is_none() {
            let path = self.blobs.path(&self.key)?;
            let upload = self.blobs.store.put_multipart(&path).await;
            let upload = upload.map_err(|error| not_written("begin_blob", &self.key, error));
            self.upload = Some(self.blobs.health.note(&self.blobs.place, upload)?);
        }
        let payload: PutPayload = std::mem::take(&mut self.filling).into_iter().collect();
        self.filled = 0;
        if let Some(upload) = &mut self.upload {
            self.parts.spawn(upload.put_part(payload));
        }
        Ok(())
    }

    async fn wait_for_parts(&mut self, left: usize) -> Result<(), Error> {
        while self.parts.len() > left {
            match self.parts.join_next().await {
                None => {}
                Some(Ok(sent)) => {
                    let sent = sent.map_err(|error| not_written("write_blob", &self.key, error));
                    self.blobs.health.note(&self.blobs.place, sent)?;
                }
                Some(Err(error)) => return Err(Error::internal("write_blob", error)),
            }
        }
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else {
            return;
        };
        let mut parts = std::mem::take(&mut self.parts);
        let key = std::mem::take(&mut self.key);
        let clean_up = async move {
            parts.shutdown().await;
            if let Err(error) = upload.abort().await {
                tracing::warn!(key, %error, "parts of a blob that was given up could not be deleted");
            }
        };
        if let Ok(runtime) = Handle::try_current() {
            self.blobs.tasks.spawn_on(clean_up, &runtime);
        }
    }
}
