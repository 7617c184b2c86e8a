//! The queue as the scheduler sees it. What is read is bounded by the number of projects and lanes,
//! never by the number of executions that wait: the index is walked from lane to lane.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_core::{
    id::{ExecutionId, ProjectId},
    schedule::{Group, Lane, Place, Share},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Statement, Value, sea_query::Expr,
};
use uuid::Uuid;

use super::{Picture, Queue, hold};
use crate::{
    Error, attempt,
    entity::{attempt as attempt_row, execution as row, project as project_row},
    number::unsigned,
    text,
    transaction::Failure,
};

/// Most projects that are looked at together.
const MOST_PROJECTS: u64 = 10_000;
/// Most lanes of a project that are looked at together. A project that has more waits longer by
/// itself: the next look begins behind the last one.
const MOST_LANES: u64 = 100;
/// How many executions of a lane are looked at.
const MOST_OF_LANE: u32 = 256;

/// Projects with something in the queue: the index is walked from one to the next.
const PROJECTS: &str = "\
WITH RECURSIVE waiting (project_id) AS (
  SELECT project_id FROM (
    SELECT project_id FROM executions WHERE state = 'queued' ORDER BY project_id LIMIT 1
  ) AS first
  UNION ALL
  SELECT (
    SELECT project_id FROM executions
    WHERE state = 'queued' AND project_id > waiting.project_id ORDER BY project_id LIMIT 1
  ) FROM waiting WHERE waiting.project_id IS NOT NULL
)
SELECT project_id FROM waiting WHERE project_id IS NOT NULL LIMIT $1";

/// Lanes of a project behind a lane.
const LANES: &str = "\
WITH RECURSIVE waiting (lane) AS (
  SELECT lane FROM (
    SELECT lane FROM executions
    WHERE state = 'queued' AND project_id = $1 AND lane > $2 ORDER BY lane LIMIT 1
  ) AS first
  UNION ALL
  SELECT (
    SELECT lane FROM executions
    WHERE state = 'queued' AND project_id = $1 AND lane > waiting.lane ORDER BY lane LIMIT 1
  ) FROM waiting WHERE waiting.lane IS NOT NULL
)
SELECT lane FROM waiting WHERE lane IS NOT NULL LIMIT $3";

/// What the first execution of a lane says of all.
#[derive(Debug, FromQueryResult)]
struct Head {
    target_json: String,
    avoid_json: String,
    concurrency_group: Option<String>,
    concurrency_most: Option<i32>,
}

impl Queue<'_> {
    pub(super) async fn load_picture(&self, room: u32) -> Result<Picture, Error> {
        if room == 0 {
            return Ok(Picture::default());
        }
        self.store
            .read("look_at_queue", || async {
                let db = self.store.reader();
                let ids: Vec<Uuid> = column(db, PROJECTS, vec![MOST_PROJECTS.into()]).await?;
                let mut picture = Picture {
                    whole: (ids.len() as u64) < MOST_PROJECTS,
                    ..Picture::default()
                };
                if ids.is_empty() || hold::pause(db).await?.is_some() {
                    return Ok(picture);
                }
                let projects = project_row::Entity::find()
                    .filter(project_row::Column::Id.is_in(ids.iter().copied()))
                    .filter(project_row::Column::Paused.eq(false))
                    .all(db)
                    .await?;
                let running = running(db, &ids).await?;
                for project in projects {
                    let running = running.get(&project.id).copied().unwrap_or(0);
                    let left = match project.max_running {
                        Some(most) => Some(left(most, counted(db, project.id).await?)),
                        None => None,
                    };
                    if left == Some(0) {
                        picture.limited = true;
                        continue;
                    }
                    picture.shares.push(Share {
                        project: project.id.into(),
                        weight: unsigned(project.weight).max(1),
                        running,
                        left,
                    });
                    self.add_lanes(db, project.id, room, &mut picture).await?;
                }
                Ok(picture)
            })
            .await
    }

    async fn add_lanes<C: ConnectionTrait>(
        &self,
        db: &C,
        project: Uuid,
        room: u32,
        picture: &mut Picture,
    ) -> Result<(), Failure> {
        let lanes = self.lane_ids(db, project).await?;
        picture.whole &= (lanes.len() as u64) < MOST_LANES;
        for lane in lanes {
            let queued = || {
                row::Entity::find()
                    .filter(Expr::cust("state = 'queued'"))
                    .filter(row::Column::ProjectId.eq(project))
                    .filter(row::Column::Lane.eq(lane))
                    .order_by_asc(row::Column::QueueRank)
                    .order_by_asc(row::Column::Id)
            };
            let head = queued()
                .select_only()
                .columns([
                    row::Column::TargetJson,
                    row::Column::AvoidJson,
                    row::Column::ConcurrencyGroup,
                    row::Column::ConcurrencyMost,
                ])
                .into_model::<Head>()
                .one(db)
                .await?;
            let Some(head) = head else { continue };
            let read = text::decode(&head.target_json)
                .and_then(|target| Ok((target, text::decode(&head.avoid_json)?)));
            let (target, avoid) = match read {
                Ok(read) => read,
                Err(error) => {
                    // It waits until its queue deadline; the others do not wait with it.
                    tracing::error!(%lane, ?error, "executions in the queue can not be read");
                    continue;
                }
            };
            let group = match head.concurrency_group {
                Some(name) => {
                    let running = of_group(db, project, &name).await?;
                    let most = head.concurrency_most.map_or(1, unsigned).max(1);
                    if running >= most {
                        picture.limited = true;
                        continue;
                    }
                    Some(Group {
                        name,
                        running,
                        most,
                    })
                }
                None => None,
            };
            // From the index alone.
            let waiting: Vec<(i64, Uuid)> = queued()
                .select_only()
                .columns([row::Column::QueueRank, row::Column::Id])
                .limit(u64::from(room.min(MOST_OF_LANE)))
                .into_tuple()
                .all(db)
                .await?;
            picture.lanes.push(Lane {
                project: project.into(),
                target,
                avoid,
                group,
                waiting: waiting
                    .into_iter()
                    .map(|(rank, id)| Place {
                        rank,
                        execution: ExecutionId::from(id),
                    })
                    .collect(),
            });
        }
        Ok(())
    }

    /// The lanes of a project, at most as many as one look takes; the next look begins behind them.
    async fn lane_ids<C: ConnectionTrait>(
        &self,
        db: &C,
        project: Uuid,
    ) -> Result<Vec<Uuid>, Failure> {
        let from = self.store.turns().of(project.into());
        let mut lanes = lanes_behind(db, project, from).await?;
        let full = lanes.len() as u64 >= MOST_LANES;
        if !full && !from.is_nil() {
            // Round to the beginning, up to where this look began.
            let first = lanes_behind(db, project, Uuid::nil()).await?;
            lanes.extend(first.into_iter().filter(|lane| *lane <= from));
        }
        lanes.truncate(usize::try_from(MOST_LANES).unwrap_or(usize::MAX));
        let next = if full { lanes.last().copied() } else { None };
        self.store.turns().next(project.into(), next);
        Ok(lanes)
    }
}

