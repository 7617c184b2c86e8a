//! How many executions a project may have waiting, and may make in a minute. Children do not count:
//! a run that has begun is not torn by a quota.

use std::collections::{BTreeMap, btree_map::Entry};

use jiff::{SignedDuration, Timestamp};
use muster_core::id::{ExecutionId, ProjectId};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect, Select,
    sea_query::{Expr, LockType},
};
use uuid::Uuid;

use crate::{
    Error,
    entity::{execution as row, project as project_row},
    time,
    transaction::Failure,
};

/// In milliseconds.
const MINUTE: u64 = 60_000;

/// What is left of the quotas of projects, in a transaction that makes executions.
///
/// Those who make executions of a project with quotas wait for one another, so that the count is
/// exact; all others do not.
#[derive(Debug, Default)]
pub(super) struct Quotas(BTreeMap<ProjectId, Option<Left>>);

/// What is left of the quotas of one project.
#[derive(Debug)]
struct Left {
    project: project_row::Model,
    queued: Option<u64>,
    made: Option<u64>,
}

impl Quotas {
    /// Takes one execution from the quotas of its project; refuses it when one is used up.
    pub(super) async fn admit<C: ConnectionTrait>(
        &mut self,
        db: &C,
        project: ProjectId,
        now: Timestamp,
    ) -> Result<Result<(), Error>, Failure> {
        let left = match self.0.entry(project) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(load(db, project, now).await?),
        };
        Ok(left.as_mut().map_or(Ok(()), Left::take))
    }
}

impl Left {
    fn take(&mut self) -> Result<(), Error> {
        let (queued, made) = (self.queued, self.made);
        let name = &self.project.name;
        if queued == Some(0) {
            let most = self.project.max_queued.unwrap_or(0);
            return Err(Error::QuotaExceeded(format!(
                "project {name} has {most} executions in the queue, which is its quota: wait until some \
                 have begun, cancel some, or let an administrator raise `max_queued`"
            )));
        }
        if made == Some(0) {
            let most = self.project.max_per_minute.unwrap_or(0);
            return Err(Error::QuotaExceeded(format!(
                "project {name} has made {most} executions in the last minute, which is its quota: try \
                 again in a moment, or let an administrator raise `max_per_minute`"
            )));
        }
        self.queued = queued.map(|left| left - 1);
        self.made = made.map(|left| left - 1);
        Ok(())
    }
}

async fn load<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    now: Timestamp,
) -> Result<Option<Left>, Failure> {
    let limited = project_row::Entity::find_by_id(project.as_uuid())
        .filter(Expr::cust(
            "(max_queued IS NOT NULL OR max_per_minute IS NOT NULL)",
        ))
        .lock(LockType::NoKeyUpdate)
        .one(db)
        .await?;
    let Some(limited) = limited else {
        return Ok(None);
    };
    let of_project = || {
        row::Entity::find()
            .select_only()
            .column(row::Column::Id)
            .filter(row::Column::ProjectId.eq(project.as_uuid()))
            .filter(Expr::cust("(role IS NULL OR role = 'detached')"))
    };
    let mut queued = None;
    if let Some(most) = limited.max_queued {
        let waiting = of_project().filter(Expr::cust("state = 'queued'"));
        queued = Some(left(db, waiting, most).await?);
    }
    let mut made = None;
    if let Some(most) = limited.max_per_minute {
        let since = now.checked_sub(SignedDuration::from_mins(1)).unwrap_or(now);
        let recent = of_project()
            // By the index of ids, or all that the project ever made would be read.
            .filter(row::Column::Id.gt(recent_id()))
            .filter(row::Column::CreateTime.gt(time::millis(since)));
        made = Some(left(db, recent, most).await?);
    }
    Ok(Some(Left {
        project: limited,
        queued,
        made,
    }))
}

/// An id below those of all executions that were made in the last minute: ids begin with the time, in
/// milliseconds.
fn recent_id() -> Uuid {
    let (now, _) = ExecutionId::generate().as_uuid().as_u64_pair();
    // One minute more for clocks of other servers.
    let since = (now >> 16).saturating_sub(2 * MINUTE);
    time::first_id(since)
}

/// How many more there may be; no more than the quota are counted.
async fn left<C: ConnectionTrait>(
    db: &C,
    query: Select<row::Entity>,
    most: i32,
) -> Result<u64, Failure> {
    let most = u64::try_from(most).unwrap_or(0);
    Ok(most.saturating_sub(query.limit(most).count(db).await?))
}
