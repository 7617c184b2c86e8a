//! Reruns: which execution one runs again, and what of it is not started again but taken over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use muster_core::{
    execution::Lease,
    id::{AttemptId, ExecutionId},
};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel as _,
    QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict, Query},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Execution, Executions, Origin, Role, row};
use crate::{
    Error,
    attempt::{Held, Status},
    entity::{
        counted_execution as counted_row, execution as execution_row, taken_over as taken_row,
    },
    error::Kind,
    report, text,
    transaction::Failure,
};

/// How many ids go into one statement.
const CHUNK: usize = 500;
/// Most generations that are followed.
const GENERATIONS: usize = 64;

/// Which execution is run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerun {
    /// The earlier execution; it may be deleted by now.
    pub execution: ExecutionId,
    /// Its name for people.
    pub name: String,
    /// Only what failed is run again.
    pub failed: bool,
}

/// A child of an earlier execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Former {
    /// The child, with what it was for its parent.
    pub origin: Origin,
    /// The execution.
    pub execution: Execution,
}

/// Whose children.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of {
    Attempt(AttemptId),
    Execution(ExecutionId),
}

/// What was taken over, as children of who did: their origin says where they count now.
pub(super) async fn taken_over<C: ConnectionTrait>(
    db: &C,
    of: Of,
    limit: u64,
) -> Result<Vec<Execution>, Failure> {
    let condition = match of {
        Of::Attempt(attempt) => taken_row::Column::AttemptId.eq(attempt.as_uuid()),
        Of::Execution(execution) => taken_row::Column::ExecutionId.eq(execution.as_uuid()),
    };
    let notes = taken_row::Entity::find()
        .filter(condition)
        .order_by_asc(taken_row::Column::AttemptId)
        .order_by_asc(taken_row::Column::ChildGroup)
        .order_by_asc(taken_row::Column::ChildIndex)
        .limit(limit.min(i64::MAX as u64))
        .all(db)
        .await?;
    with_executions(db, notes).await
}

/// Notes, each with the execution that it tells of.
async fn with_executions<C: ConnectionTrait>(
    db: &C,
    notes: Vec<taken_row::Model>,
) -> Result<Vec<Execution>, Failure> {
    let mut found = HashMap::with_capacity(notes.len());
    for part in notes.chunks(CHUNK) {
        let rows = execution_row::Entity::find()
            .filter(execution_row::Column::Id.is_in(part.iter().map(|note| note.former_id)))
            .all(db)
            .await?;
        for row in rows {
            found.insert(row.id, row);
        }
    }
    let mut all = Vec::with_capacity(notes.len());
    for note in notes {
        if let Some(row) = found.get(&note.former_id)
            && let Some(role) = Role::from_name(&note.role)
        {
            all.push(Execution {
                origin: Some(Origin {
                    parent: note.execution_id.into(),
                    attempt: note.attempt_id.into(),
                    group: note.child_group,
                    index: note.child_index,
                    step: note.child_step,
                    role,
                    description: note.description,
                    inputs: row.child_inputs.clone(),
                    taken_over: true,
                }),
                ..row::record(row)?
            });
        }
    }
    Ok(all)
}

impl Executions<'_> {
    pub(super) async fn load_former(
        &self,
        of: ExecutionId,
        step: &str,
        indices: &[u32],
    ) -> Result<Vec<Former>, Error> {
        self.store
            .read("list_former_children", || async {
                let db = self.store.reader();
                let indices = || indices.iter().map(|index| i64::from(*index));
                let taken = taken_row::Entity::find()
                    .filter(taken_row::Column::ExecutionId.eq(of.as_uuid()))
                    .filter(taken_row::Column::ChildStep.eq(step))
                    .filter(taken_row::Column::ChildIndex.is_in(indices()))
                    .all(db)
                    .await?;
                let rows = self
                    .rows()
                    .filter(execution_row::Column::ParentId.eq(of.as_uuid()))
                    .filter(execution_row::Column::ChildStep.eq(step))
                    .filter(execution_row::Column::ChildIndex.is_in(indices()))
                    .order_by_asc(execution_row::Column::Id)
                    .all(db)
                    .await?;
                let own = rows.iter().map(row::record);
                // What it has started itself came behind what it has taken over.
                let mut all = with_executions(db, taken).await?;
                all.extend(own.collect::<Result<Vec<_>, _>>()?);
                let mut newest: BTreeMap<(&'static str, i64), Former> = BTreeMap::new();
                for execution in all {
                    if let Some(origin) = execution.origin.clone() {
                        let key = (origin.role.as_str(), origin.index);
                        newest.insert(key, Former { origin, execution });
                    }
                }
                Ok(newest.into_values().collect())
            })
            .await
    }

    pub(super) async fn find_taken_over(
        &self,
        id: ExecutionId,
        other: ExecutionId,
    ) -> Result<bool, Error> {
        self.store
            .read("find_taken_over", || async {
                let db = self.store.reader();
                self.require(db, id).await?;
                let note = taken_row::Entity::find()
                    .filter(taken_row::Column::ExecutionId.eq(id.as_uuid()))
                    .filter(taken_row::Column::FormerId.eq(other.as_uuid()))
                    .limit(1)
                    .one(db)
                    .await?;
                Ok(note.is_some())
            })
            .await
    }

    pub(super) async fn note_taken_over(
        &self,
        lease: Lease,
        children: &[(Origin, ExecutionId)],
    ) -> Result<(), Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("take_over_children", |tx| async move {
                let db = &*tx;
                let held = Held::lock(db, None, lease.attempt, now).await?;
                let parent = held.attempt.execution_id;
                self.require(db, parent.into()).await?;
                held.require_lease(lease, &[Status::Live])?;
                let root = report::root(db, parent).await?;
                // What an earlier attempt has taken over, this one may start.
                let outdated = taken_row::Entity::delete_many()
                    .filter(taken_row::Column::ExecutionId.eq(parent))
                    .filter(taken_row::Column::AttemptId.ne(lease.attempt.as_uuid()))
                    .exec(db)
                    .await?;
                for (origin, former) in children {
                    self.require(db, *former).await?;
                    let note = taken_row::Model {
                        attempt_id: lease.attempt.as_uuid(),
                        child_group: origin.group.clone(),
                        child_index: origin.index,
                        execution_id: parent,
                        child_step: origin.step.clone(),
                        role: origin.role.as_str().to_owned(),
                        description: text::message(&origin.description),
                        former_id: former.as_uuid(),
                    };
                    taken_row::Entity::insert(note.into_active_model().reset_all())
                        .on_conflict(OnConflict::new().do_nothing().to_owned())
                        .exec_without_returning(db)
                        .await
                        .map_err(|error| {
                            Failure::from(error)
                                .on_missing_reference(|| Error::not_found(Kind::Execution, *former))
                        })?;
                }
                if outdated.rows_affected == 0 {
                    let formers = children.iter().map(|(_, former)| former.as_uuid());
                    return count(db, root, formers.collect()).await;
                }
                counted_row::Entity::delete_many()
                    .filter(counted_row::Column::RootId.eq(root))
                    .exec(db)
                    .await?;
                let tree = below(db, vec![root], &[Link::Started]).await?;
                count(db, root, next(db, &tree, Link::TakenOver).await?).await
            })
            .await
    }
}