/// Lanes of a project behind a lane, at most as many as one look takes.
async fn lanes_behind<C: ConnectionTrait>(
    db: &C,
    project: Uuid,
    lane: Uuid,
) -> Result<Vec<Uuid>, Failure> {
    let values = vec![project.into(), lane.into(), MOST_LANES.into()];
    column(db, LANES, values).await
}

/// One column of ids.
async fn column<C: ConnectionTrait>(
    db: &C,
    sql: &'static str,
    values: Vec<Value>,
) -> Result<Vec<Uuid>, Failure> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let rows = db.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| Ok(row.try_get_by_index(0)?))
        .collect()
}

/// How many executions agents hold, by project. Who shares with nobody needs no count.
pub(super) async fn running<C: ConnectionTrait>(
    db: &C,
    projects: &[Uuid],
) -> Result<BTreeMap<Uuid, u32>, Failure> {
    if projects.len() == 1 {
        return Ok(BTreeMap::new());
    }
    let counts: Vec<(Uuid, i64)> = attempt_row::Entity::find()
        .select_only()
        .column(attempt_row::Column::ProjectId)
        .column_as(attempt_row::Column::Id.count(), "held")
        .filter(attempt::is_live())
        .filter(attempt_row::Column::ProjectId.is_in(projects.iter().copied()))
        .group_by(attempt_row::Column::ProjectId)
        .into_tuple()
        .all(db)
        .await?;
    let counts = counts.into_iter();
    Ok(counts
        .map(|(project, count)| (project, u32::try_from(count).unwrap_or(u32::MAX)))
        .collect())
}

/// How many attempts of a project count for its quota: neither services nor those that wait for
/// what they have started, or a quota of one could never run a suite.
pub(crate) async fn counted<C: ConnectionTrait>(db: &C, project: Uuid) -> Result<u32, Failure> {
    const SQL: &str = "\
SELECT count(*) AS counted FROM attempts AS held
JOIN executions ON executions.id = held.execution_id
WHERE held.status = 'live' AND held.project_id = $1
  AND (executions.role IS NULL OR executions.role <> 'service')
  AND NOT EXISTS (
    SELECT 1 FROM executions AS children
    WHERE children.parent_attempt_id = held.id AND children.finish_time IS NULL
      AND children.role <> 'detached'
  )";
    count(db, SQL, vec![project.into()]).await
}

/// How many executions of a concurrency group agents hold.
pub(crate) async fn of_group<C: ConnectionTrait>(
    db: &C,
    project: Uuid,
    group: &str,
) -> Result<u32, Failure> {
    const SQL: &str = "\
SELECT count(*) AS counted FROM executions
WHERE project_id = $1 AND concurrency_group = $2
  AND concurrency_group IS NOT NULL AND lease_epoch IS NOT NULL";
    count(db, SQL, vec![project.into(), group.into()]).await
}

async fn count<C: ConnectionTrait>(
    db: &C,
    sql: &'static str,
    values: Vec<Value>,
) -> Result<u32, Failure> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let row = db.query_one_raw(statement).await?;
    let count: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What is left of a quota.
pub(super) fn left(most: i32, counted: u32) -> u32 {
    unsigned(most).saturating_sub(counted)
}

/// Where the next look at the lanes of a project begins, when it has too many for one.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<BTreeMap<ProjectId, Uuid>>);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProjectId, Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, project: ProjectId) -> Uuid {
        self.lock().get(&project).copied().unwrap_or_default()
    }

    fn next(&self, project: ProjectId, lane: Option<Uuid>) {
        let mut turns = self.lock();
        match lane {
            Some(lane) => turns.insert(project, lane),
            None => turns.remove(&project),
        };
    }
}
