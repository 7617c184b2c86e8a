//! A caller's wish to end an execution.

use muster_core::{
    execution::{Event, State, Stop},
    id::ExecutionId,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, sea_query::Expr};

use super::{Changed, Executions, row::Change, step};
use crate::{
    Error, Request,
    attempt::Held,
    audit::{self, Done},
    entity::execution_steps as steps_row,
    request, text,
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
                let before = change.told()?;
                if !change.apply(Event::Cancel(stop))? {
                    return change.unchanged();
                }
                let done = Done {
                    project: Some(self.project),
                    before,
                    after: change.told()?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
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
                held.keep_for()?;
                held.save(&*tx).await
            })
            .await
    }
}

/// Ends the steps of an execution that ended without an attempt.
pub(crate) async fn end_steps<C: ConnectionTrait>(
    db: &C,
    id: ExecutionId,
    state: State,
) -> Result<(), Failure> {
    let mut steps = super::list::steps(db, id).await?;
    step::end(&mut steps, state);
    steps_row::Entity::update_many()
        .col_expr(
            steps_row::Column::StepsJson,
            Expr::value(text::encode(&steps)?),
        )
        .filter(steps_row::Column::ExecutionId.eq(id.as_uuid()))
        .exec(db)
        .await?;
    Ok(())
}
