//! Agents that come and that are here, many at a time: after an outage all of them come at once.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use muster_core::id::{AgentId, SessionId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{Agent, MOST_SUPERSEDED, Place, Told, record, row, running};
use crate::{
    Error, Store, entity, error::Kind, gather::Gathered, number::signed, text, time,
    transaction::Failure,
};

/// A process of an agent that wants its place.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(super) agent: AgentId,
    pub(super) told: Told,
}

/// An agent that is looked for by the hash of its token.
#[derive(Debug)]
pub(crate) struct ByToken(pub(super) [u8; 32]);

/// Who has the place of an agent.
#[derive(Debug)]
pub(crate) struct PlaceOf(pub(super) AgentId);

/// What an arrival changes.
const CHANGING: [row::Column; 8] = [
    row::Column::SupersededJson,
    row::Column::SessionId,
    row::Column::ToldLabelsJson,
    row::Column::Version,
    row::Column::Backend,
    row::Column::Capacity,
    row::Column::CapabilitiesJson,
    row::Column::LastSeenTime,
];

impl Gathered for Arrival {
    type Answer = Option<Agent>;

    const OPERATION: &'static str = "connect_agent";

    async fn all(
        store: &Store,
        calls: &[Self],
    ) -> Result<Vec<Result<Option<Agent>, Error>>, Error> {
        let now = store.clock().now();
        let ids: BTreeSet<Uuid> = calls.iter().map(|call| call.agent.as_uuid()).collect();
        let ids = &ids;
        store
            .transaction(Self::OPERATION, |tx| async move {
                let rows = row::Entity::find()
                    .filter(row::Column::Id.is_in(entity::padded(ids.iter().copied())))
                    // In one order for all, so that they can not wait for each other in a circle.
                    .order_by_asc(row::Column::Id)
                    .lock_exclusive()
                    .all(&*tx)
                    .await?;
                let mut rows: HashMap<Uuid, row::Model> =
                    rows.into_iter().map(|row| (row.id, row)).collect();
                let running = running(&*tx, entity::padded(ids.iter().copied())).await?;
                let mut changed = BTreeSet::new();
                let mut answers = Vec::with_capacity(calls.len());
                for call in calls {
                    let id = call.agent.as_uuid();
                    let Some(row) = rows.get_mut(&id) else {
                        answers.push(Err(Error::not_found(Kind::Agent, call.agent)));
                        continue;
                    };
                    if !take_place(row, &call.told, now)? {
                        answers.push(Ok(None));
                        continue;
                    }
                    changed.insert(id);
                    let held = running.get(&id).copied().unwrap_or(0);
                    answers.push(Ok(Some(record(row.clone(), held)?)));
                }
                let changed = changed.iter().filter_map(|id| rows.get(id));
                let changed = changed.map(|row| entity::change(row, row::Column::Id, &CHANGING));
                let (key, changed) = ([row::Column::Id], changed.collect());
                entity::update_all::<row::Entity, _>(&*tx, &key, &CHANGING, changed).await?;
                Ok(answers)
            })
            .await
    }
}

/// Gives a process the place of an agent; whether it may have it.
fn take_place(row: &mut row::Model, told: &Told, now: Timestamp) -> Result<bool, Failure> {
    let session = told.session.map(SessionId::as_uuid);
    let mut superseded: Vec<Uuid> = text::decode(&row.superseded_json)?;
    if session.is_some_and(|session| superseded.contains(&session)) {
        return Ok(false);
    }
    superseded.extend(row.session_id.filter(|old| Some(*old) != session));
    let surplus = superseded.len().saturating_sub(MOST_SUPERSEDED);
    superseded.drain(..surplus);
    row.superseded_json = text::encode(&superseded)?;
    row.session_id = session;
    row.told_labels_json = text::encode(&told.labels)?;
    row.version = text::reason(&told.version);
    row.backend = text::reason(&told.backend);
    row.capacity = signed(told.capacity);
    row.capabilities_json = text::encode(&told.capabilities)?;
    row.last_seen_time = Some(time::millis(now));
    Ok(true)
}

impl Gathered for ByToken {
    type Answer = Option<Agent>;

    const OPERATION: &'static str = "find_agent_by_token";

    async fn all(
        store: &Store,
        calls: &[Self],
    ) -> Result<Vec<Result<Option<Agent>, Error>>, Error> {
        let hashes: BTreeSet<[u8; 32]> = calls.iter().map(|call| call.0).collect();
        let hashes = entity::padded(hashes);
        let hashes = &hashes;
        store
            .read(Self::OPERATION, || async {
                let db = store.reader();
                let hashes = hashes.iter().map(|hash| hash.to_vec());
                let rows = row::Entity::find()
                    .filter(row::Column::TokenHash.is_in(hashes))
                    .all(db)
                    .await?;
                let running = running(db, entity::padded(rows.iter().map(|row| row.id))).await?;
                let mut agents = HashMap::with_capacity(rows.len());
                for row in rows {
                    let held = running.get(&row.id).copied().unwrap_or(0);
                    agents.insert(row.token_hash.clone(), record(row, held)?);
                }
                let found = calls
                    .iter()
                    .map(|call| Ok(agents.get(&call.0[..]).cloned()));
                Ok(found.collect())
            })
            .await
    }
}

impl Gathered for PlaceOf {
    type Answer = Place;

    const OPERATION: &'static str = "get_agent_place";

    async fn all(store: &Store, calls: &[Self]) -> Result<Vec<Result<Place, Error>>, Error> {
        let ids: BTreeSet<Uuid> = calls.iter().map(|call| call.0.as_uuid()).collect();
        let ids = entity::padded(ids);
        let ids = &ids;
        store
            .read(Self::OPERATION, || async {
                let rows: Vec<(Uuid, Option<Uuid>, bool)> = row::Entity::find()
                    .select_only()
                    .columns([
                        row::Column::Id,
                        row::Column::SessionId,
                        row::Column::Cordoned,
                    ])
                    .filter(row::Column::Id.is_in(ids.iter().copied()))
                    .into_tuple()
                    .all(store.reader())
                    .await?;
                let places = rows.into_iter().map(|(id, session, cordoned)| {
                    let session = session.map(SessionId::from);
                    (id, Place { session, cordoned })
                });
                let places: HashMap<Uuid, Place> = places.collect();
                let found = calls.iter().map(|PlaceOf(id)| {
                    let place = places.get(&id.as_uuid()).copied();
                    place.ok_or_else(|| Error::not_found(Kind::Agent, *id))
                });
                Ok(found.collect())
            })
            .await
    }
}
