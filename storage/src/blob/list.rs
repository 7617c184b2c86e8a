//! Listing blobs, for those who look for what no row names.

use futures::{StreamExt as _, stream::BoxStream};
use jiff::Timestamp;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload, path::Path};

use super::{Blobs, convert};
use crate::Error;

/// A blob that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it became complete, by the clock of the store.
    pub modified: Timestamp,
}

fn modified(found: &ObjectMeta) -> Timestamp {
    // One that can not be told counts as new.
    Timestamp::from_millisecond(found.last_modified.timestamp_millis()).unwrap_or(Timestamp::MAX)
}

impl Blobs {
    /// Lists the blobs of a folder, such as `logs`, as they come: page by page, in no order. What is being
    /// written is not among them.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached; it ends the stream.
    pub fn list(&self, folder: &str) -> Result<BoxStream<'static, Result<Listed, Error>>, Error> {
        let prefix = self.path(folder)?;
        let above = self.prefix.clone();
        let all = self.store.list(Some(&prefix));
        Ok(all
            .map(move |found| {
                let found = found.map_err(|error| convert("list_blobs", "", error))?;
                let key: Option<Path> = found
                    .location
                    .prefix_match(&above)
                    .map(|parts| parts.collect());
                Ok(Listed {
                    key: key.map_or_else(String::new, |key| key.to_string()),
                    size: found.size,
                    modified: modified(&found),
                })
            })
            .boxed())
    }

    /// Returns the time by the clock of the store, which a small blob is written for.
    ///
    /// # Errors
    ///
    /// [`Error::StoreAway`] when the store can not be reached.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let key = self.key("check");
        let path = self.path(&key)?;
        let failed = |error| convert("ask_blobs_for_time", &key, error);
        let payload = PutPayload::from_static(b"muster");
        self.store.put(&path, payload).await.map_err(failed)?;
        let found = self.store.head(&path).await.map_err(failed)?;
        self.store.delete(&path).await.map_err(failed)?;
        Ok(modified(&found))
    }
}
