//! A caller's wish to end an execution.

use muster_core::{
    execution::{Event, State, Stop},
    id::ExecutionId,
};
use sea_orm::ConnectionTrait;

use super::{Changed, Executions, row::Change, step};
use crate::{
    Error, Request, attempt::Held, entity::execution_steps as steps_row, request, text,
    transaction::Failure,
};

impl Executions<'_> {
    pub(super) async fn request_stop(
        &self,
        id: ExecutionId,
        stop: Stop,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Changed, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("cancel_execution", |tx| async move {
                let replay = request::replay(request, &*tx).await?;
                let mut change = Change::of_project(&*tx, self.project, id, now).await?;
                if replay.is_some() {
                    return change.unchanged();
                }
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                if !change.apply(Event::Cancel(stop))? {
                    return change.unchanged();
                }
                let life = change.lifecycle()?;
                let Some(lease) = life.lease else {
                    change.explain("CANCELED", message);
                    change.state_event(message);
                    end_steps(&*tx, id, life.state).await?;
                    return change.save(&*tx).await;
                };
                change.explain("CANCEL_REQUESTED", message);
                change.event("CANCEL_REQUESTED", message);
                let mut held = Held::of(&*tx, change, lease.attempt, now).await?;
                held.keep_for(&*tx).await?;
                held.save(&*tx).await
            })
            .await
    }
}

/// Ends the steps of an execution that ended without a completion record.
pub(crate) async fn end_steps<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
    state: State,
) -> Result<(), Failure> {
    let mut steps = super::list::steps(db, id).await?;
    step::end(&mut steps, state);
    write_steps(db, id, &steps).await
}

/// Takes the results of all steps back, for the next attempt; returns them as JSON.
pub(crate) async fn reset_steps<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
) -> Result<String, Failure> {
    let mut steps = super::list::steps(db, id).await?;
    let kept = text::encode(&steps)?;
    step::reset(&mut steps);
    write_steps(db, id, &steps).await?;
    write_outputs(db, id, &[]).await?;
    Ok(kept)
}

/// Replaces what the steps gave out.
pub(crate) async fn write_outputs<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
    outputs: &[super::StepOutput],
) -> Result<(), Failure> {
    write(
        db,
        id,
        steps_row::Column::OutputsJson,
        text::encode(&outputs)?,
    )
    .await
}

/// Replaces the results of the steps.
pub(crate) async fn write_steps<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
    steps: &[super::StepResult],
) -> Result<(), Failure> {
    write(db, id, steps_row::Column::StepsJson, text::encode(&steps)?).await
}

async fn write<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
    column: steps_row::Column,
    json: String,
) -> Result<(), Failure> {
    use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};
    steps_row::Entity::update_many()
        .col_expr(column, Expr::value(json))
        .filter(steps_row::Column::ExecutionId.eq(id.as_uuid()))
        .exec(db)
        .await?;
    Ok(())
}
