//! Deadlines of what executions do, and attempts that are taken away.

use jiff::Timestamp;
use muster_core::{
    execution::{Event, Stop},
    id::{AttemptId, ExecutionId},
    policy::Ending,
    timer::{self, Due},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use uuid::Uuid;

use super::Queue;
use crate::{
    Error,
    attempt::{self, Held, Status},
    entity::execution as row,
    execution::{Change, Changed},
    page, time,
};

impl Queue<'_> {
    pub(super) async fn load_overdue(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExecutionId>, Error> {
        self.store
            .read("list_deadlines", || async {
                let due: Vec<Uuid> = row::Entity::find()
                    .select_only()
                    .column(row::Column::Id)
                    // Letter by letter the condition of the partial index.
                    .filter(Expr::cust("stage_deadline IS NOT NULL"))
                    .filter(row::Column::StageDeadline.lte(time::millis(now)))
                    .order_by_asc(row::Column::StageDeadline)
                    .limit(u64::from(page::limit(limit)))
                    .into_tuple()
                    .all(self.store.reader())
                    .await?;
                Ok(due.into_iter().map(ExecutionId::from).collect())
            })
            .await
    }

    pub(super) async fn follow_deadline(
        &self,
        id: ExecutionId,
        now: Timestamp,
    ) -> Result<Option<Changed>, Error> {
        self.store
            .transaction("pass_deadline", |tx| async move {
                let change = Change::of_attempt(&*tx, id, now).await?;
                let life = change.lifecycle()?;
                let is_due = change.deadline().is_some_and(|deadline| deadline <= now);
                let (Some(due), Some(lease), true) = (timer::due(&life), life.lease, is_due) else {
                    return Ok(None);
                };
                let mut held = Held::of(&*tx, change, lease.attempt, now).await?;
                let agent = held.attempt.agent_name.clone();
                match due {
                    Due::Start => {
                        let waited = held.change.policy()?.start_timeout().as_secs();
                        let last = match held.attempt.message.as_str() {
                            "" => String::new(),
                            message => format!("; the last word of it: {message}"),
                        };
                        let message =
                            format!("no step had begun on agent {agent} after {waited} s{last}");
                        held.lose(&*tx, Ending::NotStarted, false, "START_TIMEOUT", &message)
                            .await?;
                    }
                    Due::Run => {
                        held.change.apply(Event::RunDeadline)?;
                        let limit = held.change.policy()?.run_timeout().unwrap_or_default();
                        let message = format!("its steps took longer than {} s", limit.as_secs());
                        held.change.explain("RUN_TIMEOUT", &message);
                        held.change.event("RUN_TIMEOUT", &message);
                        held.keep_for()?;
                    }
                    Due::Grace => {
                        held.change.apply(Event::Cancel(Stop::Forced))?;
                        let grace = held.change.policy()?.stop_grace().as_secs();
                        let message = format!("it did not end within {grace} s and is killed");
                        held.change.event("GRACE_OVER", &message);
                    }
                    Due::Force => {
                        let message = format!(
                            "agent {agent} did not kill it in time, so it was taken from it"
                        );
                        let ending = Ending::AgentLost { begun: true };
                        held.lose(&*tx, ending, false, "NOT_KILLED", &message)
                            .await?;
                    }
                }
                Ok(Some(held.save(&*tx).await?))
            })
            .await
    }

    pub(super) async fn take_away(
        &self,
        attempt: AttemptId,
        reason: &str,
        message: &str,
    ) -> Result<Option<Changed>, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("revoke_attempt", |tx| async move {
                let mut held = Held::lock(&*tx, None, attempt, now).await?;
                if attempt::status(&held.attempt)? != Status::Live {
                    return Ok(None);
                }
                let begun = held.attempt.start_time.is_some();
                let ending = Ending::Interrupted { reason, begun };
                held.lose(&*tx, ending, false, reason, message).await?;
                Ok(Some(held.save(&*tx).await?))
            })
            .await
    }
}
