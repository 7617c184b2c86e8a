//! Blobs: bytes under unique keys, on the local disk or in an S3-compatible store. A blob is
//! written before the row that names it, and never changed.
//!
//! Which rows name which blobs is not known here.

mod check;
mod direct;
mod health;
mod list;
mod place;
mod read;
mod sign;
mod staged;
mod writer;

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    Error,
    error::{Away, Kind},
};

pub use direct::{DIRECT_LARGEST, DIRECT_LIFETIME, DirectOptions, Grant};
pub use health::Trouble;
pub use list::Listed;
pub use writer::BlobWriter;

/// Longest piece that a [`BlobStream`] gives.
pub const PIECE: usize = 256 * 1024;

/// Largest blob, in bytes: as many parts as S3 takes.
pub const LARGEST: u64 = place::S3_PART as u64 * place::S3_PARTS;

/// How to reach the blobs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Credentials for S3; not needed for a local directory.
    pub credentials: Option<Credentials>,
    /// How blobs are put into S3 directly; only through the server when absent.
    pub direct: Option<DirectOptions>,
}

/// Credentials for S3, as `AWS_ACCESS_KEY_ID` and its companions have them.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Session token of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// A blob that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// The bytes of a blob as they come, in pieces of at most [`PIECE`].
pub type BlobStream = BoxStream<'static, Result<Bytes, Error>>;

/// The blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Where it is, without credentials, for messages.
    place: Arc<str>,
    /// What all keys begin with.
    prefix: Path,
    /// Size of the parts in which a blob is written.
    part_size: usize,
    /// The directory of a store that is one.
    folder: Option<Arc<std::path::Path>>,
    /// The way around the server.
    door: Option<direct::Door>,
    /// Whether what is written arrives.
    health: Arc<health::Health>,
    /// The clean-up of writers that were dropped.
    tasks: TaskTracker,
}

impl Blobs {
    /// Opens `file:///directory`, made when it is not there, or
    /// `s3://bucket/prefix?endpoint=http://host:port&region=name&allow_http=true`.
    ///
    /// Nothing is sent to a server yet: see [`Blobs::check`].
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for a URL that can not be used.
    pub async fn open(url: &str, options: &Options) -> Result<Self, Error> {
        let place::Opened {
            store,
            place,
            prefix,
            part_size,
            folder,
            door,
        } = place::open(url, options).await?;
        Ok(Self {
            store,
            place: place.into(),
            prefix,
            part_size,
            folder: folder.map(Into::into),
            door,
            health: Arc::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Writes, reads and deletes a small blob; for the start of a server.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`], which names the cure: a missing bucket, wrong credentials, a
    /// directory that can not be written.
    pub async fn check(&self) -> Result<(), Error> {
        self.try_out().await
    }

    /// Returns a new unique key below `folder`, for example `logs/<attempt>`.
    #[must_use]
    pub fn key(&self, folder: &str) -> String {
        format!("{}/{}", folder.trim_matches('/'), Uuid::now_v7().simple())
    }

    /// Writes a whole blob.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached.
    pub async fn put(&self, key: &str, data: Bytes) -> Result<(), Error> {
        let path = self.path(key)?;
        let put = self.store.put(&path, PutPayload::from_bytes(data)).await;
        let put = put.map_err(|error| not_written("put_blob", key, error));
        self.health.note(&self.place, put)?;
        Ok(())
    }

    /// Why nothing can be written now, as far as this process has seen: the last try failed, and not
    /// long ago.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.health.trouble()
    }

    /// Begins a blob that is written in parts.
    #[must_use]
    pub fn writer(&self, key: &str) -> BlobWriter {
        BlobWriter::new(self.clone(), key)
    }

    /// Reads a whole small blob.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, key: &str) -> Result<Bytes, Error> {
        let path = self.path(key)?;
        let failed = |error| convert("get_blob", key, error);
        let found = self.store.get(&path).await.map_err(failed)?;
        found.bytes().await.map_err(failed)
    }

    /// Reads a small part of a blob; less where the blob ends before.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.part(key, range).await
    }

    /// Streams a blob from an offset; one at or behind its end gives nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn read(&self, key: &str, offset: u64) -> Result<BlobStream, Error> {
        self.stream(key, offset).await
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached.
    pub async fn exists(&self, key: &str) -> Result<bool, Error> {
        let path = self.path(key)?;
        match self.store.head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(convert("find_blob", key, error)),
        }
    }

    /// Deletes a blob; one that is not there is as good as deleted.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key)?;
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(convert("delete_blob", key, error)),
        }
    }

    /// Waits for the clean-up of writers that were dropped.
    pub async fn close(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn path(&self, key: &str) -> Result<Path, Error> {
        let key = Path::parse(key).map_err(|error| Error::invalid("key", error.to_string()))?;
        Ok(self.prefix.parts().chain(key.parts()).collect())
    }
}

/// Gives an error of the object store the meaning that it has for the caller.
fn convert(operation: &'static str, key: &str, error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::not_found(Kind::Blob, key),
        object_store::Error::InvalidPath { source } => Error::invalid("key", source.to_string()),
        error @ (object_store::Error::NotSupported { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::UnknownConfigurationKey { .. }) => Error::internal(operation, error),
        error @ (object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }) => Error::StoreAway {
            operation,
            why: Away::Refusing,
            source: error.into(),
        },
        error => Error::StoreAway {
            operation,
            why: Away::Unreachable,
            source: error.into(),
        },
    }
}

/// The same for what was to be written: when that is not found, it is the bucket, or an upload that the store has
/// dropped.
fn not_written(operation: &'static str, key: &str, error: object_store::Error) -> Error {
    match error {
        error @ object_store::Error::NotFound { .. } => Error::StoreAway {
            operation,
            why: Away::Refusing,
            source: error.into(),
        },
        error => convert(operation, key, error),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
