//! Request ids (AIP-155): what makes a mutation safe to repeat.

use std::collections::BTreeMap;

use muster_storage::Request;
use sha2::{Digest as _, Sha256};

use crate::app::{Caller, Error};

/// The content of a request, hashed field by field in a fixed order.
#[derive(Debug)]
pub(super) struct Content {
    method: &'static str,
    digest: Sha256,
}

impl Content {
    pub(super) fn new(method: &'static str) -> Self {
        Self {
            method,
            digest: Sha256::new(),
        }
    }

    pub(super) fn field(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.digest.update((value.len() as u64).to_be_bytes());
        self.digest.update(value);
        self
    }

    pub(super) fn pairs<'a>(
        mut self,
        pairs: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let sorted: BTreeMap<_, _> = pairs.into_iter().collect();
        self.digest.update((sorted.len() as u64).to_be_bytes());
        for (name, value) in sorted {
            self = self.field(name).field(value);
        }
        self
    }

    /// The request of a caller; `None` when it has no id and can not be repeated.
    pub(super) fn request(self, caller: &Caller, id: &str) -> Result<Option<Request>, Error> {
        if id.is_empty() {
            return Ok(None);
        }
        let id = id
            .parse()
            .map_err(|_refused| Error::invalid("request_id", "must be a UUID"))?;
        Ok(Some(Request {
            caller: caller.token,
            method: self.method,
            id,
            hash: self.digest.finalize().into(),
        }))
    }
}
