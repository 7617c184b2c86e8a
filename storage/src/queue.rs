//! The instance's own work on executions of all projects: who gets what, expired leases and
//! deadlines, finished logs. For the server's scheduler and sweeps alone; no caller's request
//! comes here.

mod claim;
mod deadline;
mod hold;
mod offer;
mod picture;

use jiff::Timestamp;
use muster_core::{
    execution::{Event, State},
    id::{AgentId, AttemptId, ExecutionId},
    policy::Ending,
    schedule::{Grant, Lane, Share},
};
use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::Expr,
};
use uuid::Uuid;

use crate::{
    Error, Request, Store,
    attempt::{self, Attempt, Held, Status},
    entity::{attempt as row, execution as execution_row, request as request_row},
    execution::{self, Change, Changed, Execution, LogSummary},
    page, time,
    work::Assignment,
};

pub(crate) use claim::{plans, serving};
pub(crate) use offer::{Given, give};
pub use offer::{Giver, Offer};
pub(crate) use picture::{Turns, counted, of_group};

/// The queue at one moment, as far as it matters for who is served next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// All that waits is in it, but for what is paused or has no place now.
    pub whole: bool,
    /// Something waits for a place of a quota or of a concurrency group.
    pub limited: bool,
    /// Projects that wait for something, those that are paused left out.
    pub shares: Vec<Share>,
    /// What they wait for.
    pub lanes: Vec<Lane>,
}

/// What became of grants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claimed {
    /// Those that hold.
    pub assignments: Vec<Assignment>,
    /// Agents that are deleted.
    pub gone: Vec<AgentId>,
    /// Agents that take nothing more: somebody has cordoned them.
    pub cordoned: Vec<AgentId>,
}

/// Work on the executions of all projects.
#[derive(Debug)]
pub struct Queue<'a> {
    pub(crate) store: &'a Store,
}

