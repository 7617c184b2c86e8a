//! Who gets which work: looks at the queue when something was queued or an agent asks, and every
//! second, and gives assignments to agents that have room. The order of the queue and which
//! targets accept an agent are the store's business.

use std::{sync::Arc, time::Duration};

use muster_proto::v1::{LinkResponse, link_response::Message};
use muster_storage::work::Claim;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Taker, session::assignment};
use crate::app::{App, Error};

/// How often to look without a word from anybody: another replica may have queued something.
const SWEEP: Duration = Duration::from_secs(1);
/// Most assignments of one claim.
const MAX_CLAIM: u32 = 64;

/// Gives out work until `stop`.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut queue = app.hub.watch_queue();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // The sender lives in the hub, as long as the server.
            _ = queue.changed() => {}
            _ = sweep.tick() => {}
        }
        if let Err(error) = look(&app).await {
            tracing::warn!(%error, "no work can be given out now; it is tried again");
        }
    }
}

/// Goes round the agents with room until the queue has nothing for any of them.
async fn look(app: &App) -> Result<(), Error> {
    loop {
        let takers = app.link.takers();
        let room = takers
            .iter()
            .fold(0_u32, |sum, taker| sum.saturating_add(taker.room));
        if room == 0 {
            return Ok(());
        }
        let waiting = app.store.queue().depth(room.min(10_000)).await?;
        if waiting == 0 {
            return Ok(());
        }
        // An equal share for each, so that the first one does not get everything.
        let share = waiting.div_ceil(takers.len() as u64);
        let share = u32::try_from(share).unwrap_or(u32::MAX).min(MAX_CLAIM);
        let mut given = 0;
        for taker in takers {
            if app.link.drain.is_cancelled() {
                return Ok(());
            }
            given += give(app, &taker, share).await?;
            if given as u64 >= waiting {
                break;
            }
        }
        if given == 0 {
            return Ok(());
        }
    }
}

/// Claims work for one agent and sends it. Returns how much.
async fn give(app: &App, taker: &Taker, share: u32) -> Result<usize, Error> {
    // A place in the outbox is taken first: what is claimed can be sent at once.
    let mut places = Vec::new();
    for _ in 0..taker.room.min(share) {
        match taker.outbox.clone().try_reserve_owned() {
            Ok(place) => places.push(place),
            Err(_full) => break,
        }
    }
    let now = app.clock.now();
    let claim = Claim {
        labels: taker.agent.target_labels(),
        projects: taker.agent.projects.clone(),
        limit: u32::try_from(places.len()).unwrap_or(0),
        lease_expire_time: now.checked_add(app.config.lease_duration).unwrap_or(now),
    };
    let claimed = match app.store.agent(taker.agent.id).claim(&claim).await {
        Ok(claimed) => claimed,
        Err(error @ muster_storage::Error::CommitUnknown { .. }) => {
            // Whatever was claimed is delivered when it connects again.
            app.link.disconnect(taker.agent.id);
            return Err(error.into());
        }
        Err(error) if error.is_not_found() => {
            // The agent was deleted, perhaps by another replica.
            app.link.disconnect(taker.agent.id);
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    };
    let given = claimed.len();
    for (work, place) in claimed.into_iter().zip(places) {
        metrics::counter!(crate::metrics::ASSIGNMENTS).increment(1);
        app.link
            .spend(taker.agent.id, &taker.outbox, work.attempt.id);
        tracing::info!(
            agent = taker.agent.name,
            execution = work.execution.display_name,
            attempt = %work.attempt.id,
            epoch = work.attempt.epoch,
            "assigned"
        );
        place.send(LinkResponse {
            message: Some(Message::Assignment(assignment(&work))),
        });
        // One that waited may be wished to begin paused.
        let pause = work.execution.lifecycle.pause;
        app.link.pause_attempt(work.attempt.lease(), pause);
        app.hub.execution_changed(work.execution.id);
    }
    Ok(given)
}
