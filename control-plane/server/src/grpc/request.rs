//! Request ids (AIP-155): what makes a mutation safe to repeat; and what the audit log is told of it.

use std::collections::BTreeMap;

use muster_storage::Request;
use sha2::{Digest as _, Sha256};

use crate::app::{Caller, Error};

/// The content of a request, hashed field by field in a fixed order.
#[derive(Debug)]
pub(super) struct Content {
    method: &'static str,
    digest: Sha256,
    /// What it is about, when the audit log is told of it.
    resource: Option<String>,
    /// What the audit log is told that was given; secrets never come here.
    inputs: BTreeMap<String, String>,
}

impl Content {
    pub(super) fn new(method: &'static str) -> Self {
        Self {
            method,
            digest: Sha256::new(),
            resource: None,
            inputs: BTreeMap::new(),
        }
    }

    /// Lets the audit log have it, with the name of what it is about.
    pub(super) fn on(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// A field that the audit log may show.
    pub(super) fn input(self, name: &str, value: impl AsRef<str>) -> Self {
        self.note(name, value.as_ref()).field(value.as_ref())
    }

    /// What the audit log may show of a field.
    pub(super) fn note(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.inputs.insert(name.to_owned(), value);
        }
        self
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

    /// The request of a caller; `None` when it has no id, can not be repeated and is not noted.
    pub(super) fn request(self, caller: &Caller, id: &str) -> Result<Option<Request>, Error> {
        let parsed = match id {
            "" => Ok(None),
            given => given.parse().map(Some),
        };
        let note = self.resource.map(|resource| {
            let mut note = caller.call.note();
            note.resource = resource;
            note.inputs = self.inputs;
            note.request_id = parsed.as_ref().ok().copied().flatten();
            caller.call.changes(note)
        });
        let id = parsed.map_err(|_refused| Error::invalid("request_id", "must be a UUID"))?;
        if id.is_none() && note.is_none() {
            return Ok(None);
        }
        Ok(Some(Request {
            caller: caller.token,
            method: self.method,
            id,
            hash: self.digest.finalize().into(),
            note,
        }))
    }
}