impl Queue<'_> {
    /// Returns a picture of the queue for agents that have room for `room` executions together.
    /// It is of no one moment: what is planned by it holds only where [`Queue::claim`] says so.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn picture(&self, room: u32) -> Result<Picture, Error> {
        self.load_picture(room).await
    }

    /// Leases what was granted, as far as it still waits and quotas and groups still have places:
    /// attempt, epoch, lease and event are written in one transaction, and two claimers never get
    /// the same execution. After [`Error::CommitUnknown`] what was claimed is found by
    /// [`Work::live`](crate::work::Work::live) of each agent.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn claim(
        &self,
        grants: &[Grant],
        lease_expire_time: Timestamp,
    ) -> Result<Claimed, Error> {
        self.claim_granted(grants, lease_expire_time).await
    }

    /// Gives nothing out from now on, with a message, or lets the queue go on.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`].
    pub async fn hold(&self, pause: Option<&str>, request: Option<&Request>) -> Result<(), Error> {
        self.set_pause(pause, request).await
    }

    /// Returns the message of a pause of the whole queue; `None` while it goes on.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn pause(&self) -> Result<Option<String>, Error> {
        self.load_pause().await
    }

    /// Returns executions for which the time of what they do now has passed, the longest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<ExecutionId>, Error> {
        self.load_overdue(now, limit).await
    }

    /// Does what follows for one of them; `None` when it was in time after all.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn pass_deadline(
        &self,
        id: ExecutionId,
        now: Timestamp,
    ) -> Result<Option<Changed>, Error> {
        self.follow_deadline(id, now).await
    }

    /// Returns an attempt, whoever has it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn attempt(&self, id: AttemptId) -> Result<Attempt, Error> {
        self.store
            .read("get_attempt", || async {
                attempt::record(attempt::find(self.store.reader(), None, id).await?)
            })
            .await
    }

    /// Takes a live attempt from its agent, which may not know yet; `None` when it had ended
    /// before. What follows is the policy's answer to an interruption for this reason.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn revoke(
        &self,
        attempt: AttemptId,
        reason: &str,
        message: &str,
    ) -> Result<Option<Changed>, Error> {
        self.take_away(attempt, reason, message).await
    }

    /// Returns live attempts that count as lost, oldest first: the lease has ended, and the time
    /// that the policy gives the agent to come back.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Attempt>, Error> {
        self.store
            .read("list_expired_leases", || async {
                let rows = row::Entity::find()
                    .filter(attempt::is_live())
                    .filter(row::Column::LoseTime.lte(time::millis(now)))
                    .order_by_asc(row::Column::LoseTime)
                    .limit(u64::from(page::limit(limit)))
                    .all(self.store.reader())
                    .await?;
                rows.into_iter().map(attempt::record).collect()
            })
            .await
    }

    /// Ends an attempt that counts as lost by `now`; `None` when it was renewed or ended
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn expire(
        &self,
        attempt: AttemptId,
        now: Timestamp,
    ) -> Result<Option<Changed>, Error> {
        self.store
            .transaction("expire_lease", |tx| async move {
                let mut held = Held::lock(&*tx, None, attempt, now).await?;
                let live = attempt::status(&held.attempt)? == Status::Live;
                if !live || held.attempt.lose_time > time::millis(now) {
                    return Ok(None);
                }
                let message = format!(
                    "agent {} was not heard of until the lease ended",
                    held.attempt.agent_name
                );
                let begun = held.attempt.start_time.is_some();
                let ending = Ending::AgentLost { begun };
                held.lose(&*tx, ending, false, "AGENT_LOST", &message)
                    .await?;
                Ok(Some(held.save(&*tx).await?))
            })
            .await
    }

    /// Extends every live lease to at least `until`: the grace after an outage of the server.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn grant_grace(&self, until: Timestamp) -> Result<u64, Error> {
        self.store
            .transaction("grant_grace", |tx| async move {
                let until = time::millis(until);
                let extended = row::Entity::update_many()
                    .col_expr(row::Column::LeaseExpireTime, Expr::value(until))
                    .col_expr(
                        row::Column::LoseTime,
                        Expr::col(row::Column::LostAfter).add(until),
                    )
                    .filter(attempt::is_live())
                    .filter(row::Column::LeaseExpireTime.lt(until))
                    .exec(&*tx)
                    .await?;
                Ok(extended.rows_affected)
            })
            .await
    }

    /// Ends executions that waited longer than their queue deadline, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn expire_queued(&self, now: Timestamp, limit: u32) -> Result<Vec<Changed>, Error> {
        let now_millis = time::millis(now);
        let due = self
            .store
            .read("list_queue_deadlines", || async {
                let due: Vec<Uuid> = execution_row::Entity::find()
                    .select_only()
                    .column(execution_row::Column::Id)
                    .filter(Expr::cust(
                        "state = 'queued' AND queue_deadline IS NOT NULL",
                    ))
                    .filter(execution_row::Column::QueueDeadline.lte(now_millis))
                    .order_by_asc(execution_row::Column::QueueDeadline)
                    .limit(u64::from(page::limit(limit)))
                    .into_tuple()
                    .all(self.store.reader())
                    .await?;
                Ok(due)
            })
            .await?;
        let mut ended = Vec::with_capacity(due.len());
        for id in due {
            let changed = self
                .store
                .transaction("expire_queued", |tx| async move {
                    let mut change = Change::of_attempt(&*tx, id.into(), now).await?;
                    // Claimed or canceled meanwhile.
                    if change.lifecycle()?.state != State::Queued {
                        return Ok(None);
                    }
                    change.apply(Event::QueueDeadline)?;
                    let message = "no agent took it before the queue deadline; see that an agent \
                         with the labels of its target is connected and has room";
                    change.explain("QUEUE_DEADLINE", message);
                    change.state_event(message);
                    execution::end_steps(&*tx, id.into(), State::Aborted).await?;
                    Ok(Some(change.save(&*tx).await?))
                })
                .await?;
            ended.extend(changed);
        }
        Ok(ended)
    }

    /// Stores that the log of an attempt is complete or never will be, as the server found it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn finish_log(
        &self,
        attempt: AttemptId,
        summary: &LogSummary,
    ) -> Result<Execution, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("finish_log", |tx| async move {
                let mut held = Held::lock(&*tx, None, attempt, now).await?;
                held.attempt.log_ended = true;
                held.attempt.log_complete = summary.complete;
                // The log of an older attempt is not the log of the execution, and one that waits
                // to run again has none yet.
                let lifecycle = held.change.lifecycle()?;
                let newest = held.attempt.epoch == lifecycle.last_epoch;
                if !newest || !lifecycle.state.is_terminal() {
                    held.save_attempt(&*tx).await?;
                    return Ok(held.change.unchanged()?.execution);
                }
                held.change.log(summary);
                if summary.complete {
                    held.change.event("LOG_COMPLETE", "");
                } else {
                    held.change
                        .event("LOG_INCOMPLETE", "not every byte of the log came here");
                }
                Ok(held.save(&*tx).await?.execution)
            })
            .await
    }

    /// Returns attempts with an accepted result whose log was never finished, for the sweep
    /// after a crash, oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn unfinished_logs(&self, limit: u32) -> Result<Vec<Attempt>, Error> {
        self.store
            .read("list_unfinished_logs", || async {
                let rows = row::Entity::find()
                    .filter(Expr::cust("status <> 'live' AND NOT log_ended"))
                    .order_by_asc(row::Column::Id)
                    .limit(u64::from(page::limit(limit)))
                    .all(self.store.reader())
                    .await?;
                rows.into_iter().map(attempt::record).collect()
            })
            .await
    }

    /// Returns live children whose parent's attempt has ended, and which do not outlive it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn orphans(&self, limit: u32) -> Result<Vec<Execution>, Error> {
        self.store
            .read("list_orphans", || async {
                let live = row::Entity::find()
                    .select_only()
                    .column(row::Column::Id)
                    .filter(Expr::cust("status = 'live'"))
                    .into_query();
                let query = execution_row::Entity::find()
                    .filter(Expr::cust(
                        "parent_attempt_id IS NOT NULL AND finish_time IS NULL AND role <> 'detached' AND stop IS NULL",
                    ))
                    .filter(execution_row::Column::ParentAttemptId.not_in_subquery(live))
                    .limit(u64::from(page::limit(limit)));
                let rows = query.all(self.store.reader()).await?;
                rows.iter().map(execution::record).collect()
            })
            .await
    }

    /// Forgets request ids made before `before`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn prune_requests(&self, before: Timestamp) -> Result<u64, Error> {
        self.store
            .transaction("prune_requests", |tx| async move {
                let deleted = request_row::Entity::delete_many()
                    .filter(request_row::Column::CreateTime.lt(time::millis(before)))
                    .exec(&*tx)
                    .await?;
                Ok(deleted.rows_affected)
            })
            .await
    }
}
