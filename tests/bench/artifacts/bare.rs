//! The object store by itself: the same bytes, in parts of the same size, as many on their way, and nothing
//! else; no digest.

use std::{io::Read as _, path::Path, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use futures::TryStreamExt as _;
use object_store::{
    GetResultPayload, ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart,
    aws::AmazonS3Builder, local::LocalFileSystem, path::Path as Key,
};

/// Parts on their way.
const IN_FLIGHT: usize = 2;
/// Parts of S3, and of files.
const PARTS: (usize, usize) = (5 << 20, 1 << 20);

/// The bare store.
pub(super) struct Bare {
    store: Arc<dyn ObjectStore>,
    part: usize,
}

impl Bare {
    /// Opens the store of a server's URL; for files another folder of the same disk.
    pub(super) fn open(url: &str, folder: &Path) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("s3://") else {
            let folder = folder.join("bare");
            std::fs::create_dir_all(&folder)?;
            let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
            return Ok(Self {
                store: Arc::new(store),
                part: PARTS.1,
            });
        };
        let (bucket, query) = rest.split_once('?').context("an endpoint in the URL")?;
        let bucket = bucket.split('/').next().unwrap_or_default();
        let mut store = AmazonS3Builder::from_env()
            .with_region("us-east-1")
            .with_bucket_name(bucket)
            .with_allow_http(true);
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            if key == "endpoint" {
                store = store.with_endpoint(value);
            }
        }
        Ok(Self {
            store: Arc::new(store.build()?),
            part: PARTS.0,
        })
    }

    fn key() -> Key {
        Key::from("bench/bare")
    }

    /// Puts so many mebibytes. Returns the seconds.
    pub(super) async fn put(&self, mebibytes: u64) -> anyhow::Result<f64> {
        let mut block = vec![0; 256 << 10];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut block)?;
        let block = bytes::Bytes::from(block);
        let begun = Instant::now();
        let upload = self.store.put_multipart(&Self::key()).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, self.part);
        for _ in 0..mebibytes * 4 {
            writer.wait_for_capacity(IN_FLIGHT).await?;
            writer.put(block.clone());
        }
        writer.finish().await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Gets them. Returns the seconds.
    pub(super) async fn get(&self, bytes: u64) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let found = self.store.get(&Self::key()).await?;
        let size = match found.payload {
            GetResultPayload::File(mut file, _) => {
                let read = tokio::task::spawn_blocking(move || {
                    let mut buffer = vec![0; 256 << 10];
                    let mut size = 0;
                    loop {
                        match file.read(&mut buffer)? {
                            0 => return Ok::<u64, std::io::Error>(size),
                            read => size += read as u64,
                        }
                    }
                });
                read.await??
            }
            GetResultPayload::Stream(pieces) => {
                let add = |size, piece: bytes::Bytes| async move { Ok(size + piece.len() as u64) };
                pieces.try_fold(0, add).await?
            }
        };
        ensure!(size == bytes, "{size} bytes of {bytes}");
        let took = begun.elapsed().as_secs_f64();
        self.store.put(&Self::key(), PutPayload::default()).await?;
        Ok(took)
    }
}
