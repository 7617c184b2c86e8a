//! How many executions a project may have waiting, and may make in a minute. Children do not count:
//! a run that has begun is not torn by a quota.

use jiff::{SignedDuration, Timestamp};
use muster_core::id::ProjectId;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect, Select,
    sea_query::{Expr, LockType},
};

use crate::{
    Error,
    entity::{execution as row, project as project_row},
    time,
    transaction::Failure,
};

/// Refuses one more execution of a project that has used up a quota.
///
/// Those who make executions of a project with quotas wait for one another, so that the count is
/// exact; all others do not.
pub(super) async fn admit<C: ConnectionTrait>(
    db: &C,
    project: ProjectId,
    now: Timestamp,
) -> Result<(), Failure> {
    let limited = project_row::Entity::find_by_id(project.as_uuid())
        .filter(Expr::cust(
            "(max_queued IS NOT NULL OR max_per_minute IS NOT NULL)",
        ))
        .lock(LockType::NoKeyUpdate)
        .one(db)
        .await?;
    let Some(limited) = limited else {
        return Ok(());
    };
    let of_project = || {
        row::Entity::find()
            .select_only()
            .column(row::Column::Id)
            .filter(row::Column::ProjectId.eq(project.as_uuid()))
            .filter(Expr::cust("(role IS NULL OR role = 'detached')"))
    };
    if let Some(most) = limited.max_queued {
        let queued = of_project().filter(Expr::cust("state = 'queued'"));
        if reaches(db, queued, most).await? {
            return Err(Error::QuotaExceeded(format!(
                "project {} has {most} executions in the queue, which is its quota: wait until some \
                 have begun, cancel some, or let an administrator raise `max_queued`",
                limited.name
            ))
            .into());
        }
    }
    if let Some(most) = limited.max_per_minute {
        let since = now.checked_sub(SignedDuration::from_mins(1)).unwrap_or(now);
        let made = of_project().filter(row::Column::CreateTime.gt(time::millis(since)));
        if reaches(db, made, most).await? {
            return Err(Error::QuotaExceeded(format!(
                "project {} has made {most} executions in the last minute, which is its quota: try \
                 again in a moment, or let an administrator raise `max_per_minute`",
                limited.name
            ))
            .into());
        }
    }
    Ok(())
}

/// Whether there are as many; no more are counted.
async fn reaches<C: ConnectionTrait>(
    db: &C,
    query: Select<row::Entity>,
    most: i32,
) -> Result<bool, Failure> {
    let most = u64::try_from(most).unwrap_or(0);
    Ok(query.limit(most).count(db).await? >= most)
}