/// Lets former executions, and all that belongs to them, count for one at the top.
async fn count<C: ConnectionTrait>(db: &C, root: Uuid, formers: Vec<Uuid>) -> Result<(), Failure> {
    let counted = below(db, formers, &[Link::Started, Link::TakenOver]).await?;
    for part in counted.chunks(CHUNK) {
        let rows = part.iter().map(|id| {
            counted_row::Model {
                root_id: root,
                execution_id: *id,
            }
            .into_active_model()
            .reset_all()
        });
        counted_row::Entity::insert_many(rows)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .exec_without_returning(db)
            .await?;
    }
    Ok(())
}

/// How an execution came to belong to another one.
#[derive(Debug, Clone, Copy)]
enum Link {
    Started,
    TakenOver,
}

/// These executions, and all that belongs to them in one of these ways.
async fn below<C: ConnectionTrait>(
    db: &C,
    these: Vec<Uuid>,
    links: &[Link],
) -> Result<Vec<Uuid>, Failure> {
    let mut all: BTreeSet<Uuid> = these.iter().copied().collect();
    let mut parents = these;
    for _ in 0..GENERATIONS {
        let mut children = Vec::new();
        for link in links {
            children.extend(next(db, &parents, *link).await?);
        }
        children.retain(|id| all.insert(*id));
        if children.is_empty() {
            break;
        }
        parents = children;
    }
    Ok(all.into_iter().collect())
}

/// What belongs to these executions themselves.
async fn next<C: ConnectionTrait>(
    db: &C,
    parents: &[Uuid],
    link: Link,
) -> Result<Vec<Uuid>, Failure> {
    let mut found = Vec::new();
    for part in parents.chunks(CHUNK) {
        let part = part.iter().copied();
        let some: Vec<Uuid> = match link {
            Link::Started => {
                execution_row::Entity::find()
                    .select_only()
                    .column(execution_row::Column::Id)
                    .filter(execution_row::Column::ParentId.is_in(part))
                    .into_tuple()
                    .all(db)
                    .await?
            }
            Link::TakenOver => {
                taken_row::Entity::find()
                    .select_only()
                    .column(taken_row::Column::FormerId)
                    .filter(taken_row::Column::ExecutionId.is_in(part))
                    .into_tuple()
                    .all(db)
                    .await?
            }
        };
        found.extend(some);
    }
    Ok(found)
}

/// Whether an execution at the top has taken over something.
pub(crate) async fn has_taken_over<C: ConnectionTrait>(
    db: &C,
    top: ExecutionId,
) -> Result<bool, Failure> {
    let counted = counted_row::Entity::find()
        .filter(counted_row::Column::RootId.eq(top.as_uuid()))
        .limit(1)
        .one(db)
        .await?;
    Ok(counted.is_some())
}

/// The condition for rows of an execution at the top: its own, those of all that it has started, and those
/// of all that it has taken over. `root` and `execution` are the columns of the table that is asked.
pub(crate) async fn counts_for<C: ConnectionTrait>(
    db: &C,
    top: ExecutionId,
    root: impl ColumnTrait,
    execution: impl ColumnTrait,
) -> Result<Expr, Failure> {
    let own = root.eq(top.as_uuid());
    if !has_taken_over(db, top).await? {
        // Nearly all: one index answers.
        return Ok(own);
    }
    let others = Query::select()
        .column(counted_row::Column::ExecutionId)
        .from(counted_row::Entity)
        .and_where(counted_row::Column::RootId.eq(top.as_uuid()))
        .to_owned();
    Ok(sea_orm::ExprTrait::or(own, execution.in_subquery(others)))
}
