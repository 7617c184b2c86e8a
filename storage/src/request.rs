//! Requests that may be repeated: what a caller already did under a request id.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use muster_core::id::TokenId;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use crate::{
    Error,
    audit::Note,
    entity::{self, request as row},
    error::Kind,
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
    /// The caller's id of the request; without one it is done each time that it comes.
    pub id: Option<Uuid>,
    /// SHA-256 of the request's content without its id.
    pub hash: [u8; 32],
    /// What the audit log is told of it; nothing for what nobody has called for. Runs of one call share
    /// it, and have one event.
    pub note: Option<Arc<Note>>,
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
    /// Under what it is remembered, when it can be repeated.
    fn key(&self) -> Option<(Uuid, String, Uuid)> {
        let id = self.id?;
        Some((self.caller.as_uuid(), self.method.to_owned(), id))
    }

    /// The row of what it does, when it can be repeated.
    pub(crate) fn row(&self, resource: Uuid, revision: i64, now: Timestamp) -> Option<row::Model> {
        let (caller_id, method, id) = self.key()?;
        Some(row::Model {
            caller_id,
            method,
            id,
            hash: self.hash.to_vec(),
            resource_id: resource,
            resource_revision: revision,
            create_time: time::millis(now),
        })
    }

    /// What the row of an earlier request says, when it is of the same content.
    fn replay_of(&self, row: &row::Model) -> Result<Replay, Error> {
        if row.hash != self.hash {
            return Err(Error::RequestIdReused { id: row.id });
        }
        Ok(Replay {
            resource: row.resource_id,
            revision: row.resource_revision,
        })
    }
}

/// Looks which of several requests were done before, in their order. One that stands here twice
/// is a conflict: its second call has to be done after the first.
pub(crate) async fn replays<'a, C: ConnectionTrait>(
    requests: impl Iterator<Item = Option<&'a Request>> + Clone,
    db: &C,
) -> Result<Vec<Result<Option<Replay>, Error>>, Failure> {
    let keys = requests.clone().flatten().filter_map(Request::key);
    // In the order of the index.
    let (mut callers, mut methods, mut ids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (caller, method, id) in keys {
        callers.insert(caller);
        methods.insert(method);
        ids.insert(id);
    }
    let mut known = HashMap::new();
    if !ids.is_empty() {
        let rows = row::Entity::find()
            .filter(row::Column::CallerId.is_in(callers))
            .filter(row::Column::Method.is_in(methods))
            .filter(row::Column::Id.is_in(ids))
            .all(db)
            .await?;
        let key = |row: &row::Model| (row.caller_id, row.method.clone(), row.id);
        known.extend(rows.into_iter().map(|row| (key(&row), row)));
    }
    let mut here = HashSet::new();
    let mut replays = Vec::new();
    for request in requests {
        let keyed = request.and_then(|request| Some((request, request.key()?)));
        let Some((request, key)) = keyed else {
            replays.push(Ok(None));
            continue;
        };
        let id = key.2;
        let found = known.get(&key).map(|row| request.replay_of(row));
        if !here.insert(key) {
            return Err(Error::Conflict {
                kind: Kind::Execution,
                id: id.to_string(),
            }
            .into());
        }
        replays.push(found.transpose());
    }
    Ok(replays)
}

/// Looks whether the request was done before.
pub(crate) async fn replay<C: ConnectionTrait>(
    request: Option<&Request>,
    db: &C,
) -> Result<Option<Replay>, Failure> {
    let Some((request, key)) = request.and_then(|request| Some((request, request.key()?))) else {
        return Ok(None);
    };
    let Some(row) = row::Entity::find_by_id(key).one(db).await? else {
        return Ok(None);
    };
    Ok(Some(request.replay_of(&row)?))
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
    let Some(row) = request.and_then(|request| request.row(resource, revision, now)) else {
        return Ok(());
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
