//! Who gets which work: looks at the queue when something was queued or an agent asks, and every
//! second, and gives assignments to agents that have room. Who is served first is decided by
//! `muster_core::schedule`, whether a grant holds by the store.

use std::{collections::HashMap, sync::Arc, time::Duration};

use muster_core::{
    id::AgentId,
    schedule::{self, Grant},
};
use muster_proto::v1::{LinkResponse, link_response::Message};
use tokio::{sync::mpsc::OwnedPermit, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Taker, session::assignment};
use crate::app::{App, Error};

/// How often to look without a word from anybody: another replica may have queued something.
const SWEEP: Duration = Duration::from_secs(1);
/// Most assignments of one claim, over all agents.
const MAX_CLAIM: usize = 256;
/// Most places that are reserved for one agent in one claim.
const MAX_SHARE: u32 = 64;

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

/// Gives out work until the queue has nothing for any agent with room.
async fn look(app: &App) -> Result<(), Error> {
    while !app.link.drain.is_cancelled() {
        let takers = app.link.takers();
        let room = takers
            .iter()
            .fold(0_u32, |sum, taker| sum.saturating_add(taker.room));
        if room == 0 || give(app, &takers, room).await? == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Plans and claims once. Returns how much was given out.
async fn give(app: &App, takers: &[Taker], room: u32) -> Result<usize, Error> {
    let picture = app.store.queue().picture(room).await?;
    if picture.lanes.is_empty() {
        return Ok(0);
    }
    let plan: Vec<schedule::Taker<'_>> = takers
        .iter()
        .map(|taker| schedule::Taker {
            agent: taker.agent.id,
            labels: &taker.labels,
            projects: &taker.agent.projects,
            room: taker.room.min(MAX_SHARE),
        })
        .collect();
    let grants = schedule::plan(&plan, &picture.shares, &picture.lanes, MAX_CLAIM);
    let by_id: HashMap<AgentId, &Taker> =
        takers.iter().map(|taker| (taker.agent.id, taker)).collect();
    let (grants, mut places) = reserve(&by_id, grants);
    if grants.is_empty() {
        return Ok(0);
    }
    let now = app.clock.now();
    let until = now.checked_add(app.config.lease_duration).unwrap_or(now);
    let claimed = match app.store.queue().claim(&grants, until).await {
        Ok(claimed) => claimed,
        Err(error @ muster_storage::Error::CommitUnknown { .. }) => {
            // Whatever was claimed is delivered when they connect again.
            for agent in places.keys() {
                app.link.disconnect(*agent);
            }
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    for agent in claimed.gone {
        // It was deleted, perhaps by another replica.
        app.link.disconnect(agent);
    }
    for agent in claimed.cordoned {
        app.link.set_cordon(agent, true);
    }
    let given = claimed.assignments.len();
    for work in claimed.assignments {
        let agent = work.attempt.agent;
        metrics::counter!(crate::metrics::ASSIGNMENTS).increment(1);
        tracing::debug!(
            agent = work.attempt.agent_name,
            execution = work.execution.display_name,
            attempt = %work.attempt.id,
            epoch = work.attempt.epoch,
            "assigned"
        );
        app.execution_changed(work.execution.id);
        let taker = by_id.get(&agent);
        let place = places.get_mut(&agent).and_then(Vec::pop);
        if let (Some(taker), Some(place)) = (taker, place) {
            app.link.spend(agent, &taker.outbox, work.attempt.id);
            place.send(LinkResponse {
                message: Some(Message::Assignment(assignment(&app.config, &work))),
            });
            // One that waited may be wished to begin paused.
            let pause = work.execution.lifecycle.pause;
            app.link.pause_attempt(work.attempt.lease(), pause);
        }
    }
    Ok(given)
}

type Places = HashMap<AgentId, Vec<OwnedPermit<LinkResponse>>>;

/// Takes a place in the outbox of its agent for every grant: what is claimed can be sent at once.
/// Grants without a place are left out.
fn reserve(takers: &HashMap<AgentId, &Taker>, grants: Vec<Grant>) -> (Vec<Grant>, Places) {
    let mut places = Places::new();
    let reserved = grants.into_iter().filter(|grant| {
        let outbox = takers.get(&grant.agent).map(|taker| taker.outbox.clone());
        let place = outbox.and_then(|outbox| outbox.try_reserve_owned().ok());
        match place {
            Some(place) => {
                places.entry(grant.agent).or_default().push(place);
                true
            }
            None => false,
        }
    });
    let reserved = reserved.collect();
    (reserved, places)
}
