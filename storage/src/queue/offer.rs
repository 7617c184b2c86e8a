//! Giving new executions out in the transaction that accepts them, when nothing waits that the same
//! agents could take: no look at the queue, no claim, and one wait for the disk less than by way of
//! the queue. Who gets what is decided by the same rules, over a queue that holds these executions
//! alone. Whether anything waits is known by who offers the agents.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use muster_core::{
    id::{ExecutionId, ProjectId},
    schedule::{Grant, Lane, Place, Share},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::{Claimed, claim, hold, picture};
use crate::{
    attempt,
    entity::{
        self, attempt as attempt_row, execution as row, execution_event as event_row,
        project as project_row,
    },
    execution, number, text,
    transaction::Failure,
    work::Assignment,
};

/// Who knows agents that may take new executions at once.
pub trait Giver: fmt::Debug + Send + Sync {
    /// Its agents with room; nobody else gives them anything until the offer is dropped. `None`
    /// when no agent takes work now, or something waits that they could take.
    fn offer(&self) -> BoxFuture<'_, Option<Box<dyn Offer>>>;

    /// New executions wait in the queue.
    fn queued(&self);
}

/// Agents that can take work now.
pub trait Offer: Send + Sync {
    /// Plans who gets what of a queue. What was planned before is given up.
    fn plan(&self, shares: &[Share], lanes: &[Lane]) -> Vec<Grant>;

    /// When the leases of what is given end.
    fn lease_expire_time(&self) -> Timestamp;

    /// What was planned last is committed, as far as it is here.
    fn deliver(self: Box<Self>, claimed: Claimed);

    /// Nobody knows whether what was planned last is committed.
    fn doubt(self: Box<Self>);
}

/// What is known of a project for sharing.
struct Sharing {
    name: String,
    max_log: Option<i64>,
    share: Share,
}

/// What new executions became that agents were given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) claimed: Claimed,
    pub(crate) attempts: Vec<attempt_row::Model>,
    pub(crate) events: Vec<event_row::Model>,
}

/// Gives executions that are about to be inserted to agents, all that the offer has room for, and
/// changes their rows. Gives nothing when one of their projects has a quota or is paused: then all go by
/// way of the queue. None of them has a parent or a concurrency group.
pub(crate) async fn give<C: ConnectionTrait>(
    db: &C,
    offer: &dyn Offer,
    rows: &mut [row::Model],
    plans: impl Fn(usize) -> Bytes,
    now: Timestamp,
) -> Result<Given, Failure> {
    if rows.is_empty() {
        return Ok(Given::default());
    }
    let projects: BTreeSet<Uuid> = rows.iter().map(|row| row.project_id).collect();
    let projects: Vec<Uuid> = projects.into_iter().collect();
    let Some(sharing) = free(db, &projects).await? else {
        return Ok(Given::default());
    };
    let shares: Vec<Share> = sharing.values().map(|it| it.share.clone()).collect();
    let grants = offer.plan(&shares, &lanes(rows)?);
    if grants.is_empty() {
        return Ok(Given::default());
    }
    let agents = claim::agents(db, &grants).await?;
    let until = offer.lease_expire_time();
    let mut given = Given::default();
    let indices = rows.iter().enumerate().map(|(index, row)| (row.id, index));
    let indices: HashMap<Uuid, usize> = indices.collect();
    for grant in &grants {
        let Some(agent) = given.claimed.takes(grant.agent, &agents) else {
            continue;
        };
        let Some(&index) = indices.get(&grant.execution.as_uuid()) else {
            continue;
        };
        let new = Arc::new(rows[index].clone());
        let (change, attempt) = claim::lease(new, agent, until, now)?;
        let (row, events) = change.into_new();
        let sharing = sharing.get(&grant.project);
        given.claimed.assignments.push(Assignment {
            attempt: attempt::record(attempt.clone())?,
            project_name: sharing.map_or_else(String::new, |it| it.name.clone()),
            max_log: sharing.and_then(|it| it.max_log),
            plan: plans(index),
            execution: execution::record(&row)?,
        });
        given.attempts.push(attempt);
        given.events.extend(events);
        rows[index] = row;
    }
    Ok(given)
}

/// The projects of new executions, when none of them has a quota, and nothing is paused.
async fn free<C: ConnectionTrait>(
    db: &C,
    projects: &[Uuid],
) -> Result<Option<BTreeMap<ProjectId, Sharing>>, Failure> {
    let rows: Vec<(Uuid, String, i32, Option<i64>)> = project_row::Entity::find()
        .select_only()
        .columns([
            project_row::Column::Id,
            project_row::Column::Name,
            project_row::Column::Weight,
            project_row::Column::MaxLog,
        ])
        .filter(project_row::Column::Id.is_in(entity::padded(projects.iter().copied())))
        .filter(project_row::Column::Paused.eq(false))
        .filter(project_row::Column::MaxRunning.is_null())
        .filter(hold::is_off())
        .into_tuple()
        .all(db)
        .await?;
    if rows.len() < projects.len() {
        return Ok(None);
    }
    let running = picture::running(db, projects).await?;
    let sharing = rows.into_iter().map(|(id, name, weight, max_log)| {
        let share = Share {
            project: id.into(),
            weight: number::unsigned(weight).max(1),
            running: running.get(&id).copied().unwrap_or(0),
            left: None,
        };
        let sharing = Sharing {
            name,
            max_log,
            share,
        };
        (sharing.share.project, sharing)
    });
    Ok(Some(sharing.collect()))
}

/// The queue of new executions.
fn lanes(rows: &[row::Model]) -> Result<Vec<Lane>, Failure> {
    let mut lanes: BTreeMap<Option<Uuid>, Lane> = BTreeMap::new();
    for row in rows {
        let place = Place {
            rank: row.queue_rank,
            execution: ExecutionId::from(row.id),
        };
        if let Some(lane) = lanes.get_mut(&row.lane) {
            lane.waiting.push(place);
            continue;
        }
        let lane = Lane {
            project: row.project_id.into(),
            target: text::decode(&row.target_json)?,
            avoid: Vec::new(),
            group: None,
            waiting: vec![place],
        };
        lanes.insert(row.lane, lane);
    }
    let lanes = lanes.into_values().map(|mut lane| {
        lane.waiting.sort_unstable();
        lane
    });
    Ok(lanes.collect())
}
