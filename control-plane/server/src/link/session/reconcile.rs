//! What to do with each attempt when an agent connects: the store is right, whatever the agent
//! believes.

use std::collections::{HashMap, HashSet};

use muster_core::{execution::Lease, id::AttemptId};
use muster_proto::v1::{AttemptOrder, AttemptRef, attempt_order::Action, link_response::Message};
use muster_storage::{attempt::Status, work::Live};

use super::{Stage, assignment, lease};
use crate::{
    app::Error,
    link::{cancel_attempt, pause_attempt},
};

impl Stage {
    /// An order for every attempt that the agent told, and for those that it should know.
    pub(super) async fn reconcile(&self, told: &[AttemptRef]) -> Result<Vec<AttemptOrder>, Error> {
        let work = self.app.store.agent(self.agent.id);
        // The leases are renewed first: an agent that is here is alive.
        let live = work.live().await?;
        let leases: Vec<Lease> = live.iter().map(|live| live.attempt.lease()).collect();
        let lost: HashSet<_> = work
            .renew(&leases, self.app.lease_end())
            .await?
            .into_iter()
            .map(|lease| lease.attempt)
            .collect();
        let live: Vec<Live> = live
            .into_iter()
            .filter(|live| !lost.contains(&live.attempt.id))
            .collect();
        let ids: Vec<AttemptId> = live.iter().map(|live| live.attempt.id).collect();
        let mut assignments: HashMap<_, _> = work
            .assignments(&ids)
            .await?
            .into_iter()
            .map(|work| (work.attempt.id, work))
            .collect();
        let mut orders = Vec::new();
        for live in &live {
            let attempt = &live.attempt;
            self.app.link.hold(attempt.id, self.agent.id);
            orders.push(AttemptOrder {
                attempt: attempt.id.to_string(),
                epoch: attempt.epoch,
                action: Action::Adopt.into(),
                sequence: attempt.sequence,
                log_offset: attempt.log_offset,
                assignment: assignments
                    .remove(&attempt.id)
                    .as_ref()
                    .map(|work| assignment(&self.app.config, work)),
                cancel: live
                    .execution
                    .lifecycle
                    .stop
                    .map(|stop| cancel_attempt(attempt.lease(), stop, &live.execution)),
                pause: pause_attempt(attempt.lease(), live.execution.lifecycle.pause),
                ready: attempt.ready,
            });
        }
        let adopted: HashSet<_> = live.iter().map(|live| key(live.attempt.lease())).collect();
        let strangers: Vec<_> = told
            .iter()
            .map(|told| (told, lease(&told.attempt, told.epoch)))
            .filter(|(_, lease)| lease.is_none_or(|lease| !adopted.contains(&key(lease))))
            .collect();
        let ids: Vec<AttemptId> = strangers
            .iter()
            .filter_map(|(_, lease)| lease.map(|lease| lease.attempt))
            .collect();
        let ended: HashMap<_, _> = work
            .attempts(&ids)
            .await?
            .into_iter()
            .map(|attempt| (key(attempt.lease()), attempt))
            .collect();
        for (told, lease) in strangers {
            // Under another epoch it is another attempt's result.
            let known = lease.and_then(|lease| ended.get(&key(lease)));
            let committed = known.is_some_and(|attempt| attempt.status == Status::Completed);
            orders.push(AttemptOrder {
                attempt: told.attempt.clone(),
                epoch: told.epoch,
                action: if committed {
                    Action::Forget
                } else {
                    Action::Kill
                }
                .into(),
                sequence: known.map_or(0, |attempt| attempt.sequence),
                log_offset: known.map_or(0, |attempt| attempt.log_offset),
                ..AttemptOrder::default()
            });
        }
        Ok(orders)
    }

    /// Tells again what should end or pause: the word may have been lost, or spoken to another
    /// replica.
    pub(super) async fn repeat_orders(&mut self) -> Result<(), Error> {
        let before = self.app.link.held(self.agent.id);
        let live = self.app.store.agent(self.agent.id).live().await?;
        let known: HashSet<_> = live.iter().map(|live| live.attempt.id).collect();
        // What was stored for an earlier stream, perhaps by another server, and came to nobody: the agent
        // hears of it when it connects again. What is stored just now is known a moment later.
        let held = self.app.link.held(self.agent.id);
        let untold = &(&known - &before) - &held;
        if !untold.is_disjoint(&self.untold) {
            tracing::warn!("the agent has work that it was not told of; it has to connect again");
            self.stop.cancel();
        }
        self.untold = untold;
        // What another replica ended takes no room any more.
        let ended: Vec<AttemptId> = before.difference(&known).copied().collect();
        for attempt in self.app.store.agent(self.agent.id).attempts(&ended).await? {
            // It is over for everybody: where it was taken from the agent, that has to hear it.
            self.app.link.close_attempt(attempt.id);
            if attempt.status == Status::Lost {
                self.refuse_lease(&attempt.id.to_string(), attempt.epoch)
                    .await;
            }
        }
        for live in live {
            let lease = live.attempt.lease();
            if let Some(stop) = live.execution.lifecycle.stop {
                let cancel = cancel_attempt(lease, stop, &live.execution);
                self.say(Message::Cancel(cancel)).await;
                continue;
            }
            if let Some(pause) = pause_attempt(lease, live.execution.lifecycle.pause) {
                self.say(Message::Pause(pause)).await;
            }
        }
        Ok(())
    }
}

const fn key(lease: Lease) -> (AttemptId, i64) {
    (lease.attempt, lease.epoch)
}
