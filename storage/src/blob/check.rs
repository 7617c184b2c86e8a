//! Trying the blobs out at the start, with errors that name the cure.

use std::time::Duration;

use object_store::{ObjectStoreExt, PutPayload};

use super::{Blobs, place};
use crate::Error;

/// How long a start may wait for the object store.
const PATIENCE: Duration = Duration::from_secs(30);

impl Blobs {
    pub(super) async fn try_out(&self) -> Result<(), Error> {
        match tokio::time::timeout(PATIENCE, self.round_trip()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let reason = self.cure(&error);
                Err(place::refuse(&self.place, reason, Some(error.into())))
            }
            Err(late) => {
                let reason = "no answer within 30 seconds; check the endpoint and the network";
                Err(place::refuse(&self.place, reason, Some(late.into())))
            }
        }
    }

    async fn round_trip(&self) -> Result<(), object_store::Error> {
        let path = self
            .path(&self.key("check"))
            .map_err(|error| object_store::Error::Generic {
                store: "blobs",
                source: error.into(),
            })?;
        let written = PutPayload::from_static(b"muster");
        self.store.put(&path, written).await?;
        let read = self.store.get(&path).await?.bytes().await?;
        self.store.delete(&path).await?;
        if read == "muster" {
            return Ok(());
        }
        Err(object_store::Error::Generic {
            store: "blobs",
            source: "what was read is not what was written".into(),
        })
    }

    fn cure(&self, error: &object_store::Error) -> &'static str {
        let local = self.place.starts_with("file:");
        match error {
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. }
                if local =>
            {
                "the directory can not be written; make it writable for this user"
            }
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                "access is denied; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, that the bucket is there, and the rights on it"
            }
            object_store::Error::NotFound { .. } if !local => {
                "the bucket is not there; make it, or correct its name or region"
            }
            _ if local => {
                "the directory can not be used; check that its disk is there and has room"
            }
            _ => "the object store can not be used; check endpoint, region and network",
        }
    }
}
