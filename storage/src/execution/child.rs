//! Executions that another execution has started: workers, services, members of a suite.

use std::collections::BTreeMap;

use muster_core::id::{AttemptId, ExecutionId};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use uuid::Uuid;

use super::{Execution, Executions, rerun, row};
use crate::{
    Error,
    attempt::{self, Attempt},
    entity::{attempt as attempt_row, execution as execution_row, execution_source as source_row},
    transaction::Failure,
};

/// Most children that the details of an execution have.
const MOST_SHOWN: u64 = 1000;
/// How many ids go into one statement.
const CHUNK: usize = 500;
/// Most generations: deeper suites are refused before.
const GENERATIONS: usize = 64;

/// What a child is to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// One of the workers of a step.
    Worker,
    /// A service.
    Service,
    /// A workflow of a suite.
    Member,
    /// A workflow of a suite that nobody waits for: it outlives its parent.
    Detached,
}

impl Role {
    /// The name that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Service => "service",
            Self::Member => "member",
            Self::Detached => "detached",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Worker, Self::Service, Self::Member, Self::Detached]
            .into_iter()
            .find(|role| role.as_str() == name)
    }
}

/// Which execution has started a child, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The parent.
    pub parent: ExecutionId,
    /// The attempt of the parent that has started it.
    pub attempt: AttemptId,
    /// Names the children that were started together.
    pub group: String,
    /// Its index among them.
    pub index: i64,
    /// Reference of the parent's step.
    pub step: String,
    /// What it is.
    pub role: Role,
    /// What sets it apart, for people.
    pub description: String,
    /// A digest of what it was given, by which a rerun knows it again; behind a dot, one of its config.
    pub inputs: Option<String>,
    /// It ran for the execution of which the parent is a rerun, and was not started again.
    pub taken_over: bool,
}

impl Origin {
    /// Whether both were given the same, in the same place of the same workflow. Of what is from before
    /// digests nobody knows. Descriptions may tell of durations, and do not count.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_again(other) && self.inputs == other.inputs
    }

    /// The same, whatever config they were given.
    #[must_use]
    pub fn is_again(&self, other: &Self) -> bool {
        let place = |origin: &Self| (origin.role, origin.index, origin.step.clone());
        let without = |inputs: &str| inputs.split('.').next().map(str::to_owned);
        let given = |origin: &Self| origin.inputs.as_deref().and_then(without);
        let inputs = given(self).zip(given(other));
        place(self) == place(other) && inputs.is_some_and(|(own, others)| own == others)
    }
}

/// A child with its placement.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// The child.
    pub execution: Execution,
    /// Its newest placement.
    pub attempt: Option<Attempt>,
}

pub(super) fn origin(row: &execution_row::Model) -> Option<Origin> {
    Some(Origin {
        parent: row.parent_id?.into(),
        attempt: row.parent_attempt_id?.into(),
        group: row.child_group.clone().unwrap_or_default(),
        index: row.child_index.unwrap_or_default(),
        step: row.child_step.clone().unwrap_or_default(),
        role: row.role.as_deref().and_then(Role::from_name)?,
        description: row.description.clone().unwrap_or_default(),
        inputs: row.child_inputs.clone(),
        taken_over: false,
    })
}

/// Executions that people have asked for, and those that stand for a workflow of their own.
pub(super) fn is_shown() -> Condition {
    Condition::all().add(Expr::cust(
        "(role IS NULL OR role NOT IN ('worker', 'service'))",
    ))
}

impl Executions<'_> {
    pub(super) async fn load_children(&self, parent: AttemptId) -> Result<Vec<Child>, Error> {
        self.store
            .snapshot("list_children", |tx| async move {
                let rows = self
                    .rows()
                    .filter(execution_row::Column::ParentAttemptId.eq(parent.as_uuid()))
                    .order_by_asc(execution_row::Column::ChildGroup)
                    .order_by_asc(execution_row::Column::ChildIndex)
                    .all(&*tx)
                    .await?;
                let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
                let mut attempts = newest_attempts(&*tx, &ids).await?;
                let mut children = rows
                    .into_iter()
                    .map(|row| {
                        Ok(Child {
                            attempt: attempts.remove(&row.id),
                            execution: row::record(&row)?,
                        })
                    })
                    .collect::<Result<Vec<_>, Failure>>()?;
                let taken = rerun::taken_over(&*tx, rerun::Of::Attempt(parent), u64::MAX).await?;
                if !taken.is_empty() {
                    children.extend(taken.into_iter().map(|execution| Child {
                        execution,
                        attempt: None,
                    }));
                    children.sort_by_cached_key(|child| {
                        let origin = child.execution.origin.as_ref();
                        origin.map(|origin| (origin.group.clone(), origin.index))
                    });
                }
                Ok(children)
            })
            .await
    }

    /// The first children of an execution, of all its attempts, and what it has taken over.
    pub(super) async fn some_children<C: ConnectionTrait>(
        &self,
        db: &C,
        parent: ExecutionId,
    ) -> Result<Vec<Execution>, Failure> {
        let rows = self
            .rows()
            .filter(execution_row::Column::ParentId.eq(parent.as_uuid()))
            .order_by_asc(execution_row::Column::Id)
            .limit(MOST_SHOWN)
            .all(db)
            .await?;
        let mut children = rows
            .iter()
            .map(row::record)
            .collect::<Result<Vec<_>, _>>()?;
        let room = MOST_SHOWN.saturating_sub(children.len() as u64);
        children.extend(rerun::taken_over(db, rerun::Of::Execution(parent), room).await?);
        Ok(children)
    }

    pub(super) async fn load_ancestors(&self, id: ExecutionId) -> Result<Vec<Execution>, Error> {
        self.store
            .snapshot("list_ancestors", |tx| async move {
                let mut ancestors = Vec::new();
                let mut next = self.load(&*tx, id).await?.origin;
                while let Some(origin) = next
                    && ancestors.len() < GENERATIONS
                {
                    let parent = self.load(&*tx, origin.parent).await?;
                    next = parent.origin.clone();
                    ancestors.push(parent);
                }
                Ok(ancestors)
            })
            .await
    }

    pub(super) async fn load_source(&self, id: ExecutionId) -> Result<Option<String>, Error> {
        self.store
            .read("get_execution_source", || async {
                let db = self.store.reader();
                self.require(db, id).await?;
                let row = source_row::Entity::find_by_id(id.as_uuid()).one(db).await?;
                Ok(row.map(|row| row.text))
            })
            .await
    }
}

async fn newest_attempts<C: ConnectionTrait>(
    db: &C,
    executions: &[Uuid],
) -> Result<BTreeMap<Uuid, Attempt>, Failure> {
    let mut newest = BTreeMap::new();
    for ids in executions.chunks(CHUNK) {
        let rows = attempt_row::Entity::find()
            .filter(attempt_row::Column::ExecutionId.is_in(ids.iter().copied()))
            .order_by_asc(attempt_row::Column::Epoch)
            .all(db)
            .await?;
        for row in rows {
            newest.insert(row.execution_id, attempt::record(row)?);
        }
    }
    Ok(newest)
}
