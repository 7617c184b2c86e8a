//! Reading executions.

use bytes::Bytes;
use muster_core::id::ExecutionId;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use uuid::Uuid;

use super::{Details, Event, Execution, Executions, StepOutput, StepResult, row};
use crate::{
    Error, Page, attempt,
    entity::{
        attempt as attempt_row, execution as execution_row, execution_event as event_row,
        execution_plan as plan_row, execution_steps as steps_row,
    },
    error::Kind,
    page, text, time,
    transaction::Failure,
};

impl Executions<'_> {
    pub(super) fn rows(&self) -> Select<execution_row::Entity> {
        execution_row::Entity::find()
            .filter(execution_row::Column::ProjectId.eq(self.project.as_uuid()))
    }

    pub(crate) async fn load<C: ConnectionTrait>(
        &self,
        db: &C,
        id: ExecutionId,
    ) -> Result<Execution, Failure> {
        let row = self
            .rows()
            .filter(execution_row::Column::Id.eq(id.as_uuid()))
            .one(db)
            .await?
            .ok_or_else(|| Error::not_found(Kind::Execution, id))?;
        with_live_log(db, row).await
    }

    pub(super) async fn load_by_name(&self, name: &str) -> Result<Execution, Error> {
        self.store
            .read("find_execution", || async {
                let db = self.store.reader();
                let rows = match name.parse::<Uuid>() {
                    Ok(id) => self.rows().filter(execution_row::Column::Id.eq(id)),
                    Err(_) => self
                        .rows()
                        .filter(execution_row::Column::DisplayName.eq(name)),
                };
                let row = rows
                    .one(db)
                    .await?
                    .ok_or_else(|| Error::not_found(Kind::Execution, name))?;
                with_live_log(db, row).await
            })
            .await
    }

    pub(super) async fn load_details(&self, id: ExecutionId) -> Result<Details, Error> {
        self.store
            .snapshot("get_execution_details", |tx| async move {
                let execution = self.load(&*tx, id).await?;
                let (steps, outputs) = steps_and_outputs(&*tx, id).await?;
                let attempts = attempt_row::Entity::find()
                    .filter(attempt_row::Column::ExecutionId.eq(id.as_uuid()))
                    .order_by_asc(attempt_row::Column::Epoch)
                    .all(&*tx)
                    .await?;
                Ok(Details {
                    execution,
                    steps,
                    outputs,
                    children: self.some_children(&*tx, id).await?,
                    attempts: attempts
                        .into_iter()
                        .map(attempt::record)
                        .collect::<Result<_, _>>()?,
                })
            })
            .await
    }

    pub(super) async fn load_resolved(&self, id: ExecutionId) -> Result<Option<String>, Error> {
        self.store
            .read("get_execution_workflow", || async {
                let db = self.store.reader();
                self.require(db, id).await?;
                let plan = plan_row::Entity::find_by_id(id.as_uuid()).one(db).await?;
                Ok(plan.and_then(|plan| plan.resolved))
            })
            .await
    }

    pub(super) async fn load_plan(&self, id: ExecutionId) -> Result<Bytes, Error> {
        self.store
            .read("get_execution_plan", || async {
                let db = self.store.reader();
                self.require(db, id).await?;
                let plan = plan_row::Entity::find_by_id(id.as_uuid()).one(db).await?;
                let plan = plan.ok_or_else(|| Error::not_found(Kind::Execution, id))?;
                Ok(Bytes::from(plan.plan))
            })
            .await
    }

    pub(super) async fn load_events(
        &self,
        id: ExecutionId,
        after: i64,
        limit: u32,
    ) -> Result<Page<Event, i64>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_execution_events", || async {
                let db = self.store.reader();
                self.require(db, id).await?;
                let rows = event_row::Entity::find()
                    .filter(event_row::Column::ExecutionId.eq(id.as_uuid()))
                    .filter(event_row::Column::Sequence.gt(after))
                    .order_by_asc(event_row::Column::Sequence)
                    .limit(u64::from(limit) + 1)
                    .all(db)
                    .await?;
                let items = rows.into_iter().map(event).collect();
                Ok(Page::new(items, limit, |event: &Event| event.sequence))
            })
            .await
    }

    /// Refuses an execution that is not of this project.
    pub(crate) async fn require<C: ConnectionTrait>(
        &self,
        db: &C,
        id: ExecutionId,
    ) -> Result<(), Failure> {
        let found: Option<Uuid> = self
            .rows()
            .filter(execution_row::Column::Id.eq(id.as_uuid()))
            .select_only()
            .column(execution_row::Column::Id)
            .into_tuple()
            .one(db)
            .await?;
        match found {
            Some(_) => Ok(()),
            None => Err(Error::not_found(Kind::Execution, id).into()),
        }
    }
}

fn event(row: event_row::Model) -> Event {
    Event {
        sequence: row.sequence,
        time: time::timestamp(row.time),
        kind: row.kind,
        message: row.message,
    }
}

pub(crate) async fn steps<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
) -> Result<Vec<StepResult>, Failure> {
    Ok(steps_and_outputs(db, id).await?.0)
}

pub(crate) async fn steps_and_outputs<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
) -> Result<(Vec<StepResult>, Vec<StepOutput>), Failure> {
    match steps_row::Entity::find_by_id(id.as_uuid()).one(db).await? {
        Some(row) => Ok((
            text::decode(&row.steps_json)?,
            text::decode(&row.outputs_json)?,
        )),
        None => Ok((Vec::new(), Vec::new())),
    }
}

/// A log that still grows is counted in its attempt.
async fn with_live_log<C: ConnectionTrait>(
    db: &C,
    row: execution_row::Model,
) -> Result<Execution, Failure> {
    let mut execution = row::record(&row)?;
    if execution.lifecycle.last_epoch > 0 && !execution.log.complete {
        let newest = newest_attempt(db, execution.id).await?;
        if let Some(attempt) = newest.filter(|attempt| !attempt.log_ended) {
            execution.log.size = attempt.log_offset;
        }
    }
    Ok(execution)
}

pub(crate) async fn newest_attempt<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
) -> Result<Option<attempt_row::Model>, Failure> {
    Ok(attempt_row::Entity::find()
        .filter(attempt_row::Column::ExecutionId.eq(id.as_uuid()))
        .order_by_desc(attempt_row::Column::Epoch)
        .limit(1)
        .one(db)
        .await?)
}
