//! Who gets which work: looks at the queue when something was queued, or an agent asks for what is
//! left there, and every second, and gives assignments to agents that have room. New executions that
//! nothing waits before are given out as they are accepted. Who is served first is decided by
//! `muster_core::schedule`, whether a grant holds by the store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use muster_core::{
    id::AgentId,
    schedule::{self, Grant, Lane, Share},
};
use muster_proto::v1::{LinkResponse, link_response::Message};
use muster_storage::queue::{Claimed, Giver, Offer, Picture};
use tokio::{
    sync::{OwnedMutexGuard, mpsc::OwnedPermit},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{Taker, session::assignment};
use crate::app::{App, Error, Turns};

/// How often to look without a word from anybody: another replica may have queued something.
const SWEEP: Duration = Duration::from_secs(1);
/// Most assignments of one claim, over all agents.
const MAX_CLAIM: usize = 256;
/// Most places that are reserved for one agent in one claim.
const MAX_SHARE: u32 = 64;
/// How long new executions wait at most for a look at what was queued before them, and for who gives
/// something out just then; after that they are queued themselves.
const PATIENCE: Duration = Duration::from_millis(100);

/// What was left waiting by a look at the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Left {
    /// Something for agents of this server that had no room, or nobody knows.
    #[default]
    ForRoom,
    /// Something for which a quota or a concurrency group has no place.
    ForPlaces,
    /// Nothing that an agent of this server could take.
    Nothing,
}

/// How a look at the queue ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Looked {
    /// What had happened to the queue before.
    turns: Turns,
    left: Left,
}

impl Looked {
    /// Whether what has happened since may help what was left.
    fn is_for(&self, now: &Turns) -> bool {
        let queued = now.queued != self.turns.queued;
        match self.left {
            Left::ForRoom => true,
            Left::ForPlaces => queued || now.freed != self.turns.freed,
            Left::Nothing => queued,
        }
    }
}

/// Gives out work until `stop`.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut turns = app.hub.watch_queue();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let swept = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // The sender lives in the hub, as long as the server.
            _ = turns.changed() => false,
            _ = sweep.tick() => true,
        };
        let now = *turns.borrow_and_update();
        if !swept && !app.link.looked.borrow().is_for(&now) {
            continue;
        }
        if let Err(error) = look(&app).await {
            tracing::warn!(%error, "no work can be given out now; it is tried again");
            app.link.looked.send_replace(Looked {
                turns: app.hub.turns(),
                left: Left::ForRoom,
            });
        }
    }
}

/// Gives out work until the queue has nothing for any agent with room, and says how each round ends.
async fn look(app: &Arc<App>) -> Result<(), Error> {
    loop {
        let turns = app.hub.turns();
        let (left, more) = round(app).await?;
        app.link.looked.send_replace(Looked { turns, left });
        if !more {
            return Ok(());
        }
    }
}

/// Gives out work once. What is left, and whether another round may give more.
async fn round(app: &Arc<App>) -> Result<(Left, bool), Error> {
    let takers = app.link.takers();
    let room = takers.iter().map(|taker| taker.room);
    let room = room.fold(0, u32::saturating_add);
    if room == 0 {
        return Ok((Left::ForRoom, false));
    }
    // Nobody waits for this: what is planned by it holds only where the claim says so.
    let picture = app.store.queue().picture(room).await?;
    let Some(offered) = Offered::take(app).await else {
        return Ok((Left::ForRoom, false));
    };
    let grants = offered.plan(&picture.shares, &picture.lanes);
    if grants.is_empty() {
        return Ok((left(app, &picture), false));
    }
    let offered = Box::new(offered);
    let until = app.lease_end();
    let claimed = match app.store.queue().claim(&grants, until).await {
        Ok(claimed) => claimed,
        Err(error) => {
            if matches!(error, muster_storage::Error::CommitUnknown { .. }) {
                offered.doubt();
            }
            return Err(error.into());
        }
    };
    let given = claimed.assignments.len();
    offered.deliver(claimed);
    Ok(match is_all(&picture, room, given) {
        true if picture.limited => (Left::ForPlaces, false),
        true => (Left::Nothing, false),
        false => (Left::ForRoom, given > 0),
    })
}

/// What is left when nothing of a picture can be given out.
fn left(app: &App, picture: &Picture) -> Left {
    if !picture.whole || app.link.accepts_any(&picture.lanes) {
        Left::ForRoom
    } else if picture.limited {
        Left::ForPlaces
    } else {
        Left::Nothing
    }
}

/// Whether all that waits was given out, but for what has no place.
fn is_all(picture: &Picture, room: u32, given: usize) -> bool {
    let waiting: usize = picture.lanes.iter().map(|lane| lane.waiting.len()).sum();
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    // Otherwise more may wait than was looked at.
    picture.whole && waiting < room.min(MAX_CLAIM) && given == waiting
}

/// Gives new executions to this server's agents, as long as nothing waits that these could take.
#[derive(Debug)]
pub(crate) struct AtOnce(pub(crate) Weak<App>);

