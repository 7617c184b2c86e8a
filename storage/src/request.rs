//! Requests that may be repeated: what a caller already did under a request id.

use jiff::Timestamp;
use muster_core::id::TokenId;
use sea_orm::{ConnectionTrait, EntityTrait};
use uuid::Uuid;

use crate::{
    Error,
    entity::{self, request as row},
    time,
    transaction::Failure,
};

/// Identifies one request of one caller. Stored in the same transaction as what it did, so a
/// repeat returns the first result instead of doing it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The token that called.
    pub caller: TokenId,
    /// The method, for example `CreateExecution`.
    pub method: &'static str,
    /// The caller's id of the request.
    pub id: Uuid,
    /// SHA-256 of the request's content without its id.
    pub hash: [u8; 32],
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// What is stored now.
    pub value: T,
    /// The request was a repeat and changed nothing.
    pub replayed: bool,
}

/// What an earlier request with the same id did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replay {
    pub(crate) resource: Uuid,
    pub(crate) revision: i64,
}

impl Request {
    fn key(&self) -> (Uuid, String, Uuid) {
        (self.caller.as_uuid(), self.method.to_owned(), self.id)
    }
}

/// Looks whether the request was done before.
pub(crate) async fn replay<C: ConnectionTrait>(
    request: Option<&Request>,
    db: &C,
) -> Result<Option<Replay>, Failure> {
    let Some(request) = request else {
        return Ok(None);
    };
    let Some(row) = row::Entity::find_by_id(request.key()).one(db).await? else {
        return Ok(None);
    };
    if row.hash != request.hash {
        return Err(Error::RequestIdReused { id: request.id }.into());
    }
    Ok(Some(Replay {
        resource: row.resource_id,
        revision: row.resource_revision,
    }))
}

/// Notes what the request does. To be called before the change itself, so that the same request
/// at the same moment waits here and then finds what the first one did.
pub(crate) async fn record<C: ConnectionTrait>(
    request: Option<&Request>,
    db: &C,
    resource: Uuid,
    revision: i64,
    now: Timestamp,
) -> Result<(), Failure> {
    let Some(request) = request else {
        return Ok(());
    };
    let row = row::Model {
        caller_id: request.caller.as_uuid(),
        method: request.method.to_owned(),
        id: request.id,
        hash: request.hash.to_vec(),
        resource_id: resource,
        resource_revision: revision,
        create_time: time::millis(now),
    };
    entity::insert::<row::Entity, _>(db, row)
        .await
        .map_err(|error| Failure::from(error).again_on_unique())
}

impl<T> Written<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value,
            replayed: false,
        }
    }

    pub(crate) const fn replayed(value: T) -> Self {
        Self {
            value,
            replayed: true,
        }
    }
}