impl AtOnce {
    /// Whether nothing waits for this server's agents, as far as it knows. What was queued a moment ago
    /// is looked at first: who did not wait for that would be queued too, and the next one behind it.
    async fn is_clear(app: &App) -> bool {
        let turns = app.hub.turns();
        let mut looked = app.link.looked.subscribe();
        let looked = looked.wait_for(|looked| looked.turns.queued >= turns.queued);
        looked
            .await
            .is_ok_and(|looked| looked.left != Left::ForRoom)
    }

    async fn take(app: &Arc<App>) -> Option<Offered> {
        if app.link.drain.is_cancelled() || !Self::is_clear(app).await {
            return None;
        }
        let offered = Offered::take(app).await?;
        // Something may have come, or a place become free, meanwhile.
        let looked = *app.link.looked.borrow();
        let clear = looked.left != Left::ForRoom && !looked.is_for(&app.hub.turns());
        clear.then_some(offered)
    }
}

impl Giver for AtOnce {
    fn offer(&self) -> BoxFuture<'_, Option<Box<dyn Offer>>> {
        async {
            let app = self.0.upgrade()?;
            let offered = tokio::time::timeout(PATIENCE, Self::take(&app)).await;
            Some(Box::new(offered.ok()??) as Box<dyn Offer>)
        }
        .boxed()
    }

    fn queued(&self) {
        if let Some(app) = self.0.upgrade() {
            app.wake_scheduler();
        }
    }
}

/// Agents of this server with room. Nobody else gives them anything meanwhile.
struct Offered {
    app: Arc<App>,
    takers: HashMap<AgentId, Taker>,
    /// Places in their outboxes for what was planned.
    places: Mutex<Places>,
    _turn: OwnedMutexGuard<()>,
}

type Places = HashMap<AgentId, Vec<OwnedPermit<LinkResponse>>>;

impl Offered {
    /// The agents as they are when nobody else gives them anything; `None` when none has room.
    async fn take(app: &Arc<App>) -> Option<Self> {
        let turn = Arc::clone(&app.link.giving).lock_owned().await;
        if app.link.drain.is_cancelled() {
            return None;
        }
        let takers = app.link.takers().into_iter();
        let takers: HashMap<AgentId, Taker> = takers.map(|taker| (taker.agent.id, taker)).collect();
        (!takers.is_empty()).then(|| Self {
            app: Arc::clone(app),
            takers,
            places: Mutex::default(),
            _turn: turn,
        })
    }

    /// Takes a place in the outbox of its agent for every grant: what is claimed can be sent at once.
    /// Grants without a place are left out.
    fn reserve(&self, grants: Vec<Grant>) -> (Vec<Grant>, Places) {
        let mut places = Places::new();
        let reserved = grants.into_iter().filter(|grant| {
            let taker = self.takers.get(&grant.agent);
            let outbox = taker.map(|taker| taker.outbox.clone());
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

    /// The places for what was planned last.
    fn take_places(&self) -> Places {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *places)
    }
}

impl Offer for Offered {
    fn plan(&self, shares: &[Share], lanes: &[Lane]) -> Vec<Grant> {
        let mut held = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Places of an earlier plan are free again.
        held.clear();
        let takers = self.takers.values().map(|taker| schedule::Taker {
            agent: taker.agent.id,
            labels: &taker.labels,
            projects: &taker.agent.projects,
            room: taker.room.min(MAX_SHARE),
        });
        let takers: Vec<schedule::Taker<'_>> = takers.collect();
        let grants = schedule::plan(&takers, shares, lanes, MAX_CLAIM);
        let (grants, places) = self.reserve(grants);
        *held = places;
        grants
    }

    fn lease_expire_time(&self) -> Timestamp {
        self.app.lease_end()
    }

    fn deliver(self: Box<Self>, claimed: Claimed) {
        let app = &self.app;
        for agent in claimed.gone {
            // It was deleted, perhaps by another replica.
            app.link.disconnect(agent);
        }
        for agent in claimed.cordoned {
            app.link.set_cordon(agent, true);
        }
        let mut places = self.take_places();
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
            let taker = self.takers.get(&agent);
            let place = places.get_mut(&agent).and_then(Vec::pop);
            if let (Some(taker), Some(place)) = (taker, place) {
                if !app.link.spend(agent, &taker.outbox, work.attempt.id) {
                    // It has connected again meanwhile, and may have been told what it holds before this.
                    app.link.disconnect(agent);
                    continue;
                }
                place.send(LinkResponse {
                    message: Some(Message::Assignment(assignment(&app.config, &work))),
                });
                // One that waited may be wished to begin paused.
                let pause = work.execution.lifecycle.pause;
                app.link.pause_attempt(work.attempt.lease(), pause);
            }
        }
    }

    fn doubt(self: Box<Self>) {
        for agent in self.take_places().into_keys() {
            // Whatever was claimed is delivered when it connects again.
            self.app.link.disconnect(agent);
        }
    }
}
